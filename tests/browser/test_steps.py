"""The page "Step by step" as its users have it: its numbers beside NumPy's, computed from the model's own weights."""

import re

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect

from tests.tiny import needs_minilm

TEXT = "The old king gave the key to the queen, and the next day the old"  # the first example
LAYER, HEAD, TOKEN, KEY = 3, 1, 15, 2
TITLES = ["Vectors", "Position", "Compare", "Scale", "Mask", "Softmax", "Blend", "Add", "Proof", "Around"]


@pytest.fixture(scope="module")
def row():
    """What NumPy makes of the small model's own weights in float64, for the first example's head and token."""
    from attention_core import load_model

    lm = load_model("small")
    lm.model.set_attn_implementation("eager")
    layer, seen = lm.model.model.layers[LAYER], {}
    layer.self_attn.q_proj.register_forward_hook(lambda module, given, made: seen.update(x=given[0][0], q=made[0]))
    layer.self_attn.k_proj.register_forward_hook(lambda module, given, made: seen.update(k=made[0]))
    layer.self_attn.v_proj.register_forward_hook(lambda module, given, made: seen.update(v=made[0]))
    with torch.no_grad():
        output = lm.model(**lm.tokenizer(TEXT, return_tensors="pt"), output_attentions=True)
    size = layer.self_attn.head_dim
    part = slice(HEAD * size, (HEAD + 1) * size)
    q, k, v = (seen[name][:, part].double().numpy() for name in "qkv")
    half = size // 2
    angle = np.arange(len(q))[:, None] * lm.model.config.rope_theta ** (-np.arange(half) / half)  # (tokens, pairs)

    def turned(x):
        first, second = x[:, :half], x[:, half:]
        cos, sin = np.cos(angle), np.sin(angle)
        return np.concatenate([first * cos - second * sin, first * sin + second * cos], axis=1)

    dots = turned(k) @ turned(q)[TOKEN]
    weights = output.attentions[LAYER][0, HEAD, TOKEN].double().numpy()
    return {
        "x": seen["x"][TOKEN].numpy(),
        "q": turned(q)[TOKEN],
        "k": turned(k),
        "dots": dots,
        "weights": weights,
        "output": weights @ v,
        "next": lm.labels(output.logits[0, -1].topk(1).indices)[0],
    }


def opened(page: Page, address: str, step: int = 0) -> Page:
    page.goto(address)
    expect(page.locator(".st-key-said p")).to_contain_text(re.compile(rf"^{step} "), timeout=60_000)
    expect(page.get_by_role("button", name=f"{step} {TITLES[step]}")).to_have_attribute("aria-current", "step")
    return page


def told(page: Page) -> str:
    return page.locator(".st-key-said p").inner_text()


def status(page: Page) -> str:
    return page.locator(".st-key-picture .status").inner_text()


def expect_step(page: Page, step: int) -> None:
    expect(page.locator(".st-key-said p")).to_contain_text(re.compile(rf"^{step} {TITLES[step]}\."))


def tab_into_keys(page: Page) -> None:
    """By the Tab key alone, to a key's row of the picture."""
    inside = """() => {
        let focused = document.activeElement;
        const there = focused?.closest(".st-key-picture") ? "in the picture" : "elsewhere";
        while (focused?.shadowRoot) focused = focused.shadowRoot.activeElement;
        return `${focused?.getAttribute("role")} ${there}`;
    }"""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(inside) == "option in the picture":
            return
    raise AssertionError("no key can be reached by Tab")


def number_after(words: str, text: str) -> float:
    """The number that follows these words."""
    return float(re.search(rf"{re.escape(words)}\s*([−-]?[\d.]*\d)", text)[1].replace("−", "-"))


def near(value: float) -> object:
    return pytest.approx(value, abs=2e-3)  # of three decimals, and of float32


