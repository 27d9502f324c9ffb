"""How much each token mattered, by itself: in a bare page, with the very data that Python sends, against NumPy."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from pages.shared import components
from pages.shared import relevance_view as module
from pages.shared.relevance_view import Column

from .bare import bare_page
from .test_components import DARK, LIGHT, _luminance, _plain, run

TOKENS = ["Mr", "·Brown", "·gave", "·the", "<b>key</b>", "·to", "·internationalisation·of·everything"]
NAMES = ["Attention received", "Gradient × input", "Leave-one-out", "Shapley values", "Integrated gradients"]
NAMES += ["Value-weighted attention", "Attention × gradient", "Attention rollout"]
rng = np.random.default_rng(0)

# What stands in each row, in pixels from the zero line: the bar's ends, the whisker's ends, the number.
READ = """rows => rows.map((row) => ({
    place: Number(row.querySelector(".place").textContent),
    token: row.querySelector("bdi").textContent,
    says: row.getAttribute("aria-label"),
    cells: [...row.querySelectorAll(".cell")].map((cell) => {
        const part = (name) => cell.querySelector(name);
        const shown = (node) => getComputedStyle(node).display !== "none";
        const box = (node) => node.getBoundingClientRect();
        const zero = box(part(".zero")).left + 0.5;
        const ends = (node) => shown(node) ? [box(node).left - zero, box(node).right - zero] : null;
        const { backgroundImage, backgroundColor } = getComputedStyle(part(".bar"));
        return { text: part(".value").textContent, bar: ends(part(".bar")), whisker: ends(part(".whisker")),
                 number: ends(part(".value")), zero: zero - box(cell).left, wide: box(cell).width,
                 pattern: backgroundImage, color: backgroundColor, against: part(".bar").matches(".against") };
    }),
}))"""
# Numbers that leave their column or lie on a bar, a whisker or each other; and what stands out of the component.
CLASHES = """root => {
    const box = (node) => node.getBoundingClientRect();
    const shown = (node) => box(node).width > 0;
    const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.5 &&
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2;
    const clashes = [];
    for (const cell of root.querySelectorAll(".cell")) {
        const [number, inside] = [box(cell.querySelector(".value")), box(cell)];
        if (number.left < inside.left - 1 || number.right > inside.right + 1) clashes.push(["out", cell.textContent]);
        for (const name of [".bar", ".whisker"]) {
            const node = cell.querySelector(name);
            if (shown(node) && meet(number, box(node))) clashes.push([name, cell.textContent]);
        }
    }
    const heads = [...root.querySelectorAll(".head")].map((head) => [head.scrollWidth, head.clientWidth]);
    for (const [needs, has] of heads) if (needs > has + 1) clashes.push(["head", needs, has]);
    if (root.scrollWidth > root.clientWidth + 1) clashes.push(["sideways", root.scrollWidth]);
    return clashes;
}"""
FITS = "width => width - document.querySelector('section').shadowRoot.querySelector('.hl').clientWidth < 60"


@pytest.fixture
def sheet(browser) -> Iterator[Page]:
    style = "html { font-size: 17px } body { margin: 20px } h1 { font-size: 1.2rem }"
    with bare_page(browser, "Relevance", style) as page:
        yield page


@pytest.fixture
def show(sheet: Page, monkeypatch) -> Callable[..., Locator]:
    """(what relevance_view() takes …) → the mounted component."""

    def mounted(tokens: list[str], columns: list[Column], order=None, chosen=None, theme: dict = LIGHT) -> Locator:
        caught: dict = {}
        monkeypatch.setattr(module, "_relevance", lambda data, key, on_choose_change: caught.update(data))
        order = range(len(tokens)) if order is None else order
        module.relevance_view(tokens, columns, order, "k", lambda token: None, chosen, "Why “key”")
        return run(sheet, "relevance", {part: _plain(value) for part, value in caught.items()}, theme)

    return mounted


def values(n: int, signed: bool = True) -> np.ndarray:
    """A few large numbers and many small ones."""
    drawn = rng.gamma(0.5, size=n) + 1e-3
    return (drawn * np.where(rng.random(n) < 0.3, -1, 1) if signed else drawn).astype(np.float32)


def methods(n: int, count: int) -> list[Column]:
    columns = [Column(name, values(n, signed=c not in (0, 5, 7))) for c, name in enumerate(NAMES[:count])]
    if count > 2:
        columns[2] = Column(NAMES[2], values(n), form="number")
    if count > 3:
        columns[3] = Column(NAMES[3], values(n), form="number", error=values(n, signed=False) / 5)
    if count > 4:
        columns[4] = Column(NAMES[4], values(n), note="not converged")
    return columns


def rows_of(section: Locator) -> list[dict]:
    return section.get_by_role("option").evaluate_all(READ)


def places(section: Locator) -> list[int]:
    return [row["place"] for row in rows_of(section)]


def focused(sheet: Page) -> str | None:
    return sheet.evaluate("document.querySelector('#relevance').shadowRoot.activeElement?.dataset.token ?? null")


def test_bars_and_numbers_are_those_that_were_given(show):
    received = np.array([0.2, 0.1, 0.3, 0, 0.25, 0.1, 0.05], np.float32)
    left_out = np.array([1.234, -0.5, 0.004, 2.5, np.nan, -1.75, 0.75], np.float32)
    drawn = np.array([-0.6, 0.1, 0.2, 0.9, 0.2, -0.1, 0], np.float32)
    error = np.array([0.2, 0.05, 0.3, 0.1, 0, 0.2, 0.1], np.float32)
    order = [3, 0, 5, 6, 1, 2, 4]
    columns = [
        Column("Attention received", received),
        Column("Leave-one-out", left_out, form="number"),
        Column("Shapley values", drawn, error=error, note="not converged"),
    ]
    section = show(TOKENS, columns, order, chosen=5)
    rows = rows_of(section)
    assert [(row["place"], row["token"]) for row in rows] == [(token, TOKENS[token]) for token in order]
    shares = [f"{value:.1%}".replace("-", "−") for value in drawn.astype(float) / np.abs(drawn).sum()]
    expected = {
        0: [f"{value:.1%}" for value in received],
        1: ["1.23", "−0.50", "0.00", "2.50", "—", "−1.75", "0.75"],
        2: shares,
    }
    units = []
    for c, column in enumerate((received, left_out, drawn)):
        cells = [row["cells"][c] for row in rows]
        assert [cell["text"] for cell in cells] == [expected[c][token] for token in order]
        unit = max(np.ptp(cell["bar"]) for cell in cells if cell["bar"]) / np.nanmax(np.abs(column))
        units.append(unit)
        for cell, token in zip(cells, order, strict=True):
            value = column[token]
            if not value or np.isnan(value):
                assert cell["bar"] is None
                continue
            ends = sorted([0, value * unit])
            assert cell["bar"] == pytest.approx(ends, abs=1.6)  # a bar is never thinner than 1.5 pixels
            assert cell["against"] == (value < 0)
            assert ("gradient" in cell["pattern"]) == (value < 0)  # a pattern, not only a colour
            beyond = cell["number"][1] < ends[0] if value < 0 else cell["number"][0] > ends[1]
            assert beyond
    assert all(row["cells"][0]["zero"] < 1 for row in rows)
    assert all(row["cells"][1]["zero"] > 1.75 * units[1] for row in rows)
    for row in rows:
        value, around = drawn[row["place"]], error[row["place"]]
        whisker = row["cells"][2]["whisker"]
        assert (whisker is None) == (around == 0)
        if whisker:
            assert whisker == pytest.approx([(value - around) * units[2], (value + around) * units[2]], abs=1.6)
    assert rows[2]["says"] == (
        "“·to”, place 5. Attention received: 10.0% (0.1). Leave-one-out: −1.75. Shapley values: −4.8% (−0.1 ± 0.2)"
    )
    assert "“<b>key</b>”, place 4. Attention received: 25.0% (0.25). Leave-one-out: no number." in rows[6]["says"]
    assert section.locator(".head").nth(3).inner_text() == "Shapley values\nnot converged"
    assert section.locator(".sides:visible, .sure:visible").count() == 3
    show(TOKENS, [replace(columns[0], signed=False), columns[1]], order)
    assert section.locator(".much").is_visible()
    bars = [row.locator(".bar").first for row in section.locator("[role=option]").all()]
    assert {bar.get_attribute("class") for bar in bars} == {"bar amount"}
    show(TOKENS, columns[:1], order)
    assert not section.locator(".legend").is_visible()  # nothing speaks against it


@pytest.mark.parametrize(
    ("form", "given", "texts"),
    [
        ("share", [1, -2, 1], ["25.0%", "−50.0%", "25.0%"]),
        ("share", [0, 0], ["0.0%", "0.0%"]),
        ("share", [9999, -1], ["100.0%", "0.0%"]),
        ("number", [0.01234, -0.0005, np.nan], ["0.0123", "−0.0005", "—"]),
        ("number", [12345, -1.6], ["12345", "−2"]),
        ("number", [1.2345e-7, -2e-9], ["1.23e−07", "−2.00e−09"]),
        ("number", [np.nan, np.nan], ["—", "—"]),
    ],
)
def test_numbers_are_written_as_people_read_them(form: str, given: list[float], texts: list[str]):
    assert module.written_values(Column("x", np.array(given, np.float32), form=form)) == texts


def test_own_words_are_said(show):
    words = ["without it the target loses 3.1 points", *[None] * 6]
    section = show(TOKENS, [Column("Leave-one-out", np.arange(7, dtype=np.float32), words=words)])
    row = section.get_by_role("option").first
    assert row.get_attribute("aria-label") == "“Mr”, place 0. Leave-one-out: without it the target loses 3.1 points"
    assert "Leave-one-out: 4.8% (1)" in rows_of(section)[1]["says"]
    row.hover()
    assert (
        section.locator(".tip").inner_text() == "“Mr”, place 0\nLeave-one-out: without it the target loses 3.1 points"
    )


def test_keyboard_and_clicks_choose(sheet: Page, show):
    section = show(TOKENS, methods(7, 3), [3, 0, 5, 6, 1, 2, 4], chosen=0)
    assert section.get_by_role("listbox", name="Why “key”. Enter marks a token.").count() == 1
    assert section.locator(".line[tabindex='0']").get_attribute("data-token") == "0"
    sheet.keyboard.press("Tab")
    seen = []
    for key in ("ArrowDown", "End", "ArrowDown", "Home", "ArrowUp", "ArrowDown", "ArrowDown"):
        sheet.keyboard.press(key)
        seen.append(int(focused(sheet)))
    assert seen == [5, 4, 4, 3, 3, 0, 5]
    assert section.locator(".line[tabindex='0']").count() == 1
    assert section.locator(".tip").is_visible() and "place 5" in section.locator(".tip").inner_text()
    outline = section.locator(".line[data-token='5']").evaluate("node => getComputedStyle(node).outlineStyle")
    assert outline == "dashed"
    sheet.keyboard.press("Enter")
    assert section.locator(".line[aria-selected='true']").get_attribute("data-token") == "5"  # before the page answers
    sheet.keyboard.press("ArrowDown")
    sheet.keyboard.press("Space")
    sheet.keyboard.press("Escape")  # the chosen one again: the page lets go of it
    assert not section.locator(".tip").is_visible() and section.locator(".line[aria-selected='true']").count() == 0
    sheet.keyboard.press("Escape")  # none is chosen
    section.locator(".line[data-token='2']").click()
    section.locator(".line[data-token='2']").click()
    assert [choice["token"] for choice in sheet.evaluate("window.chosen")] == [5, 6, 6, 2, 2]
    assert sheet.evaluate("window.heard") == ["Tab"]  # the page's own shortcuts do not act as well


def test_focus_survives_a_rerun(sheet: Page, show):
    columns = methods(7, 3)
    section = show(TOKENS, columns)
    section.locator(".line").nth(4).evaluate("node => { window.node = node; node.focus(); }")
    section = show(TOKENS, [*columns[:2], Column(NAMES[2], None)], chosen=2)
    assert focused(sheet) == "4" and section.locator(".line").nth(4).evaluate("node => node === window.node")
    show(TOKENS, columns, list(reversed(range(7))), chosen=2)  # sorted in another way: the token keeps it
    assert focused(sheet) == "4" and places(section).index(4) == 2
    show(TOKENS[:2], methods(2, 3))  # a shorter text
    assert focused(sheet) == "1"
    assert section.locator(".relevance").get_attribute("data-runs") == "4"


def test_a_column_that_is_still_computed(show):
    columns = methods(7, 2)
    section = show(TOKENS, [*columns, Column("Shapley values", None, note="not converged")])
    assert section.locator(".head").nth(3).inner_text() == "Shapley values\ncomputing …"
    for row in rows_of(section):
        waiting = row["cells"][2]
        assert (waiting["text"], waiting["bar"], waiting["whisker"]) == ("", None, None)
        assert row["says"].endswith("Shapley values: still being computed")
    show(TOKENS, [*columns, Column("Shapley values", values(7))])
    assert section.locator(".head").nth(3).inner_text() == "Shapley values"
    assert all(row["cells"][2]["bar"] for row in rows_of(section)) and not section.locator(".pending").count()


def test_of_many_tokens_the_first_of_the_order_are_drawn(show):
    tokens = [f"t{i}" for i in range(60)]
    columns = [Column("A", values(60, signed=False)), Column("B", values(60)), Column("C", None)]
    order = [int(k) for k in np.argsort(-np.abs(columns[1].values))]
    section = show(tokens, columns, order)
    assert places(section) == order[:40]
    section = show(tokens, columns, order, chosen=order[50])
    assert places(section) == [*order[:40], order[50]]
    assert section.locator(".apart").count() == 1
    shares = [
        np.abs(column.values[order[40:50] + order[51:]]).sum() / np.abs(column.values).sum() for column in columns[:2]
    ]
    said = section.locator(".more").inner_text()
    assert (
        said == f"19 of 60 tokens are not drawn here: together {shares[0]:.1%} of A, {shares[1]:.1%} of B, signs aside."
    )
    largest = np.abs(columns[0].values).max()  # of all, drawn or not: the scale stays what it is
    first = rows_of(section)[0]["cells"][0]
    assert np.ptp(first["bar"]) < (first["wide"]) * columns[0].values[order[0]] / largest + 1
    section = show(tokens, columns, order, chosen=order[3])
    assert not section.locator(".apart").count() and section.locator(".more").inner_text().startswith("20 of 60")
    show(tokens[:40], [Column("A", values(40))])
    assert not section.locator(".more").is_visible()


@pytest.mark.parametrize(("theme", "widths"), [(LIGHT, (1280, 1000)), (DARK, (1920,))], ids=["light", "dark"])
def test_nothing_overlaps_on_any_screen(sheet: Page, show, theme: dict, widths: tuple[int, ...]):
    from axe_playwright_python.sync_playwright import Axe

    tokens = (TOKENS * 9)[:60]
    for width in widths:
        sheet.set_viewport_size({"width": width, "height": 900})
        seen = {}
        for count in (1, 3, 4, 5, 7, 8):
            section = show(tokens[:20], methods(20, count), chosen=3, theme=theme)
            sheet.wait_for_function(FITS, arg=width)
            root = section.locator(".relevance")
            assert root.evaluate(CLASHES) == [], (width, count)
            assert sheet.evaluate("document.documentElement.scrollWidth") <= width
            assert root.bounding_box()["height"] <= 800
            columns = {round(cell["wide"]) for cell in rows_of(section)[0]["cells"]}
            assert len(columns) == 1  # they share the width evenly
            seen[count] = root.get_attribute("data-numbers")
        assert seen[1] == "ends" and seen[8] in ("beside", "over") and (width < 1280 or seen[3] == "ends")
    sizes = section.locator(".relevance *:not(.tip)").evaluate_all(
        "nodes => nodes.map((node) => parseFloat(getComputedStyle(node).fontSize))"
    )
    assert min(sizes) >= 0.9 * 17
    section = show(tokens, [*methods(60, 6), Column(NAMES[6], None)], chosen=55, theme=theme)
    assert section.locator(".relevance").evaluate(CLASHES) == []
    section.locator(".line[tabindex='0']").focus()
    sheet.keyboard.press("Home")
    results = Axe().run(sheet)
    assert [(found["id"], found["nodes"]) for found in results.response["violations"]] == []
    ground = _luminance(sheet.evaluate("getComputedStyle(document.body).backgroundColor"))
    for kind, name in (("for", "background-color"), ("against", "box-shadow")):
        color = section.locator(f".bar.{kind}:visible").first.evaluate(f"n => getComputedStyle(n)['{name}']")
        light = _luminance(re.search(r"rgb\([^)]*\)", color)[0])
        assert (max(light, ground) + 0.05) / (min(light, ground) + 0.05) >= 3, kind


def test_the_page_hears_what_was_chosen(monkeypatch):
    caught: dict = {}
    monkeypatch.setattr(module, "_relevance", lambda **given: caught.update(given))
    monkeypatch.setattr(module, "chosen_in", lambda key: {"token": 4})
    got: list[int] = []
    module.relevance_view(TOKENS, methods(7, 2), range(7), "mine", got.append)
    caught["on_choose_change"]()
    assert got == [4]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_chips_with_signs(sheet: Page, monkeypatch, theme: dict):
    from axe_playwright_python.sync_playwright import Axe

    caught: dict = {}
    monkeypatch.setattr(components, "_chips", lambda data, key, on_choose_change: caught.update(data))
    weights = np.array([1, 0.4, 0, -0.01, -0.4, -1, np.nan], np.float32)
    for words in ([f"word {i}" for i in range(7)], None):
        arguments = (TOKENS, None, weights, [4], "k", lambda *chosen: None)
        components.token_chips(*arguments, words=words, signed=True)
        section = run(sheet, "chips", {part: _plain(value) for part, value in caught.items()}, theme)
        chips = section.get_by_role("option")
        expect(chips).to_have_count(7)
        said = chips.evaluate_all("nodes => nodes.map((node) => node.getAttribute('aria-label'))")
        assert words is None or said == words
    assert said[4].startswith("“<b>key</b>”, token 4, weight −40.0% (0.40000)") and said[6].endswith("no number")
    looks = chips.evaluate_all(
        """nodes => nodes.map((node) => {
            const { backgroundColor, borderBottomStyle, borderBottomWidth, height } = getComputedStyle(node);
            return [backgroundColor, `${borderBottomStyle} ${borderBottomWidth}`, height];
        })"""
    )
    colors = [tuple(map(int, re.findall(r"\d+", look[0]))) for look in looks]
    ground = tuple(int(theme["background-color"][i : i + 2], 16) for i in (1, 3, 5))
    assert colors[0] == tuple(int(theme["primary-color"][i : i + 2], 16) for i in (1, 3, 5))
    assert colors[2] == colors[6] == ground
    assert all(red > blue + 60 for red, _, blue in colors[4:6]) and len(set(colors[:6])) == 6
    assert [look[1] == "dashed 3px" for look in looks] == [False, False, False, False, True, True, False]
    assert len({look[2] for look in looks}) == 1  # the line under a token makes it no higher
    results = Axe().run(sheet)
    assert [(found["id"], found["nodes"]) for found in results.response["violations"]] == []
    components.token_chips(TOKENS, None, np.abs(weights), [4], "k", lambda *chosen: None)
    run(sheet, "chips", {part: _plain(value) for part, value in caught.items()}, theme)
    assert not any("dashed" in style for style in chips.evaluate_all("n => n.map((node) => node.style.cssText)"))
