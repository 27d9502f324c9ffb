"""The page "Positions" as its users have it: its numbers are compared with passes that the test makes."""

import re
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from attention_core.variants import ENCODINGS, load_variant, results
from tests.browser.test_heads import expect_rest

PARTS = ("ways", "shuffle", "longer", "needle")
SENTENCE = "once upon a time there was a little girl"


def address(server: str, **parts: object) -> str:
    return f"{server}/positions?" + "&".join(f"{name}={quote(str(value), safe='')}" for name, value in parts.items())


def opened(page: Page, where: str) -> Page:
    page.goto(where)
    settled(page)
    return page


def settled(page: Page) -> None:
    expect(said(page)).to_be_visible(timeout=90_000)
    expect(page.locator(".st-key-coming button")).to_have_count(0, timeout=90_000)
    expect_rest(page)


def said(page: Page) -> Locator:
    return page.locator(".st-key-said .finding")


def in_url(page: Page, name: str) -> str | None:
    return parse_qs(urlsplit(page.url).query).get(name, [None])[0]


def words_of(page: Page) -> Locator:
    return page.locator(".st-key-order_words .word")


def expect_order(page: Page, order: str) -> None:
    expect(page.locator(".st-key-order_words .words")).to_have_attribute("data-order", order)


@pytest.mark.parametrize(
    ("encoding", "tells"),
    [
        ("sinusoidal", "Waves are added"),
        ("learned", "A learned vector is added"),
        ("rope", "Queries and keys are turned"),
        ("alibi", "Distance costs"),
        ("none", "Nothing is added"),
    ],
)
def test_each_encoding_is_seen(page: Page, server: str, encoding: str, tells: str):
    opened(page, address(server, encoding=encoding))
    expect(said(page)).to_contain_text(tells)
    expect(page.locator(".st-key-formula .katex").first).to_be_visible()
    compared = page.locator(f".st-key-compared-{encoding}")
    expect(compared).to_contain_text("Every distance is the same" if encoding == "none" else "It depends on the")
    compared.get_by_text("All numbers", exact=True).click()
    expect(compared.locator("table").last).to_be_visible()
    for chart in page.locator("[data-testid=stPlotlyChart]").all():
        assert len(chart.get_attribute("aria-label") or "") > 40


def test_the_position_turns_the_dials(page: Page, server: str):
    opened(page, address(server, encoding="rope"))
    seen = page.locator(".st-key-seen-rope")
    expect(seen).to_contain_text("At position 5 pair 0 has turned 286.5°")  # 5 radians
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    expect(seen).to_contain_text("At position 6 pair 0 has turned 343.8°")
    assert in_url(page, "turned") == "6"


def test_from_part_to_part_and_back(page: Page, server: str):
    opened(page, address(server))
    page.get_by_role("radio", name="Longer texts").click()
    expect(said(page)).to_contain_text("Trained on")
    assert in_url(page, "order") == "longer"
    page.go_back()
    expect(said(page)).to_contain_text("Waves are added")


def test_an_encoder_without_positions_cannot_tell_the_order(page: Page, server: str):
    opened(page, address(server, order="shuffle", encoding="none"))
    expect(said(page)).to_contain_text("The decoder without positions can partly tell the order")
    expect(said(page)).to_contain_text("the sets differ")
    page.get_by_text("Encoder: every word sees all", exact=True).first.click()
    expect(said(page)).to_contain_text("The encoder without positions cannot tell the two orders apart")
    expect(said(page)).to_contain_text(
        re.compile(r"0\.0000000000 apart \(the largest difference is [\d.]+ × 10⁻¹[⁴⁵⁶]")
    )
    rows = page.locator(".st-key-every_encoding tbody tr")
    expect(rows).to_have_count(len(ENCODINGS))
    for row, name in zip(rows.all(), ENCODINGS.values(), strict=True):
        expect(row).to_contain_text(name)
    expect(rows.last).to_contain_text("0.0000000000, the same")
    expect(rows.first).not_to_contain_text("the same")


def test_what_is_expected_next_is_the_models_own(page: Page, server: str):
    lm = load_variant("rope")
    shares = []
    for text in (SENTENCE, "there was a little girl once upon a time"):
        ids = torch.tensor([[i for word in text.split() for i in lm.tokenizer(f" {word}")["input_ids"]]])
        with torch.no_grad():
            best = lm.model(ids).logits[0, -1].softmax(-1).topk(1)
        shares.append(f"{lm.labels(best.indices)[0]} {100 * float(best.values[0]):.1f}%")
    opened(page, address(server, order="shuffle", encoding="rope"))
    cells = page.locator(".st-key-order-likely tbody tr").first.locator("td")
    expect(cells).to_have_text(shares)


def test_words_are_moved_by_keyboard(page: Page, server: str):
    opened(page, address(server, order="shuffle", words_order="0,1,2,3,4,5,6,7,8"))
    expect(said(page)).to_contain_text("Nothing has moved yet")
    words_of(page).first.focus()
    page.keyboard.press("Enter")
    expect(words_of(page).first).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect_order(page, "1 2 0 3 4 5 6 7 8")
    expect(words_of(page).nth(2)).to_be_focused()
    page.keyboard.press("Escape")  # put back
    expect_order(page, "0 1 2 3 4 5 6 7 8")
    page.keyboard.press("Enter")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect_order(page, "1 2 3 4 5 6 7 8 0")
    expect(said(page)).to_contain_text("tells the two orders apart")
    assert in_url(page, "words_order") == "1,2,3,4,5,6,7,8,0"
    page.go_back()
    expect_order(page, "0 1 2 3 4 5 6 7 8")
    expect(said(page)).to_contain_text("Nothing has moved yet")


