"""The page "Road" as its users have it: its sounds and weights are compared with what the stations say to the test."""

import re
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from attention_core.figures.road_cells import can_look, shown
from attention_core.seq2seq.saying import Saying, say
from attention_core.seq2seq.sounds import ipa
from attention_core.seq2seq.stations import STATIONS, load_station, results
from tests.browser.test_heads import expect_rest

WORD = "snorvelic"  # in no dictionary


def address(server: str, **parts: object) -> str:
    return f"{server}/road?" + "&".join(f"{name}={quote(str(value), safe='')}" for name, value in parts.items())


def opened(page: Page, where: str) -> Page:
    page.goto(where)
    expect(picture(page)).to_be_visible(timeout=90_000)
    expect_rest(page)
    return page


def picture(page: Page) -> Locator:
    return page.locator(".st-key-road_cards [data-painted]")


def card(page: Page, station: str) -> Locator:
    return page.locator(f".st-key-road_cards .card[data-station='{station}']")


def canvas(page: Page, station: str) -> Locator:
    return card(page, station).locator("canvas.picture")


def status(page: Page) -> Locator:
    return page.locator(".st-key-road_cards .status")


def cell_said(page: Page) -> Locator:
    return page.locator(".st-key-cell_said")


def in_url(page: Page, name: str) -> str | None:
    return parse_qs(urlsplit(page.url).query).get(name, [None])[0]


def middle(page: Page, sound: int, letter: int) -> dict[str, float]:
    """Where a cell lies on its canvas."""
    left, top, pitch, row = (
        float(picture(page).get_attribute(f"data-{name}")) for name in ("left", "top", "pitch", "row")
    )
    return {"x": left + (letter + 0.5) * pitch, "y": top + (sound + 0.5) * row}


@pytest.fixture(scope="module")
def said() -> dict[str, Saying]:
    return {name: say(load_station(name), WORD, name) for name in STATIONS}


def test_a_word_that_no_dictionary_has(page: Page, server: str, said: dict[str, Saying]):
    opened(page, address(server))
    expect(page.get_by_label("Word", exact=True)).to_have_value("forthcoming")
    page.get_by_label("Word", exact=True).fill(WORD)
    page.keyboard.press("Enter")
    expect(picture(page)).to_have_attribute("data-word", WORD, timeout=2000)  # what was promised of this page
    for name, one in said.items():
        expect(card(page, name).locator(".ipa")).to_have_text(ipa(one.said))
        expect(card(page, name).locator(".arpabet")).to_have_text(" ".join(one.said))
    expect_rest(page)
    assert in_url(page, "word") == WORD

    page.get_by_text("Every alignment in words and numbers").click()
    written = page.locator(".st-key-weights table")
    expect(written).to_have_count(len(STATIONS) - 1)
    with_weights = [one for one in said.values() if one.alignments]
    for table, one in zip(written.all(), with_weights, strict=True):
        found = shown(one)
        rows = [row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()]
        assert [row[0].split()[0] for row in rows] == one.sounds
        numbers = np.array([[np.nan if text == "—" else float(text) for text in row[1:-1]] for row in rows])
        np.testing.assert_allclose(numbers, np.where(can_look(found), found.weights, np.nan), atol=6e-5)
        np.testing.assert_allclose([float(row[-1]) for row in rows], one.chances, atol=6e-5)


def test_every_cell_is_exact_under_the_pointer(page: Page, server: str, said: dict[str, Saying]):
    opened(page, address(server, word=WORD))
    for name in ("additive", "local-p", "transformer"):
        found = shown(said[name])
        for sound, letter in ((0, 0), (2, 3), (len(said[name].sounds) - 1, len(WORD))):
            canvas(page, name).hover(position=middle(page, sound, letter))
            weight = found.weights[sound, letter]
            looks = f"({weight:.5f})" if can_look(found)[sound, letter] else "cannot look"
            expect(page.locator(".st-key-road_cards .tip")).to_be_visible()
            expect(page.locator(".st-key-road_cards .tip")).to_contain_text(looks)
            expect(status(page)).to_contain_text(looks)
    page.mouse.move(5, 5)
    expect(page.locator(".st-key-road_cards .tip")).to_be_hidden()
    expect(status(page)).to_contain_text("Chosen: Additive attention")


