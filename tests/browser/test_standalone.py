"""The stand-alone page, opened from a file with the network off: its numbers are the model's own, its tokens text."""

import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from attention_core import HeadlightError, capture
from attention_core.figures import standalone
from attention_core.figures.standalone import standalone_html
from attention_core.figures.words import finding
from tests.architectures import make, some_ids, with_eager

TEXT = "The <b>old</b> king met </script><script>window.broken=1</script> &amp; the queen <!-- \u2028 ${1} `x` smiled."
CELL = re.compile(r"^“(.*?)” → “(.*?)”: (?:[\d.]+% \((\d\.\d{5})\)|cannot look there)", re.DOTALL)


@pytest.fixture(scope="module")
def run(small):
    """A capture of the small model, and its own eager weights (layers, heads, tokens, tokens)."""
    with torch.no_grad():
        weights = with_eager(small.model)(**small.encode(TEXT).inputs, output_attentions=True).attentions
    return small.capture(TEXT), torch.stack(weights)[:, 0].numpy()


@pytest.fixture(params=["light", "dark"])
def page(request, browser: Browser, tmp_path) -> Iterator[Page]:
    """A page without a network. It may ask for nothing but its own file, and no script may fail."""
    context = browser.new_context(offline=True, color_scheme=request.param, viewport={"width": 1280, "height": 1000})
    page, failures, requests = context.new_page(), [], []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda message: failures.append(message.text) if message.type == "error" else None)
    page.on("request", lambda asked: requests.append(asked.url))
    page.on("websocket", lambda socket: requests.append(socket.url))
    yield page
    assert not failures
    assert len(requests) == 1 and requests[0].startswith("file:"), requests
    context.close()


def opened(page: Page, tmp_path, text: str) -> Page:
    file = tmp_path / "heads.html"
    file.write_text(text, encoding="utf-8")
    page.goto(file.as_uri())
    expect(page.locator("#finding")).to_contain_text("looks")
    return page


def check_finding(page: Page, cap, own, layer: int, head: int, token: int) -> None:
    row = own[layer, head, token].astype(np.float32)
    tokens = cap.tokens
    words = finding(layer, head, token, tokens[token], tokens, row, np.arange(len(row)) <= token)
    expect(page.locator("#finding")).to_have_text(words)


