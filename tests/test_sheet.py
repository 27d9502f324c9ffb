"""The printable sheet: everything that the steps hold is in it, pictures show their numbers, tokens stay text."""

import base64
import hashlib
import html
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from attention_core import capture, load_model
from attention_core.figures import drawn, sheet
from attention_core.figures.blocks import Bars, Column, Dials, Groups, Keys, Strip, Strips, written
from attention_core.figures.formulas import Formula
from attention_core.figures.sheet import latex_of, sheet_html
from attention_core.figures.steps import Step, Table, all_steps, covered
from attention_core.filling import fill_worksheet
from attention_core.lens import Lens
from tests.architectures import make, some_ids

COMMON = Path(__file__).parents[1] / "assets" / "components" / "common.js"
NASTY = ["<b>bold</b>", "$x$", "&amp;", "שלום", "😀", "x" * 300, "</style>", "%", "#1ħ", "a_b^c", "~", "中文", '"', "`"]
NAMES = ["small", "Gemma 2: soft cap", "gpt-oss: learned sinks", "T5: relative positions"]
NUMBER = re.compile(r"\d+(?:\.\d+)?")
MATH = "{http://www.w3.org/1998/Math/MathML}"


@cache
def made(name: str) -> tuple[list[Step], list[str], np.ndarray]:
    """The steps of a row with an early token for its key, the tokens and the row's weights (keys,)."""
    if name == "small":
        lm = load_model("small")
        model, cap, entry = lm.model, lm.capture("The old king met the queen, and the old king smiled."), 2
    elif name.startswith("T5"):
        model = make(name)
        cap = capture(model, input_ids=some_ids(14), decoder_input_ids=some_ids(9, seed=1))
        entry = next(i for i, layer in enumerate(cap.layers) if layer.kind == "decoder")
    else:
        model = make(name)
        cap = replace(capture(model, input_ids=some_ids(len(NASTY))), tokens=NASTY)
        entry = 1
    filled = fill_worksheet(cap, entry, 2, 7, model)
    chances = np.full((2, 2), 0.25, dtype=np.float32)
    lens = Lens(filled.keys[:2, :2].long(), filled.keys.new_tensor(chances), 1e-7, ("·king", "<i>", "$", "ש"))
    row = np.where(filled.visible.numpy(), filled.weights.numpy(), np.nan)
    return all_steps(filled, 3, "Layer 2, head 2", lens), filled.key_tokens, row


def parsed(document: str) -> ET.Element:
    """The document as a tree; a tag that is not closed is an error."""
    closed = re.sub(r"<(meta|wbr)([^>]*)>", r"<\1\2/>", document.removeprefix("<!doctype html>"))
    return ET.fromstring(closed)


def drawn_tree(block) -> ET.Element:
    return ET.fromstring(drawn.drawn(block, 4))


def words(node: ET.Element) -> str:
    return " ".join("".join(node.itertext()).split())


def plain(text: str) -> str:
    return " ".join(text.split())


def of_class(node: ET.Element, name: str) -> list[ET.Element]:
    return [one for one in node.iter() if name in one.get("class", "").split()]


def sections(name: str, **more) -> list[tuple[Step, ET.Element]]:
    steps, tokens, row = made(name)
    tree = parsed(sheet_html(steps, "Layer 2, head 2: “x” (7)", "caption", tokens, row, query=7, key=3, **more))
    found = [one for one in tree.iter("section") if one.get("class") == "step"]
    return list(zip(steps, found, strict=True))


# ── everything is there ──


