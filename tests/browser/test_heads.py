"""The page "Heads" as its users have it: every number on it is compared with the model's own eager attention."""

import csv
import hashlib
import io
import re
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

SENTENCE = "The old king met the queen, and the old king smiled."
FINDING = re.compile(r"Layer (\d+), head (\d+): “(.*?)” \(token (\d+)\) looks (.*)\.$", re.DOTALL)
LOOK = re.compile(r"([\d.]+)% at “(.*?)” \(token (\d+)\)", re.DOTALL)


@pytest.fixture(scope="module")
def eager():
    """(text) → the model's own attentions: a fresh copy of the model, eager, output_attentions."""
    from attention_core import load_model

    lm = load_model("small")
    lm.model.set_attn_implementation("eager")

    def attentions(text: str) -> list[torch.Tensor]:
        with torch.no_grad():
            return [
                a[0] for a in lm.model(**lm.tokenizer(text, return_tensors="pt"), output_attentions=True).attentions
            ]

    attentions.tokens = lambda text: lm.labels(torch.tensor(lm.tokenizer(text)["input_ids"]))
    return attentions


def opened(page: Page, address: str) -> Page:
    page.goto(address)
    expect(page.locator(".st-key-finding p")).to_contain_text("Layer", timeout=60_000)
    return page


def finding(page: Page) -> tuple[int, int, int, list[tuple[float, str, int]]]:
    """layer, head, token and the (percentage, token, position) of its strongest keys, as the page says them."""
    text = page.locator(".st-key-finding").inner_text().strip()
    layer, head, _, token, looks = FINDING.match(text).groups()
    assert text.count("%") == len(LOOK.findall(looks))  # no other percentages
    return int(layer), int(head), int(token), [(float(p), t, int(k)) for p, t, k in LOOK.findall(looks)]


def expect_selection(page: Page, layer: int, head: int, token: int) -> None:
    words = rf"Layer {layer}, head {head}: .*\(token {token}\) looks"
    expect(page.locator(".st-key-finding p")).to_contain_text(re.compile(words, re.DOTALL))