def check_cells(page: Page, cap, weights: np.ndarray) -> None:
    """Walks down the map by keyboard: the number of each cell it stops at is the model's."""
    picture, status = page.locator("#head canvas.picture"), page.locator("#head .status")
    picture.focus()
    for _ in cap.tokens:
        page.keyboard.press("ArrowUp")
    for step in range(0, len(cap.tokens), 4):
        page.keyboard.press("Home")
        for _ in range(step // 2):
            page.keyboard.press("ArrowRight")
        query, key, weight = CELL.match(status.inner_text()).groups()
        assert (query, key) == (cap.tokens[step], cap.tokens[step // 2])
        assert float(weight) == pytest.approx(weights[step, step // 2], abs=1.1e-5)
        for _ in range(4):
            page.keyboard.press("ArrowDown")


def click_head(page: Page, layer: int, head: int) -> None:
    """Move over the overview until it names the head, then click, as a hand does."""
    box, status = page.locator("#overview canvas.picture").bounding_box(), page.locator("#overview .status")
    for row in range(1, 12):
        for column in range(1, 12):
            x, y = box["x"] + box["width"] * column / 12, box["y"] + box["height"] * row / 12
            page.mouse.move(x, y)
            if f"layer {layer}, head {head}" in status.inner_text():
                page.mouse.click(x, y)
                return
    raise AssertionError(f"no place in the overview is layer {layer}, head {head}")


def test_the_numbers_are_the_models_own(page, tmp_path, run):
    cap, own = run
    opened(page, tmp_path, standalone_html(cap, entry=1, head=2, token=6))
    check_finding(page, cap, own, 1, 2, 6)
    box = page.locator("#head canvas.picture").bounding_box()
    seen = set()
    for step in range(1, 60):  # by mouse
        page.mouse.move(box["x"] + box["width"] * step / 60, box["y"] + box["height"] * 0.72)
        words = page.locator("#head .status").inner_text()
        cell = CELL.match(words)
        if cell and cell[3]:
            seen.add(words)
            places = [
                (q, k)
                for q, query in enumerate(cap.tokens)
                for k, key in enumerate(cap.tokens)
                if (query, key) == (cell[1], cell[2])
            ]
            assert min(abs(own[1, 2, q, k] - float(cell[3])) for q, k in places) < 1.1e-5
    assert len(seen) > 5
    check_cells(page, cap, own[1, 2])  # by keyboard


def test_everything_is_linked(page, tmp_path, run):
    cap, own = run
    opened(page, tmp_path, standalone_html(cap, entry=1, head=2, token=6))
    click_head(page, 3, 1)
    check_finding(page, cap, own, 3, 1, 6)
    page.locator("#queries [role=option]").nth(9).click()
    check_finding(page, cap, own, 3, 1, 9)
    shown = page.locator("#head .bar").evaluate_all("bars => bars.map((bar) => [bar.dataset.key, bar.dataset.weight])")
    assert len(shown) == 10
    for key, weight in shown:
        assert float(weight) == pytest.approx(own[3, 1, 9, int(key)], abs=1e-5)
    label = page.locator("#queries [role=option]").nth(4).get_attribute("aria-label")
    assert float(re.search(r"\((\d\.\d+)\)", label)[1]) == pytest.approx(own[3, 1, 9, 4], abs=1.1e-5)
    page.locator("#overview canvas.picture").focus()
    for key in ("ArrowUp", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    check_finding(page, cap, own, 2, 2, 9)
    for typed, token in (("12", 12), ("9999", len(cap.tokens) - 1), ("-3", 0), ("9", 9)):
        page.get_by_label("Token", exact=True).fill(typed)
        page.keyboard.press("Enter")
        check_finding(page, cap, own, 2, 2, token)
        expect(page.get_by_label("Token", exact=True)).to_have_value(str(token))
    click_head(page, 0, 3)
    check_finding(page, cap, own, 0, 3, 9)
    click_head(page, 2, 2)
    page.get_by_label("Lines").check()
    expect(page.locator("#lines canvas.picture")).to_be_visible()
    expect(page.locator("#head")).to_be_hidden()
    expect(page.locator("#lines .heads")).to_contain_text("Layer 2, head 2")


def test_tokens_stay_text(page, tmp_path, run):
    whole = ["</script><script>window.broken=2</script>", "<!--<script>", "&lt;", "</SCRIPT", "${page}", "\u2029", '"']
    cap = replace(run[0], tokens=(whole * 20)[: len(run[0].tokens)])
    text = standalone_html(cap)
    assert text.lower().count("</script") == 2 and "<script>window" not in text and "\u2028" not in text
    opened(page, tmp_path, text)
    assert page.evaluate("window.broken") is None
    assert page.locator("#queries [role=option]").all_inner_texts() == cap.tokens
    assert page.locator("main b, footer b").count() == 0
    caption = page.locator("#caption")
    expect(caption).to_contain_text(f"small, every head. Text: “{TEXT.split(' <!--')[0]}")
    expect(page.locator("footer")).to_contain_text(f"the largest difference of a weight was {cap.check.weights:.1e}")


def test_nothing_may_come_in_or_go_out(browser, tmp_path, run):
    """The policy stops what a changed page would do: a script of somebody else, an image, a request."""
    page = browser.new_context(offline=True).new_page()
    page.add_init_script(
        "window.refused = []; addEventListener('securitypolicyviolation', (e) => refused.push(e.effectiveDirective))"
    )
    opened(page, tmp_path, standalone_html(run[0]))
    page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.broken = 1';
            document.body.append(script);
            new Image().src = 'https://example.org/x.png';
            return fetch('https://example.org/').catch(() => {});
        }"""
    )
    page.wait_for_function("refused.length >= 3")
    assert set(page.evaluate("refused")) == {"script-src-elem", "img-src", "connect-src"}
    assert page.evaluate("window.broken") is None
    page.context.close()


def test_nobody_is_left_out(page, tmp_path, run):
    opened(page, tmp_path, standalone_html(run[0], entry=3, head=1))
    found = Axe().run(page).response["violations"]
    assert not found, json.dumps(found, indent=1)[:3000]
    page.get_by_label("Lines").check()
    assert not Axe().run(page).response["violations"]
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width <= 0  # nothing to scroll sideways


def test_too_many_numbers_leave_the_chosen_head(page, tmp_path, run, monkeypatch):
    cap, own = run
    tokens = len(cap.tokens)
    monkeypatch.setattr(standalone, "MOST_NUMBERS", tokens * tokens)
    opened(page, tmp_path, standalone_html(cap, entry=2, head=3, token=5))
    expect(page.locator("footer")).to_contain_text(f"together they are {16 * tokens * tokens:,} numbers")
    check_finding(page, cap, own, 2, 3, 5)
    click_head(page, 0, 0)
    expect(page.locator("#notice")).to_have_text("Of layer 0, head 0, this file holds the small picture alone.")
    check_finding(page, cap, own, 2, 3, 5)
    page.locator("#queries [role=option]").nth(8).click()
    check_finding(page, cap, own, 2, 3, 8)
    expect(page.locator("#notice")).to_be_empty()
    monkeypatch.setattr(standalone, "MOST_NUMBERS", tokens * tokens - 1)
    with pytest.raises(HeadlightError, match="shorten the text"):
        standalone_html(cap, entry=2, head=3)


def test_an_encoder_decoder_shows_both_texts(page, tmp_path):
    model = make("T5: relative positions")
    ids, target = some_ids(7), some_ids(5, seed=1)
    with torch.no_grad():
        own = with_eager(model)(input_ids=ids, decoder_input_ids=target, output_attentions=True)
    cap = capture(model, input_ids=ids, decoder_input_ids=target)
    entry = next(i for i, layer in enumerate(cap.layers) if (layer.kind, layer.layer) == ("cross", 1))
    opened(page, tmp_path, standalone_html(cap, entry=entry, head=2, token=3))
    row = own.cross_attentions[1][0, 2, 3]
    first = int(row.argmax())
    expect(page.locator("#finding")).to_contain_text(
        f"Cross-attention layer 1, head 2: “3” (token 3) looks {row[first]:.1%} at “{first}”"
    )
    assert page.locator("#queries [role=option]").count() == 5
    assert page.locator("#keys [role=option]").count() == 7
    label = page.locator("#keys [role=option]").nth(4).get_attribute("aria-label")
    assert float(re.search(r"\((\d\.\d+)\)", label)[1]) == pytest.approx(row[4].item(), abs=1.1e-5)
    page.locator("#overview canvas.picture").focus()
    for key in ["ArrowUp"] * len(cap.layers) + ["Enter"]:
        page.keyboard.press(key)
    expect(page.locator("#finding")).to_contain_text("Encoder layer 0, head 2: “3” (token 3) looks")
    assert page.locator("#queries [role=option]").count() == 7
    expect(page.locator("#keys")).to_be_hidden()


def test_a_notebook_frames_it(browser, tmp_path, run):
    cap, own = run
    page = browser.new_context(offline=True, viewport={"width": 1280, "height": 1000}).new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    file = tmp_path / "notebook.html"
    file.write_text(f"<!doctype html><meta charset='utf-8'><body>{cap._repr_html_()}", encoding="utf-8")
    page.goto(file.as_uri())
    last = len(cap.tokens) - 1
    looks = page.frame_locator("iframe").locator("#finding")
    expect(looks).to_contain_text(f"(token {last}) looks {own[0, 0, last].max():.1%}")
    assert html.unescape(file.read_text(encoding="utf-8")).count("<!doctype html>") == 2
    assert not failures
    page.context.close()