def test_all_steps_by_keyboard_alone(page: Page, server: str, row):
    opened(page, f"{server}/steps")
    for step in range(2):
        expect_step(page, step)
        page.keyboard.press("ArrowRight")
    expect_step(page, 2)
    assert int(row["dots"].argmax()) == KEY
    assert number_after("“·king” (2) fits best, with", told(page)) == near(row["dots"][KEY])

    tab_into_keys(page)
    page.keyboard.press("ArrowDown")  # from the chosen key to the next
    for component in (0, 1):
        page.keyboard.press("ArrowRight")
        expect(page.locator(".st-key-picture .status")).to_contain_text(f"products[{component}]")
        expected = row["q"][component] * row["k"][KEY + 1][component]
        assert number_after(f"products[{component}] =", status(page)) == pytest.approx(expected, abs=2e-4)
    expect_step(page, 2)  # the arrow keys of the picture are not the page's
    page.keyboard.press("Enter")
    expect(page.get_by_label("Key (0–15)")).to_have_value(str(KEY + 1))
    expect(page.locator(".st-key-picture")).to_contain_text("k of “·gave” (3)")
    assert number_after("sum", page.locator(".st-key-picture .steps").inner_text()) == near(row["dots"][KEY + 1])
    filled = page.locator(".st-key-formula .katex").first
    expect(filled).to_contain_text(f"{row['dots'][KEY + 1]:.2f}")

    page.locator(".st-key-said p").click()  # back to the page itself: its arrow keys move on
    for step in (3, 4, 5):
        page.keyboard.press("ArrowRight")
        expect_step(page, step)
    percent = f"{100 * row['weights'][KEY]:.1f}%"
    assert f"“·king” ({KEY}) gets {percent}, the largest share" in told(page)
    expect(page.locator(".st-key-picture")).to_contain_text(f"{100 * row['weights'][KEY + 1]:.1f}")

    page.keyboard.press("ArrowRight")
    expect_step(page, 6)
    assert number_after("length", page.locator(".st-key-picture .strips").inner_text()) == near(
        np.linalg.norm(row["output"])
    )
    for step in (7, 8):
        page.keyboard.press("ArrowRight")
        expect_step(page, step)
    lines = page.locator(".st-key-tables tbody tr")
    expect(lines).to_have_count(7)
    weights = lines.filter(has_text="weights").locator("td").all_inner_texts()
    assert weights[-1] == "✓" and float(weights[1]) == pytest.approx(row["weights"][0], abs=1e-6)
    output = lines.filter(has_text="head’s output").locator("td").all_inner_texts()
    assert float(output[1].replace("−", "-")) == pytest.approx(row["output"][0], abs=1e-4)
    page.keyboard.press("ArrowRight")
    expect_step(page, 9)
    expect(page.locator(".st-key-tables tbody tr").last).to_contain_text(row["next"])
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    page.keyboard.press("ArrowLeft")
    expect_step(page, 8)


def test_fast_arrow_keys_are_all_counted(page: Page, server: str):
    opened(page, f"{server}/steps")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(120)  # as a hurried hand
    expect_step(page, 6)
    page.wait_for_timeout(500)
    expect_step(page, 6)
    assert "key=" not in page.url and "moved=" not in page.url  # what nobody chose is in no link


def test_link_reload_back_and_the_way_from_heads(page: Page, server: str):
    page.goto(server)
    expect(page.locator(".st-key-finding p")).to_contain_text("Layer", timeout=60_000)
    page.locator(".st-key-chips [role=option]").nth(14).click()
    expect(page.locator(".st-key-finding p")).to_contain_text("(token 14)")
    page.get_by_role("link", name="Step by step").click()
    expect_step(page, 0)
    expect(page.get_by_label("Token (0–15)")).to_have_value("14")
    page.get_by_role("slider", name="Step").focus()
    page.keyboard.press("ArrowRight")
    expect_step(page, 1)
    page.get_by_role("button", name="2 Compare").click()
    expect_step(page, 2)
    before = told(page)
    page.reload()
    expect_step(page, 2)
    assert told(page) == before
    page.go_back()
    expect_step(page, 1)
    page.go_forward()
    expect_step(page, 2)
    page.get_by_role("link", name="Heads").click()
    expect(page.locator(".st-key-finding p")).to_contain_text("(token 14)")


def test_predict_first(page: Page, server: str, row):
    opened(page, f"{server}/steps?step=2&predict=1", 2)
    shown = page.locator(".block-container")
    answer = f"{int(row['dots'][KEY])}."
    expect(page.locator(".st-key-guess")).to_contain_text("fits the query of “·old” (15) best?")
    expect(page.locator(".st-key-picture")).to_contain_text("?")
    assert answer not in shown.inner_text() and "fits best" not in told(page)
    expect(page.locator(".katex")).to_have_count(0)
    page.get_by_role("button", name="Commit the guess").click()
    expect(page.locator(".st-key-guess")).to_contain_text("Choose one first.")
    page.get_by_label("Your guess").click()
    page.get_by_role("option", name="“·gave” (3)").click()
    page.get_by_role("button", name="Commit the guess").click()
    guessed = page.locator(".st-key-guess .verdict")
    expect(guessed).to_contain_text("it is “·king” (2)")
    assert number_after("“·gave” (3), with", guessed.inner_text()) == near(row["dots"][3])
    assert number_after("“·king” (2), with", guessed.inner_text()) == near(row["dots"][KEY])
    expect(page.locator(".st-key-said p")).to_contain_text(f"fits best, with {answer}")
    expect(page.locator(".st-key-formula .katex").first).to_be_visible()

    page.get_by_role("button", name="5 Softmax").click()  # the step before waits for a guess, too
    expect(page.locator(".st-key-messages")).to_contain_text("Step 3 waits for a guess")
    expect_step(page, 3)
    page.get_by_label("Your guess").fill("9")
    page.get_by_role("button", name="Commit the guess").click()
    expect(guessed).to_contain_text("You said 9; it is")
    assert number_after("it is", guessed.inner_text()) == near(row["dots"][TOKEN] / len(row["q"]) ** 0.5)

    page.get_by_role("button", name="5 Softmax").click()
    expect(page.locator(".st-key-guess")).to_contain_text("What share of the row does “·old” (15) get, in percent?")
    share = 100 * row["weights"][TOKEN]
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("[data-testid=stPopoverBody]")).to_contain_text("when every guess is made")
    page.keyboard.press("Escape")
    page.get_by_label("Your guess, in %").fill("5")
    page.get_by_role("button", name="Commit the guess").click()
    expect(guessed).to_contain_text("You said 5%")
    assert number_after("it is", guessed.inner_text()) == near(share)
    assert number_after("%:", guessed.inner_text()) == near(abs(5 - share))
    page.get_by_role("button", name="2 Compare").click()  # a guess that was made stays made
    expect(page.locator(".st-key-guess")).to_contain_text("You said “·gave”")