def test_a_cell_is_chosen_and_back_undoes_it(page: Page, server: str, said: dict[str, Saying]):
    opened(page, address(server, word=WORD))
    expect(cell_said(page)).to_contain_text("Additive attention: ")
    canvas(page, "general").click(position=middle(page, 1, 2))
    expect(cell_said(page)).to_contain_text("Global attention, general: ")
    weight = shown(said["general"]).weights[1, 2]
    expect(cell_said(page)).to_contain_text(f"looks {100 * weight:.1f}% at “o” (letter 2)")
    assert (in_url(page, "station"), in_url(page, "sound"), in_url(page, "letter")) == ("general", "1", "2")
    expect(page.locator(".st-key-formulas .katex-display")).to_have_count(4)
    page.get_by_text("The equations in words").click()
    expect(page.locator(".st-key-cell_words")).to_contain_text("all 128 products are added up")
    page.go_back()
    expect(cell_said(page)).to_contain_text("Additive attention: ")
    page.get_by_label("Word", exact=True).fill("phoneme")
    page.keyboard.press("Enter")
    expect(picture(page)).to_have_attribute("data-word", "phoneme")


def test_the_keyboard_reaches_everything(page: Page, server: str, said: dict[str, Saying]):
    opened(page, address(server, word=WORD, station="dot", sound=0, letter=0))
    canvas(page, "additive").focus()
    page.keyboard.press("Tab")
    expect(canvas(page, "dot")).to_be_focused()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    weight = shown(said["dot"]).weights[1, 1]
    expect(status(page)).to_contain_text(f"({weight:.5f}) at “n”, letter 1")
    page.keyboard.press("Enter")
    expect(cell_said(page)).to_contain_text("at “n” (letter 1)")
    page.keyboard.press("End")
    expect(status(page)).to_contain_text("at the end")
    page.keyboard.press("Escape")
    expect(status(page)).to_contain_text("Chosen: ")
    for _ in range(4):
        page.keyboard.press("Tab")
    expect(canvas(page, "local-p")).to_be_focused()
    page.keyboard.press("Tab")
    expect(card(page, "transformer").get_by_role("combobox")).to_be_focused()


def test_a_head_of_the_transformer(page: Page, server: str, said: dict[str, Saying]):
    opened(page, address(server, word=WORD))
    heads = card(page, "transformer").get_by_role("combobox")
    assert heads.locator("option").count() == 12
    heads.select_option("0.2")
    expect(cell_said(page)).to_contain_text("The Transformer, layer 0, head 2: ")
    assert (in_url(page, "cross"), in_url(page, "station")) == ("0.2", "transformer")
    expect_rest(page)
    canvas(page, "transformer").hover(position=middle(page, 1, 1))
    expect(status(page)).to_contain_text(f"({shown(said['transformer'], '0.2').weights[1, 1]:.5f})")
    page.go_back()
    expect(cell_said(page)).to_contain_text("Additive attention: ")
    expect(heads).not_to_have_value("0.2")


def test_the_fixed_vector_has_nothing_to_show(page: Page, server: str):
    opened(page, address(server, word=WORD))
    place = card(page, "bottleneck").get_by_role("button")
    expect(place).to_have_text("Nothing to see: everything went through one vector of 128 numbers.")
    expect(canvas(page, "bottleneck")).to_be_hidden()
    place.click()
    expect(cell_said(page)).to_contain_text("One fixed vector: 10 letters became one vector of 128 numbers")
    assert in_url(page, "station") == "bottleneck" and in_url(page, "sound") is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("", "There is no word: type one"),
        ("a1", "“1” is none of the letters"),
        ("two words", "One word at a time"),
        ("w" * 35, "This word has 35 letters"),
    ],
)
def test_what_is_no_word_is_told_and_the_last_one_stays(page: Page, server: str, given: str, sentence: str):
    opened(page, address(server, word="phoneme"))
    page.get_by_label("Word", exact=True).fill(given)
    page.keyboard.press("Enter")
    expect(page.locator(".st-key-messages")).to_contain_text(sentence)
    expect(picture(page)).to_have_attribute("data-word", "phoneme")
    page.get_by_label("Word", exact=True).fill("knowledge")
    page.keyboard.press("Enter")
    expect(picture(page)).to_have_attribute("data-word", "knowledge")
    expect(page.locator(".st-key-messages .notice")).to_have_count(0)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"station": "magic"}, "“magic” cannot be used for “station”"),
        ({"sound": 99}, "There is no sound 99 here"),
        ({"letter": 99}, "There is no letter 99 here"),
        ({"cross": "7.7"}, "cannot be used for “head of the Transformer”"),
        ({"road": "x"}, "cannot be used for “lower part”"),
        ({"word": "7"}, "“7” is none of the letters"),
    ],
)
def test_nonsense_in_a_link_is_told(page: Page, server: str, parts: dict, sentence: str):
    opened(page, address(server, **parts))
    expect(page.locator(".st-key-messages")).to_contain_text(sentence)
    expect(picture(page)).to_have_attribute("data-word", "forthcoming")


