"""The page "Relevance" as its users have it: its numbers are compared with passes of the model that the test makes."""

import csv
import io
import re
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.browser.test_heads import expect_rest
from tests.tiny import needs_minilm

TEXT = "The old king gave the key to the queen, and the next day the old"
PATH = "relevance"
DEFAULTS = ("Attention received", "Gradient × input", "Leave one out")


def address(server: str, **parts: object) -> str:
    parts = {"model": "small", "text": TEXT} | parts
    return f"{server}/{PATH}?" + "&".join(f"{name}={quote(str(value), safe='')}" for name, value in parts.items())


def opened(page: Page, where: str) -> Page:
    page.goto(where)
    settled(page)
    return page


def settled(page: Page) -> None:
    """Every method has answered, and nothing moves any more."""
    expect(rows(page).first).to_be_visible(timeout=90_000)
    expect(page.locator(".st-key-coming button")).to_have_count(0, timeout=90_000)
    expect_rest(page)


def rows(page: Page) -> Locator:
    return page.locator(".st-key-relevance [role=option]")


def said(page: Page) -> Locator:
    return page.locator(".st-key-said")


def in_url(page: Page, name: str) -> str | None:
    return parse_qs(urlsplit(page.url).query).get(name, [None])[0]


@pytest.fixture(scope="module")
def changes():
    """(target, contrast) → (tokens,) what the log-probability loses when the mean vector stands in a token's place:
    each text on its own, by a fresh copy of the model."""
    from attention_core import load_model

    lm = load_model("small")
    lm.model.set_attn_implementation("eager")
    ids = lm.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    embedding = lm.model.get_input_embeddings().weight.detach()

    def score(vectors: torch.Tensor, target: int, contrast: int | None) -> float:
        with torch.no_grad():
            chances = lm.model(inputs_embeds=vectors[None]).logits[0, -1].log_softmax(dim=-1)
        return float(chances[target] - (chances[contrast] if contrast is not None else 0.0))

    def lost(target: str, contrast: str | None = None) -> list[float]:
        numbers = [None if part is None else lm.tokenizer(part)["input_ids"][0] for part in (target, contrast)]
        whole = embedding[ids[0]]
        found = []
        for place in range(len(whole)):
            without = whole.clone()
            without[place] = embedding.mean(dim=0)
            found.append(score(whole, *numbers) - score(without, *numbers))
        return found

    return lost


def read_bars(page: Page, method: str) -> list[float]:
    """What the rows say of a method, token by token, from the words of each row."""
    number = re.compile(rf"{re.escape(method)}: ([+−]?[\d.]+(?:e[+−]?\d+)?)", re.DOTALL)
    found = {}
    for row in rows(page).all():
        words = row.get_attribute("aria-label")
        found[int(row.get_attribute("data-token"))] = float(number.search(words).group(1).replace("−", "-"))
    return [found[place] for place in sorted(found)]


def test_every_bar_is_what_a_pass_without_the_token_says(page: Page, server: str, changes):
    opened(page, address(server))
    expect(said(page)).to_contain_text("“·king” has 28.3% here and is the most likely next token")
    assert read_bars(page, "Leave one out") == pytest.approx(changes(" king"), abs=2e-3)
    for title in DEFAULTS:
        expect(page.locator(".st-key-in_words")).to_contain_text(f"{title}: ")
        expect(page.locator(".st-key-verdicts")).to_contain_text(f"{title} beats")
    expect(page.locator(".st-key-in_words")).to_contain_text("“·old” (token 15) speaks most for “·king”: +7.26")


def test_a_target_and_a_contrast(page: Page, server: str, changes):
    opened(page, address(server))
    choose(page, "Why this next token?", "·man")
    expect(said(page)).to_contain_text("“·man” has")
    settled(page)
    assert in_url(page, "target").startswith("#")
    assert read_bars(page, "Leave one out") == pytest.approx(changes(" man"), abs=2e-3)

    typed(page, "Rather than", "queen")
    expect(said(page)).to_contain_text("“queen” is read as “·queen”")
    settled(page)
    assert in_url(page, "contrast") == "queen"
    assert read_bars(page, "Leave one out") == pytest.approx(changes(" man", " queen"), abs=2e-3)

    page.go_back()
    expect(said(page)).not_to_contain_text("queen")
    page.go_back()
    expect(said(page)).to_contain_text("“·king” has 28.3%")


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=re.compile(rf"^{re.escape(option)}\s")).first.click()


def typed(page: Page, label: str, text: str) -> None:
    box = page.get_by_role("combobox", name=label)
    box.click()
    box.fill(text)
    box.press("Enter")


def test_from_a_bar_to_its_head(page: Page, server: str):
    opened(page, address(server, by="size"))
    assert rows(page).first.get_attribute("data-token") == "14"  # of attention received, the first method
    rows(page).filter(has_text="·king").click()
    expect(page.locator(".st-key-marked")).to_contain_text("“·king” (2).")
    assert in_url(page, "key") == "2"
    page.get_by_role("link", name=re.compile("Layer 3, head 1: “·old” looks 92.6% at it")).click()
    expect(page.locator(".st-key-finding p")).to_contain_text(
        "Layer 3, head 1: “·old” (token 15) looks 92.6% at “·king”"
    )
    page.go_back()
    settled(page)
    expect(page.locator(".st-key-marked")).to_contain_text("“·king” (2).")
    rows(page).filter(has_text="·king").click()
    expect(page.locator(".st-key-marked")).to_contain_text("Choose a row")