def test_what_scaling_and_place_are_for(page: Page, server: str, row):
    size = len(row["q"])
    undone = round(size**-0.5, 4)
    opened(page, f"{server}/steps?step=5&temperature={undone}", 5)
    raw = np.exp(row["dots"] - row["dots"].max())
    expect(page.locator(".st-key-said p")).to_contain_text(f"{100 * raw[KEY] / raw.sum():.1f}%")
    opened(page, f"{server}/steps?step=1&moved=40", 1)
    half = size // 2
    from_key = row["k"][KEY]
    angle = (40 - TOKEN) * 10_000.0 ** (-np.arange(half) / half)
    first, second = row["q"][:half], row["q"][half:]
    moved = np.concatenate(
        [first * np.cos(angle) - second * np.sin(angle), first * np.sin(angle) + second * np.cos(angle)]
    )
    expected = moved @ from_key / size**0.5
    said = page.locator(".st-key-moving .sentence")
    expect(said).to_contain_text("at place 40")
    assert number_after("the score for “·king” (2) is", said.inner_text()) == near(row["dots"][KEY] / size**0.5)
    assert number_after("it would be", said.inner_text()) == near(expected)
    king = page.locator(".st-key-picture").get_by_role("option").nth(KEY)
    own, elsewhere = (float(value) for value in king.locator(".value").all_inner_texts())
    assert (own, elsewhere) == (near(row["dots"][KEY] / size**0.5), near(expected))


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("step=99", "There is no step 99 here"),
        ("key=77", "There is no key 77 here"),
        ("step=x", "“x” cannot be used for “step”"),
        ("temperature=0", "“0” cannot be used for “temperature”"),
    ],
)
def test_bad_links_get_a_sentence(page: Page, server: str, query: str, sentence: str):
    page.goto(f"{server}/steps?{query}")
    expect(page.locator(".st-key-messages")).to_contain_text(sentence, timeout=60_000)
    expect(page.locator(".st-key-said p")).to_contain_text(".")
    expect(page.locator(".stException")).to_have_count(0)


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1920)])
def test_axe_and_width(browser, server: str, theme: str, width: int):
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(color_scheme=theme, viewport={"width": width, "height": 900})
    page = opened(context.new_page(), f"{server}/steps")
    for step in range(len(TITLES)):
        expect_step(page, step)
        if step == 2:
            page.get_by_text("All numbers of q, k and q × k").click()
            expect(page.locator(".st-key-tables tbody tr")).to_have_count(33)
        if step == 5:
            page.get_by_text("The formula in words").click()
            page.get_by_role("button", name="Save", exact=True).click()
            expect(page.get_by_role("button", name="Sheet as HTML")).to_be_visible()
        results = Axe().run(page)
        assert results.violations_count == 0, (step, results.generate_report())
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), step
        page.keyboard.press("Escape")
        if step + 1 < len(TITLES):
            page.get_by_role("button", name="Next").click()
    opened(page, f"{server}/steps?step=2&predict=1", 2)
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    context.close()


def test_the_sheet_holds_every_step(page: Page, server: str):
    opened(page, f"{server}/steps?key=3")
    page.get_by_role("button", name="Save", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Sheet as HTML").click()
    sheet = page.context.new_page()
    sheet.set_content(download.value.path().read_text(encoding="utf-8"))
    assert [title for title in sheet.locator("h2").all_inner_texts() if "LaTeX" not in title] == [
        f"{n} {title}" for n, title in enumerate(TITLES)
    ]
    expect(sheet.locator("body")).to_contain_text("k of “·gave” (3)")
    with page.expect_download() as download:
        page.get_by_role("button", name="Formulas as LaTeX").click()
    assert r"\frac{e^{" in download.value.path().read_text(encoding="utf-8")


@needs_minilm
def test_an_encoder_has_no_next_token(page: Page, server: str):
    opened(page, f"{server}/steps?model=minilm-l6&step=9", 9)
    expect(page.locator(".st-key-said p")).to_contain_text("the sums pass a norm")
    expect(page.locator(".st-key-tables table")).to_have_count(0)
    page.get_by_role("button", name="1 Position").click()
    expect(page.locator(".st-key-said p")).to_contain_text("a vector for the place 10 was added to “it” (10)")
    page.get_by_role("button", name="4 Mask").click()
    expect(page.locator(".st-key-said p")).to_contain_text("An encoder reads a text both ways.")