def test_examples(page: Page, server: str):
    opened(page, address(server, sound=1, letter=1))
    page.get_by_role("button", name="Examples").click()
    page.get_by_role("button", name=re.compile("^responsibilities")).click()
    expect(picture(page)).to_have_attribute("data-word", "responsibilities")
    assert in_url(page, "sound") is None
    page.go_back()
    expect(picture(page)).to_have_attribute("data-word", "forthcoming")


def test_where_it_breaks(page: Page, server: str):
    opened(page, address(server, station="transformer"))
    part, found = page.locator(".st-key-road-length"), results()["stations"]
    fixed, one = (100 * found[name]["long"]["wrong"]["share"] for name in ("bottleneck", "transformer"))
    expect(part).to_contain_text(f"The Transformer says {one:.1f}% wrong, the fixed vector {fixed:.1f}%")
    alt = part.locator(".st-key-lengths [aria-label]").first
    expect(alt).to_have_attribute("aria-label", re.compile("One fixed vector from .* The Transformer from"))
    part.get_by_text("All numbers, with intervals").click()
    expect(part.locator("table")).to_have_count(2)
    expect(part.locator("table").first).to_contain_text(f"{100 * found['dot']['by_length'][3]['wrong']['low']:.1f}%")


def test_steps_in_a_row(page: Page, server: str, said: dict[str, Saying]):
    opened(page, address(server, word=WORD))
    page.get_by_role("radio", name="Steps in a row").click()
    part, old = page.locator(".st-key-road-steps"), said["additive"].steps
    expect(part).to_contain_text(f"two steps in a row, additive attention {old.reading + old.learning}")
    part.get_by_text("The steps in numbers").click()
    expect(part.locator("table tbody tr").last).to_contain_text("The Transformer")
    assert in_url(page, "road") == "steps"


def test_the_papers_are_filled_with_the_chosen_cell(page: Page, server: str):
    opened(page, address(server, word=WORD, road="papers", station="dot", sound=1, letter=0))
    part = page.locator(".st-key-road-papers")
    expect(part).to_contain_text("sound number 1 and “s” (letter 0) of “snorvelic”")
    expect(part.locator(".when")).to_have_text(["2014", "2014", "2015", "2017"])
    for station in STATIONS.values():
        expect(part).to_contain_text(station.said)
        expect(part).to_contain_text(station.paper)
    expect(part.locator(".st-key-score-dot .katex-display")).to_have_count(2)
    part.get_by_text("These equations in words").click()
    expect(part.locator(".st-key-papers_words")).to_contain_text("Additive attention: s is the decoder’s vector")


def test_other_pages_keep_what_they_had(page: Page, server: str):
    opened(page, address(server, word=WORD, text="A text of mine", model="small"))
    page.get_by_role("link", name="Heads").click()
    expect(page.get_by_label("Text", exact=True)).to_have_value("A text of mine")
    page.get_by_role("link", name="Road").click()
    expect(picture(page)).to_have_attribute("data-word", WORD)
    assert in_url(page, "text") == "A text of mine"


def test_the_proof(page: Page, server: str):
    opened(page, address(server, word=WORD))
    page.get_by_role("button", name="Proof").click()
    proof = page.locator("[data-testid=stPopoverBody]")
    expect(proof).to_contain_text(re.compile(r"the largest difference is 0\.0000\d+, of scores up to \d+\.\d\."))


@pytest.mark.parametrize("width", [1280, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Page, server: str, scheme: str, width: int):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    part = {"light": "papers", "dark": "steps"}[scheme] if width == 1920 else "length"
    opened(page, address(server, word="responsibilities", station="local-p", road=part))
    page.get_by_text("Every alignment in words and numbers").click()
    expect(page.locator(".st-key-weights table").last).to_be_visible()
    expect_rest(page)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_longest_word_fits(page: Page, server: str):
    opened(page, address(server, word="supercalifragilisticexpialidocious"))
    page.get_by_text("Every alignment in words and numbers").click()
    expect(page.locator(".st-key-weights table")).to_have_count(2 * (len(STATIONS) - 1))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for name in STATIONS:
        box = card(page, name).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 1280
        if name != "bottleneck":
            inner = canvas(page, name).bounding_box()
            assert inner["x"] + inner["width"] <= box["x"] + box["width"]