@pytest.mark.parametrize("name", NAMES)
def test_titles_sentences_and_tables(name):
    for number, (step, section) in enumerate(sections(name)):
        said = of_class(section, "said")[0]
        assert [words(one) for one in said] == [f"{number} {step.title}", *map(plain, step.sentences)]
        tables = [(step.table, "table"), (step.numbers, "numbers")]
        for table, kind in tables:
            found = of_class(section, kind)
            assert len(found) == (table is not None)
            if table is not None:
                head, *rows = found[0].iter("tr")
                assert " ".join(words(cell) for cell in head).split() == " ".join(table.header).split()
                assert sum(int(cell.get("colspan", 1)) for cell in head) == len(table.header)
                assert [[words(cell) for cell in row] for row in rows] == [list(map(plain, row)) for row in table.rows]
                assert all(cell.get("scope") in ("col", "colgroup") for cell in head.iter("th"))
                assert all(row[0].tag == "th" and row[0].get("scope") == "row" for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_formulas_hold_their_numbers(name):
    steps = made(name)[0]
    assert sum(len(step.formulas) for step in steps) >= 7
    for step, section in sections(name):
        shown = of_class(section, "formula")
        for formula, (letters, filled, said) in zip(step.formulas, shown, strict=True):
            assert words(said) == plain(formula.words)
            assert NUMBER.findall(" ".join(filled.itertext())) == NUMBER.findall(formula.filled)
            assert words(filled).count("−") == formula.filled.count("-")
            for each, latex in ((letters, formula.letters), (filled, formula.filled)):
                assert {one.tag for one in each.iter(f"{MATH}math")}
                assert "\\" not in words(each), latex
                assert words(each).count("=") == latex.count("=")
    source = words(parsed(sheet_html(*made(name)[:1], "t", "c", *made(name)[1:])).find(".//pre"))
    assert all(plain(formula.filled) in source for step in steps for formula in step.formulas)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_hold_their_words_and_numbers(name):
    kinds = set()
    for step, section in sections(name):
        figures = list(section.iter("figure"))
        for block, figure in zip(step.blocks, figures, strict=True):
            kinds.add(figure.get("class"))
            check(block, figure)
    wanted = {"small": "dials", "Gemma 2: soft cap": "groups", "gpt-oss: learned sinks": "groups"}
    assert kinds >= {"strips", "keys", "bars", wanted.get(name, "strips")}


def check(block, figure: ET.Element) -> None:
    """Whatever is written of a block is in its figure, in order."""
    match block:
        case Strips():
            labels = [words(one) for one in of_class(figure, "label")]
            assert labels == [plain(strip.label) for strip in block.strips]
            assert [words(one) for one in of_class(figure, "note")] == [strip.note for strip in block.strips]
            assert [words(one) for one in of_class(figure, "then")] == [f"↓ {s.then}" for s in block.strips if s.then]
        case Keys():
            head, *rows = figure.iter("tr")
            assert [words(one) for one in head] == ["key", *(column.title for column in block.columns)]
            for i, row in enumerate(rows):
                mark = ", the chosen key" if block.places[i] == 3 else ""
                assert words(row[0]) == plain(f"{block.tokens[i]}{block.places[i]}{mark}")
                texts = [words(one) for one in of_class(row, "number")]
                assert texts == [written(c.values[i], c.form) for c in block.columns if c.kind != "strip"]
                assert len(of_class(row, "cells")) == sum(c.kind == "strip" for c in block.columns)
            assert block.more in words(figure)
        case Bars():
            shown = [(words(item[0]), words(item[-1])) for item in figure.iter("li")]
            marks = [", this one" if i == block.marked else "" for i in range(len(block.labels))]
            texts = [f"{written(value, block.form)} {block.unit}".strip() for value in block.values]
            labels = [f"{label}{mark}" for label, mark in zip(block.labels, marks, strict=True)]
            assert shown == list(zip(labels, texts, strict=True)) and block.title in words(figure)
        case Dials():
            for i, title in enumerate(one for one in figure.iter("title")):
                numbers = (*block.before[i], block.angles[i], *block.after[i])
                wanted = "pair {}: ({}, {}) turned by {} rad → ({}, {})"
                assert words(title) == wanted.format(i, *(written(float(n), ".3g") for n in numbers))
            assert len(list(figure.iter("g"))) == min(64, len(block.angles)) and block.label in words(figure)
        case Groups():
            assert block.words in words(figure) and block.title in words(figure)
            assert [words(one) for one in figure.iter("b")] == [f"q {block.marked}"]
            heads = re.findall(r"q (\d+)", words(of_class(figure, "boxes")[0]))
            assert list(map(int, heads)) == list(range(block.heads))


# ── pictures ──


def cells_of(svg: ET.Element) -> np.ndarray:
    """What a row of cells shows: (cells,) −1 … 1, NaN where nothing is drawn; the place of a cell tells its sign."""
    shown = np.full(int(svg.get("viewBox").split()[2]), np.nan)
    for path in svg:
        shade = (int(path.get("class")[1:]) - 32) / 32
        for x, y, height in re.findall(r"M(\d+) (\d+)h[\d.]+v(\d+)h-[\d.]+z", path.get("d")):
            assert np.isnan(shown[int(x)])
            shown[int(x)] = shade
            up, down = int(y) == 0, int(y) + int(height) == 20
            assert (up, down) in ((True, False), (False, True), (False, False))
            assert shade == 0 or (up, down) == (shade > 0, shade < 0)
    return shown


@pytest.mark.parametrize("n", [1, 5, 64, 576])
def test_a_strip_shows_its_numbers(n):
    values = np.random.default_rng(n).normal(size=n).astype(np.float32)
    values[n // 2] = 0
    shown = cells_of(next(drawn_tree(Strips((Strip("q", values, scale=2.5),))).iter("svg")))
    np.testing.assert_allclose(shown, np.clip(values / 2.5, -1, 1), atol=1 / 64 + 1e-6)


def test_strips_with_gaps_infinities_and_thousands():
    values = np.array([1, np.nan, -np.inf, -2, np.inf], dtype=np.float32)
    svg = next(drawn_tree(Strips((Strip("“<b>”", values),))).iter("svg"))
    np.testing.assert_allclose(cells_of(svg), [0.5, np.nan, -1, -1, 1])
    assert svg.get("aria-label") == "“<b>”: 5 numbers from −∞ to ∞" and "gap" in svg.get("class")
    many = np.random.default_rng(0).normal(size=4096).astype(np.float32)
    shown = cells_of(next(drawn_tree(Strips((Strip("q", many),))).iter("svg")))
    largest = [group[np.abs(group).argmax()] for group in np.array_split(many, len(shown))]
    np.testing.assert_allclose(shown, np.array(largest) / np.abs(many).max(), atol=1 / 64 + 1e-6)


@pytest.mark.parametrize(
    ("values", "scale"), [([3, 1.5, 0, np.nan], None), ([-2, 1, -np.inf, 4], None), ([5, 50], 100)]
)
def test_bars_begin_at_zero(values, scale):
    column = Column("score", np.array(values, dtype=np.float32), "bar", scale=scale)
    count = len(values)
    figure = drawn_tree(Keys(tuple("abcd"[:count]), tuple(range(count)), (column,)))
    finite = [value for value in values if np.isfinite(value)]
    low, high = min(0, *finite), scale or max(finite)
    for value, svg in zip(values, figure.iter("svg"), strict=True):
        left, wide = (float(svg[0].get(name)) for name in ("x", "width"))
        end = value if np.isfinite(value) else 0
        assert left == pytest.approx(100 * (min(end, 0) - low) / (high - low), abs=0.01)
        assert wide == pytest.approx(100 * abs(end) / (high - low), abs=0.02)
        assert len(svg) == (2 if low < 0 else 1)  # a line at 0 where bars go both ways
        assert ("gap" in svg.get("class")) == bool(np.isnan(value))


def test_dials_turn_as_their_numbers_say():
    before = np.array([[1, 0], [0, -2], [-3, 4]], dtype=np.float32)
    angles = np.array([np.pi / 2, -0.3, 3.5], dtype=np.float32)
    after = np.array(
        [[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] @ b for a, b in zip(angles, before, strict=True)]
    )
    figure = drawn_tree(Dials("pairs", before, after.astype(np.float32), angles))
    for i, dial in enumerate(figure.iter("g")):
        x, y, radius = (float(dial[1].get(name)) for name in ("cx", "cy", "r"))
        for line, vector in zip(dial[3:], (before[i], after[i]), strict=True):
            end = (float(line.get("x2")) - x) / radius, (y - float(line.get("y2"))) / radius
            np.testing.assert_allclose(end, vector / np.hypot(*vector), atol=0.01)
        arc = re.search(r"A\S+ \S+ 0 (\d) (\d)", dial[2].get("d"))
        assert (arc[1], arc[2]) == (str(int(abs(angles[i]) > np.pi)), str(int(angles[i] < 0)))


def test_what_is_covered_is_not_in_the_file():
    steps, tokens, row = made("small")
    asked = next(step for step in steps if step.name == "softmax")
    hidden = sheet_html([covered(asked)], "t", "c", [], [])
    text = words(parsed(hidden).find(".//section"))
    largest = next(c for c in asked.blocks[0].columns if c.title.startswith("weight"))
    assert text.count("?") == len(asked.blocks[0].tokens) * len(asked.hides & {1, 2})
    assert f"{float(largest.values.max()):.1f}" not in text and asked.sentences[-1] not in text


# ── the text above the steps ──


def test_the_text_is_shaded_by_its_weights():
    row = [0.5, 0.004, np.nan, 1.0, 0.0]
    tree = parsed(sheet_html([], "t", "c", ["a", "<b>", "ש", "$", "e"], row, query=3, key=0))
    shown = [one[0] for one in of_class(tree, "token")]
    assert [words(one) for one in shown] == ["a", "<b>", "ש", "$", "e"]
    assert [one.get("class") for one in shown] == ["w16 key", "w0", "gap", "w32 query", "w0"]
    under = [words(one) for one in of_class(tree, "token")]
    assert under == ["a50.0%key", "<b>", "ש", "$100.0%query", "e"]


def test_a_long_text_shows_what_is_looked_at():
    row = np.full(3000, 1e-5)
    row[[1000, 2000]] = 0.4, 0.5
    tree = parsed(sheet_html([], "t", "c", [f"t{i}" for i in range(3000)], row, query=2500, key=1500))
    shown = {words(one[0]) for one in of_class(tree, "token")}
    wanted = {0, 4, 2995, 2999, 1500, 2500, *range(997, 1004), *range(1997, 2004)}
    assert shown >= {f"t{i}" for i in wanted} and len(shown) < 400
    left_out = re.findall(r"… ([\d,]+) tokens …", words(of_class(tree, "text")[0]))
    assert sum(int(count.replace(",", "")) for count in left_out) + len(shown) == 3000


def test_tokens_are_text():
    steps, tokens, row = made("Gemma 2: soft cap")
    title = "Layer 1, head 2: “</title><script>” & <b>"
    document = sheet_html(steps, title, "“שלום” (3) <img src=x>", NASTY, row, query=7, key=3)
    tree = parsed(document)
    assert words(tree.find(".//h1")) == words(tree.find(".//title")) == title
    assert [words(one[0]) for one in of_class(tree, "token")] == NASTY
    assert not [one.tag for one in tree.iter() if one.tag in ("script", "img", "link", "iframe")]
    assert tree.find(".//*[@id='caption']/bdi").text == "שלום"


def test_nothing_from_elsewhere():
    steps, tokens, row = made("small")
    document = sheet_html(steps, "t", "c", tokens, row)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="(.*?)"', document)[1])
    style = re.search(r"<style>(.*?)</style>", document, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert not re.search(r"<script|<link|<img|\bsrc=|\bhref=|\bstyle=|url\(|@import|\bon\w+=", document)
    assert document.count("http") == document.count("http://www.w3.org/1998/Math/MathML") + document.count("http-equiv")
    assert sheet_html(steps, "t", "c", tokens, row) == document


def test_colours_are_the_pages_and_can_be_read():
    dark = re.search(r"LESS_MORE = \{.*?dark: \[(.*?)\]", COMMON.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert tuple(re.findall("#[0-9a-f]{6}", dark)) == drawn.DARK_DIFFERENCE

    def light(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        return float(
            np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        )

    for scheme in (False, True):
        rules = re.findall(r"\.w(\d+)\{background:(#\w{6});color:(#\w{6})\}", drawn.shades_css(dark=scheme))
        assert [int(level) for level, *_ in rules] == list(range(33))
        for _, back, ink in rules:
            brighter, darker = sorted((light(back), light(ink)), reverse=True)
            assert (brighter + 0.05) / (darker + 0.05) >= 4.5, (back, ink)
        shades = [light(back) for _, back, _ in rules]
        assert shades == sorted(shades, reverse=not scheme)  # in grey, too, more is stronger


def test_steps_without_pictures_tables_or_formulas():
    bare = Step("x", "Nothing", ("It is not here.",))
    document = sheet_html([bare, replace(bare, table=Table(("", "a"), (("b", "1"),)))], "t", "c", ["a"], [1.0])
    assert words(of_class(parsed(document), "table")[0]) == "ab1"
    assert "Nothing" in latex_of([replace(bare, formulas=(Formula("a", "1", "one"),))], "t")
    assert sheet.ALL_TOKENS_UP_TO >= 400