def expect_rest(page: Page) -> None:
    """The script has run to its end: nothing moves any more."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def check_finding(page: Page, attentions: list[torch.Tensor], tokens: list[str]) -> None:
    layer, head, token, looks = finding(page)
    row = attentions[layer][head, token]
    assert len(looks) == min(3, token + 1)
    for (shown, name, key), weight in zip(looks, row.sort(descending=True).values, strict=False):
        assert shown == pytest.approx(100 * row[key].item(), abs=0.1)
        assert shown == pytest.approx(100 * weight.item(), abs=0.1)
        assert name == tokens[key]


def canvas_of(page: Page, key: str) -> Locator:
    return page.locator(f".st-key-{key} canvas.picture")


def focus_on(page: Page, key: str) -> Locator:
    """The picture, painted and with the focus; nothing moves any more, so that no key is lost."""
    painted = page.locator(f".st-key-{key} [data-painted]")
    expect(painted).to_have_count(1)
    expect_rest(page)
    canvas = canvas_of(page, key)
    canvas.focus()
    return canvas


def click_head(page: Page, layer: int, head: int) -> None:
    """Move over the overview until it names the head, then click, as a hand does."""
    box = canvas_of(page, "overview").bounding_box()
    status = page.locator(".st-key-overview .status")
    for row in range(1, 12):
        for column in range(1, 12):
            x, y = box["x"] + box["width"] * column / 12, box["y"] + box["height"] * row / 12
            page.mouse.move(x, y)
            if f"layer {layer}, head {head}" in status.inner_text().lower():
                page.mouse.click(x, y)
                return
    raise AssertionError(f"no place in the overview is layer {layer}, head {head}")


def test_a_sentence_of_ones_own(page: Page, server: str, eager):
    attentions, tokens = eager(SENTENCE), eager.tokens(SENTENCE)
    last = len(tokens) - 1
    opened(page, server)
    first_look = finding(page)

    page.get_by_label("Text", exact=True).click()
    page.get_by_label("Text", exact=True).fill(SENTENCE)
    page.keyboard.press("Enter")
    expect(page.locator(".st-key-finding p")).to_contain_text(f"(token {last}) looks")
    start = finding(page)
    check_finding(page, attentions, tokens)

    click_head(page, 1, 1)  # by mouse
    expect_selection(page, 1, 1, last)
    check_finding(page, attentions, tokens)

    canvas_of(page, "overview").focus()  # by keyboard
    for key in ("ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect_selection(page, 2, 2, last)
    check_finding(page, attentions, tokens)

    page.locator(".st-key-chips [role=option]").nth(4).click()  # a token
    expect_selection(page, 2, 2, 4)
    check_finding(page, attentions, tokens)

    page.get_by_role("button", name="Save", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Heatmap as CSV").click()
    page.keyboard.press("Escape")
    with open(download.value.path(), encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(io.StringIO(file.read())))
    assert rows[0][1:] == tokens and [row[0] for row in rows[1:]] == tokens
    own = attentions[2][2]
    for q, row in enumerate(rows[1:]):
        assert row[q + 2 :] == [""] * (last - q)  # gaps where it may not look
        assert torch.tensor([float(cell) for cell in row[1 : q + 2]]) == pytest.approx(own[q, : q + 1], abs=1e-5)

    address = page.url  # the link opened in a fresh browser shows the same view
    asked = parse_qs(urlsplit(address).query)
    assert asked == {"model": ["small"], "text": [SENTENCE], "layer": ["2"], "head": ["2"], "token": ["4"]}
    fresh = page.context.browser.new_context().new_page()
    opened(fresh, address)
    assert finding(fresh) == finding(page)
    expect(fresh.get_by_label("Text", exact=True)).to_have_value(SENTENCE)
    fresh.context.close()

    for layer, head, token in ((2, 2, last), (1, 1, last), start[:3]):  # Back undoes each change
        page.go_back()
        expect_selection(page, layer, head, token)
    page.go_back()
    expect_selection(page, *first_look[:3])
    assert finding(page) == first_look
    page.go_forward()
    expect_selection(page, *start[:3])


def test_hover_says_the_exact_value(page: Page, server: str, eager):
    opened(page, f"{server}/?model=small&text={quote(SENTENCE)}&layer=1&head=3&token=6")
    canvas = focus_on(page, "head_view")
    status = page.locator(".st-key-head_view .status")
    page.keyboard.press("ArrowLeft")
    expect(status).to_contain_text("%")
    exact = float(re.search(r"\(([\d.]+)\)", status.inner_text()).group(1))
    box = canvas.bounding_box()
    seen = set()
    for step in range(1, 40):
        page.mouse.move(box["x"] + box["width"] * step / 40, box["y"] + box["height"] * 0.7)
        seen |= set(re.findall(r"\((0\.\d{4,})\)", status.inner_text()))
    weights = eager(SENTENCE)[1][3]
    assert min(abs(weights.flatten() - exact)) < 1e-5
    assert len(seen) > 3 and all(min(abs(weights.flatten() - float(value))) < 1e-5 for value in seen)


def test_the_heat_map_chooses_a_row(page: Page, server: str):
    opened(page, f"{server}/?model=small&text={quote(SENTENCE)}&layer=1&head=3&token=6")
    canvas = focus_on(page, "head_view")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect_selection(page, 1, 3, 5)
    expect_rest(page)
    canvas.evaluate("node => node.scrollIntoView({block: 'end'})")  # no mouse reaches a row below the window
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] * 0.4, box["y"] + box["height"]
    while not page.locator(".st-key-head_view .status").inner_text().startswith("“.”"):  # by mouse: the last row
        y -= 10
        assert y > box["y"], "no cell of the last row was found"
        page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.up()
    expect_selection(page, 1, 3, 12)


def test_numbers_section_shows_the_heads_vectors(page: Page, server: str):
    opened(page, f"{server}/?model=small&text={quote(SENTENCE)}&layer=1&head=2&token=3")
    page.get_by_text("Numbers: queries, keys, values").click()
    expect(page.locator(".js-plotly-plot")).to_have_count(3)
    from attention_core import load_model

    layer = load_model("small").capture(SENTENCE).layers[1]
    for n, tensor in enumerate((layer.query, layer.key, layer.value)):
        shown = (
            page.locator(".js-plotly-plot").nth(n).evaluate("node => node.calcdata[0][0].z.map(row => Array.from(row))")
        )
        assert torch.tensor(shown).shape == tensor[2].shape
        assert torch.allclose(torch.tensor(shown), tensor[2], atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "<script>window.pwned = 1</script> <b>bold</b> <s> <br> &amp;",
        "$x$ *a* _b_ :smile: =1+1 `c` [d](e) ~f~ # g",
        "שלום עולם 你好世界 🙂👩‍👩‍👧 مرحبا",
        "a\u200bb\u202ec\u0000d",
    ],
)
def test_tokens_are_text_never_markup(page: Page, server: str, text: str, eager):
    opened(page, f"{server}/?model=small&text={quote(text)}")
    tokens = eager.tokens(text)
    chips = page.locator(".st-key-chips [role=option]")
    expect(chips).to_have_count(len(tokens))
    for chip, token in zip(chips.all(), tokens, strict=True):
        assert token in chip.text_content()
    check_finding(page, eager(text), tokens)
    assert page.evaluate("window.pwned") is None
    expect(page.locator(".stException")).to_have_count(0)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("text=", "type a sentence"),
        ("text=%20%20", "type a sentence"),
        ("model=gpt9", "There is no model “gpt9”"),
        ("layer=99", "There is no layer 99"),
        ("head=99", "There is no head 99"),
        ("token=999", "There is no token 999"),
        ("layer=1&head=-7", "“-7” is not a head"),
        ("layer=two", "“two” is not a layer"),
        ("head=-1", "“-1” is not a head"),
        ("token=1e3", "“1e3” is not a token"),
        ("textid=0123456789abcdef&layer=1&head=2", "This link needs its text"),
    ],
)
def test_bad_links_get_a_sentence(page: Page, server: str, query: str, sentence: str):
    opened(page, f"{server}/?{query}")
    expect(page.locator(".notice").first).to_contain_text(sentence)
    expect(page.locator(".stException")).to_have_count(0)
    if "textid" in query:
        assert finding(page)[:2] == (1, 2)  # everything else of the link holds


def test_an_empty_text_keeps_the_last_good_view(page: Page, server: str):
    opened(page, f"{server}/?text={quote(SENTENCE)}&layer=1&head=1&token=5")
    before = finding(page)
    page.get_by_label("Text", exact=True).fill("   ")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("type a sentence")
    expect_rest(page)  # while it runs, what was there and what comes may both stand on the page
    assert finding(page) == before
    expect(page.locator(".st-key-chips [role=option]").first).to_contain_text("The")


def test_a_number_out_of_range_typed_on_the_page(page: Page, server: str):
    opened(page, f"{server}/?text={quote(SENTENCE)}&layer=1&head=1&token=5")
    page.locator(".st-key-layer input").fill("99")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("There is no layer 99")
    expect_selection(page, 3, 1, 5)
    expect(page.locator(".st-key-layer input")).to_have_value("3")


def test_line_breaks_stay(page: Page, server: str):
    opened(page, f"{server}/?model=small&text={quote('The king.' + chr(10) + 'The queen.')}")
    expect(page.get_by_label("Text", exact=True)).to_have_value("The king.\nThe queen.")
    expect(page.locator(".st-key-chips")).to_contain_text("⏎")


def test_stop_goes_back_to_the_last_good_view(page: Page, server: str):
    opened(page, f"{server}/?model=smollm2-135m&text={quote(SENTENCE)}&layer=2&head=3&token=5")
    before = finding(page)
    # 3,500 tokens take this model many seconds, also where it is loaded already: there is time to stop it
    page.get_by_label("Text", exact=True).fill("The old king met the queen. " * 500)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".notice")).to_contain_text("Stopped", timeout=90_000)
    expect_selection(page, 2, 3, 5)
    assert finding(page) == before
    expect(page.locator(".st-key-chips [role=option]").first).to_contain_text("The")


def test_a_text_too_long_for_a_link(page: Page, server: str, tmp_path):
    opened(page, server)
    text = "The old king met the queen. " * 200  # 5,600 characters, more encoded
    page.get_by_label("Text", exact=True).fill(text)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("textid="))
    expect(page.locator(".st-key-finding p")).to_contain_text("Layer")
    assert "text=" not in page.url
    page.get_by_role("button", name="Share").click()
    expect(page.get_by_text("too long for a link")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Text as a file").click()
    saved = tmp_path / "text.txt"
    download.value.save_as(saved)
    assert saved.read_text(encoding="utf-8") == text

    other = "A queen met an old king. " * 200  # this server has never seen it
    name = hashlib.sha256(other.encode()).hexdigest()[:16]
    opened(page, f"{server}/?textid={name}&layer=2&head=1&token=7")
    expect(page.locator(".notice")).to_contain_text("needs its text")
    page.locator("input[type=file]").set_input_files(saved)
    expect(page.locator(".notice")).to_contain_text("another text")
    (tmp_path / "other.txt").write_text(other, encoding="utf-8")
    page.locator("input[type=file]").set_input_files(tmp_path / "other.txt")
    expect(page.locator(".notice")).to_have_count(0)
    expect_selection(page, 2, 1, 7)
    expect(page.locator(".st-key-chips [role=option]").nth(1)).to_contain_text("queen")


def test_a_text_longer_than_the_context_is_cut(page: Page, server: str):
    opened(page, server)
    page.get_by_label("Text", exact=True).fill("word " * 20_000)  # 100,000 characters
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("it was cut after 4096 tokens", timeout=120_000)
    expect(page.locator(".st-key-finding p")).to_contain_text("(token 4095) looks")
    expect(page.locator(".stException")).to_have_count(0)


def test_share_gives_link_and_code(page: Page, server: str):
    opened(page, f"{server}/?model=small&text={quote(SENTENCE)}&layer=1&head=2&token=3")
    page.get_by_role("button", name="Share").click()
    code = page.locator("[data-testid=stPopoverBody] [data-testid=stCode] code")
    expect(code).to_contain_text("http")
    link = code.text_content()
    shared = parse_qs(urlsplit(link).query)
    assert shared == {"model": ["small"], "text": [SENTENCE], "layer": ["1"], "head": ["2"], "token": ["3"]}
    assert urlsplit(link).hostname not in ("localhost", "127.0.0.1") and urlsplit(link).port == urlsplit(server).port
    expect(page.locator("img.qr")).to_be_visible()


def violations(page: Page) -> list[tuple[str, str]]:
    """What axe finds, but for the role that Streamlit gives its own field for files."""
    expect_rest(page)
    found = [(rule["id"], node["html"]) for rule in Axe().run(page).response["violations"] for node in rule["nodes"]]
    return [one for one in found if one[0] != "presentation-role-conflict" or "stFileUploaderDropzone" not in one[1]]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(page: Page, server: str, theme: str):
    page.emulate_media(color_scheme=theme)
    opened(page, server)
    page.get_by_text("Numbers: queries, keys, values").click()
    expect(page.locator(".js-plotly-plot")).to_have_count(3)
    for part in (None, "Display", "Save", "More models"):
        if part:
            page.get_by_role("button", name=part, exact=True).click()
            expect(page.locator("[data-testid=stPopoverBody]")).to_be_visible()
        if part == "More models":
            expect(page.get_by_test_id("stFileUploaderDropzone")).to_be_visible()
        assert violations(page) == [], part
        page.keyboard.press("Escape")
        expect(page.locator("[data-testid=stPopoverBody]")).to_have_count(0)
    for view in ("lines", "distance"):
        opened(page, f"{server}/?view={view}&heads=2.0&against=head&vs_layer=2&sort=induction")
        assert violations(page) == [], view


@pytest.mark.parametrize("width", [1280, 1920])
def test_nothing_scrolls_sideways(page: Page, server: str, width: int):
    page.set_viewport_size({"width": width, "height": 900})
    opened(page, f"{server}/?model=small&text={quote(SENTENCE)}")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("part", ["Display", "Save"])
def test_sections_open_without_a_scroll_bar(page: Page, server: str, part: str):
    text = quote(SENTENCE + " Then the king gave the queen a small key by the river and left.")  # two lines of tokens
    opened(page, f"{server}/?model=small&text={text}&sort=induction&heads=2.0&against=head")
    page.get_by_role("button", name=part, exact=True).click()
    body = page.locator("[data-testid=stPopoverBody]")
    expect(body.get_by_text("Side by side with" if part == "Display" else "The whole run")).to_be_visible()
    assert body.evaluate("node => node.scrollHeight <= node.clientHeight + 1")