def test_a_word_is_dragged(page: Page, server: str):
    opened(page, address(server, order="shuffle", words_order="0,1,2,3,4,5,6,7,8"))
    start, end = (words_of(page).nth(n).bounding_box() for n in (1, 4))
    page.mouse.move(start["x"] + start["width"] / 2, start["y"] + 10)
    page.mouse.down()
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] + 12, steps=12)
    page.mouse.up()
    expect(page.locator(".st-key-order_words .words")).not_to_have_attribute("data-order", "0 1 2 3 4 5 6 7 8")
    expect(said(page)).to_contain_text("tells the two orders apart")
    order = in_url(page, "words_order").split(",")
    assert sorted(order) == [str(n) for n in range(9)] and order.index("1") > 1


def test_shuffle_and_original_order(page: Page, server: str):
    opened(page, address(server, order="shuffle"))
    expect_order(page, "4 5 6 7 8 0 1 2 3")
    page.get_by_role("button", name="Original order").click()
    expect(said(page)).to_contain_text("Nothing has moved yet")
    expect(page.get_by_role("button", name="Original order")).to_be_disabled()
    page.get_by_role("button", name="Shuffle", exact=True).click()
    expect(said(page)).to_contain_text("tells the two orders apart")
    expect(page.locator(".st-key-order_words .words")).not_to_have_attribute("data-order", "0 1 2 3 4 5 6 7 8")


def test_a_sentence_of_ones_own_and_a_row(page: Page, server: str):
    opened(page, address(server, order="shuffle"))
    box = page.get_by_label("Sentence of 2 to 24 words")
    box.fill("the dog saw the cat")
    box.press("Enter")
    expect(words_of(page)).to_have_count(5)
    expect(said(page)).to_contain_text("Nothing has moved yet")
    assert in_url(page, "words_order") is None
    page.goto(address(server, order="shuffle", sentence="the dog saw the cat", words_order="4,1,2,3,0", small_row=1))
    settled(page)
    expect(page.locator(".st-key-part-shuffle")).to_contain_text("Layer 0, head 0: “·dog” (1) looks")


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"order": "magic"}, "“magic” cannot be used for “part of the page”"),
        ({"order": "shuffle", "words_order": "0,1"}, "This order does not fit 9 words"),
        ({"order": "shuffle", "sentence": "one"}, "A sentence of 2 to 24 words"),
        ({"order": "shuffle", "small_head": 9}, "There is no head 9"),
        ({"encoding": "rope", "turned": 999}, "a whole number from 0 to 127"),
    ],
)
def test_nonsense_is_told_and_nothing_is_lost(page: Page, server: str, parts: dict, sentence: str):
    opened(page, address(server, **parts))
    expect(page.locator(".st-key-messages")).to_contain_text(sentence)
    expect(said(page)).to_be_visible()


def test_the_loss_by_position_is_what_was_measured(page: Page, server: str):
    opened(page, address(server, order="longer"))
    measured = results()
    for name, found in measured.items():
        if found.extrapolates:
            expect(said(page)).to_contain_text(ENCODINGS[name])
        else:
            expect(said(page)).to_contain_text(f"{ENCODINGS[name]} by {found.rise.mean:.2f}")
    page.get_by_text("All numbers", exact=True).click()
    last = page.locator(".st-key-loss_numbers table").nth(1).locator("tr").last
    expect(last).to_contain_text(f"{measured['rope'].loss[-1]:.3f}")


def test_the_needle_is_found_and_leads_to_its_head(page: Page, server: str):
    opened(page, address(server, order="needle"))
    expect(said(page)).to_contain_text("Small Transformer finds the needle up to 198 tokens back")
    page.get_by_text("All numbers", exact=True).click()
    expect(page.locator(".st-key-needle_numbers table").first).to_contain_text("998")
    page.get_by_role("link", name=re.compile("Layer 3, head 1: 98.4% at 198 back")).click()
    expect(page.locator(".st-key-finding p")).to_contain_text(
        re.compile("Layer 3, head 1: “·called”.* looks 98.4% at “·Anna”")
    )


def test_another_needle_and_one_that_is_none(page: Page, server: str):
    opened(page, address(server, order="needle"))
    box = page.get_by_label("Needle: its last word is asked for at the end")
    box.fill("The old man was called Tom.")
    box.press("Enter")
    expect(page.locator(".st-key-part-needle")).to_contain_text("at the end “The old man was called”", timeout=60_000)
    settled(page)
    assert in_url(page, "needle") == "The old man was called Tom."
    box.fill("Tom")
    box.press("Enter")
    expect(page.locator(".st-key-said")).to_contain_text("A needle is a sentence of at least 3 words")
    page.go_back()
    expect(said(page)).to_contain_text("the needle")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1920)])
def test_axe_finds_nothing(page: Page, server: str, part: str, scheme: str, width: int):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    opened(page, address(server, order=part, encoding="rope" if part == "ways" else "none"))
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