def test_another_place_is_asked_at(page: Page, server: str):
    opened(page, address(server, target="#5"))
    page.locator(".st-key-chips [role=option]").nth(4).click()
    expect(said(page)).to_contain_text("In the text “·key” follows")
    settled(page)
    assert rows(page).count() == 5
    assert in_url(page, "token") == "4" and in_url(page, "target") is None


def test_layers_and_heads(page: Page, server: str):
    opened(page, address(server))
    page.get_by_role("radio", name="Layers and heads").click()
    below = page.locator(".st-key-below-layers")
    expect(below).to_contain_text("Layer 3, head 1 wrote the largest part of “·king”: +3.84 of its logit, 8.66")
    expect(below).to_contain_text("of the model’s 8.6554")
    expect(below).to_contain_text("“·king” is the most likely token from layer 3 on")
    below.get_by_role("link", name=re.compile("Layer 3, head 1")).click()
    expect(page.locator(".st-key-finding p")).to_contain_text("Layer 3, head 1: “·old” (token 15)")


def test_the_test_tells_which_bars_to_believe(page: Page, server: str):
    opened(page, address(server, method="attention,occlusion,integrated_gradients,shapley", samples=5))
    verdicts = page.locator(".st-key-verdicts")
    expect(verdicts).to_contain_text("Attention received beats")
    expect(verdicts).to_contain_text("Leave one out beats all 20 random orders")
    expect(page.locator(".st-key-agreement")).to_contain_text("rank agreement")
    for chart in ("deletion", "insertion", "agreement_map"):
        assert (
            len(
                page.locator(f".st-key-{chart} [role=img], .st-key-{chart} [aria-label]").first.get_attribute(
                    "aria-label"
                )
            )
            > 40
        )
    expect(page.locator(".st-key-in_words")).to_contain_text("Integrated gradients add up as they should")
    for title in ("All areas and points", "Agreement in numbers"):
        page.get_by_text(title, exact=True).click()
    expect(page.locator(".st-key-areas_numbers table").first).to_contain_text("Leave one out")
    expect(page.locator(".st-key-agreement_numbers table")).to_contain_text("Shapley values")


def test_attention_of_one_head(page: Page, server: str):
    opened(page, address(server, attended="head", layer=3, head=1))
    lines = page.locator(".st-key-in_words")
    expect(lines).to_contain_text("Attention received (layer 3, head 1): 92.6% goes to “·king”")
    page.get_by_role("button", name="Methods").click()
    page.get_by_label("Head (0–3)").fill("0")
    page.keyboard.press("Enter")
    expect(lines).to_contain_text("Attention received (layer 3, head 0)")


def test_scores_as_csv(page: Page, server: str, changes):
    opened(page, address(server))
    page.get_by_role("button", name="Save").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Scores as CSV").click()
    lines = list(csv.reader(io.StringIO(download.value.path().read_text(encoding="utf-8-sig"))))
    column = next(n for n, name in enumerate(lines[0]) if name.startswith("Leave one out for ·king"))
    assert [float(line[column]) for line in lines[1:]] == pytest.approx(changes(" king"), abs=1e-4)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"method": "magic"}, "“magic” cannot be used for “methods”"),
        ({"target": "#999999"}, "There is no token 999999"),
        ({"target": "😀"}, "“😀” is no token of this model"),
        ({"target": "#584", "contrast": "#584"}, "same token"),
        ({"token": 99}, "There is no token 99"),
        ({"path": 5000}, "a whole number from 2 to 300"),
        ({"key": 77}, "There is no token 77"),
    ],
)
def test_nonsense_is_told_and_nothing_is_lost(page: Page, server: str, parts: dict, sentence: str):
    opened(page, address(server, **parts))
    expect(page.locator(".st-key-messages")).to_contain_text(sentence)
    expect(said(page)).to_contain_text("“·king” has 28.3%")


def test_a_bad_target_leaves_the_contrast(page: Page, server: str):
    opened(page, address(server, target="#999999", contrast=" queen"))
    expect(page.locator(".st-key-messages .notice")).to_have_count(1)
    expect(page.locator(".st-key-messages")).to_contain_text("There is no token 999999")
    expect(said(page)).to_contain_text("“·king” has 28.3% here")
    expect(said(page)).to_contain_text("“·queen” has")


@needs_minilm
def test_an_encoder(page: Page, server: str):
    opened(page, address(server, model="minilm-l6", text="The trophy is big."))
    expect(said(page)).to_contain_text("How much of the vector of")
    expect(page.locator(".st-key-in_words")).to_contain_text("Gradient × input does not apply")
    page.get_by_label("Why is it near to this text?").fill("A large cup.")
    page.keyboard.press("Enter")
    expect(said(page)).to_contain_text("This text and “A large cup.”: 0.")
    settled(page)
    expect(page.locator(".st-key-in_words")).to_contain_text("speaks most for nearness to “A large cup.”")


def test_it_is_stopped_and_goes_on(page: Page, server: str):
    page.goto(address(server, method="shapley,attention", samples=500, text=TEXT + " king and the young queen"))
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".st-key-coming")).to_contain_text("Stopped")
    page.get_by_role("button", name="Go on").click()
    settled(page)
    expect(page.locator(".st-key-in_words")).to_contain_text("Shapley values: ")


@pytest.mark.parametrize(("below", "scheme", "width"), [("test", "light", 1280), ("layers", "dark", 1920)])
def test_axe_finds_nothing(page: Page, server: str, below: str, scheme: str, width: int):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    opened(page, address(server, below=below, key=2, contrast=" the"))
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
