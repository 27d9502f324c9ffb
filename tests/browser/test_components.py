"""The four components by themselves: mounted in a bare page with the very data that Python sends, against NumPy."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Locator, Page

from pages.shared import components

from .bare import bare_page

ASSETS = Path(__file__).parents[2] / "assets" / "components"
LIGHT = {"background-color": "#ffffff", "text-color": "#31333f", "primary-color": "#0b5c8a"}
DARK = {"background-color": "#0e1117", "text-color": "#fafafa", "primary-color": "#7cc4f2"}
EXACT = re.compile(r"\(([+−]?)(\d\.\d{5})\)")

MOUNT = """async ({ name, html, css, js, theme }) => {
    const host = document.querySelector("main").appendChild(document.createElement("section"));
    for (const [part, color] of Object.entries(theme)) document.body.style.setProperty(`--st-${part}`, color);
    document.body.style.background = theme["background-color"];
    document.body.style.color = theme["text-color"];
    host.id = name;
    const root = host.attachShadow({ mode: "open" });
    root.innerHTML = `<style>${css}</style>${html}`;
    const { default: run } = await import(URL.createObjectURL(new Blob([js], { type: "text/javascript" })));
    window.chosen = [];
    const column = (part) => ({ toArray: () => new window[part.type](part.values) });
    const table = (part) => part?.type ? { getChild: () => column(part) } : part;
    window[`run_${name}`] = (data) => run({
        data: Object.fromEntries(Object.entries(data).map(([key, part]) => [key, table(part)])),
        parentElement: root, setTriggerValue: (_, value) => window.chosen.push(value),
    });
}"""

# Points at every third pixel: what the status line says there, and the colour under it that most of its pixels have.
SCAN = """canvas => {
    const [box, ratio] = [canvas.getBoundingClientRect(), canvas.width / canvas.clientWidth];
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const seen = {};
    for (let y = 1; y < box.height; y += 3) for (let x = 1; x < box.width; x += 3) {
        canvas.dispatchEvent(new MouseEvent("mousemove", { clientX: box.left + x, clientY: box.top + y }));
        const words = canvas.getRootNode().querySelector(".status").textContent;
        const at = (Math.floor(y * ratio) * canvas.width + Math.floor(x * ratio)) * 4;
        const color = Array.from(pixels.slice(at, at + 4)).join();
        ((seen[words] ??= {})[color] ??= []).push([x, y]);
    }
    canvas.dispatchEvent(new MouseEvent("mouseleave"));
    return Object.fromEntries(Object.entries(seen).map(([words, colors]) =>
        [words, Object.entries(colors).sort((a, b) => b[1].length - a[1].length)[0][0].split(",").map(Number)]));
}"""


@pytest.fixture
def sheet(browser) -> Iterator[Page]:
    with bare_page(browser, "Components", width=1000) as page:
        yield page


@pytest.fixture
def sent(monkeypatch) -> Callable[..., dict]:
    """(name, arguments …) → what the component would get from Python, its tables as {type, values}."""
    functions = {
        "chips": components.token_chips,
        "overview": components.overview,
        "head": components.head_view,
        "lines": components.lines_view,
    }

    def data_of(name: str, *args, **options) -> dict:
        caught: dict = {}
        monkeypatch.setattr(components, f"_{name}", lambda data, key, on_choose_change: caught.update(data))
        functions[name](*args, **options)
        return {part: _plain(value) for part, value in caught.items()}

    return data_of


def _plain(value):
    if not isinstance(value, pd.DataFrame):
        return value
    column = value["z"]
    assert not column.isna().any()  # Arrow would turn NaN into null
    return {"type": {"float32": "Float32Array", "uint8": "Uint8Array"}[str(column.dtype)], "values": column.tolist()}


def run(page: Page, name: str, data: dict, theme: dict = LIGHT) -> Locator:
    """Mounts the component, or gives new data to the mounted one."""
    if not page.locator(f"#{name}").count():
        files = {part: (ASSETS / f"{name}.{part}").read_text(encoding="utf-8") for part in ("html", "css", "js")}
        for part in ("css", "js"):
            files[part] = (ASSETS / f"common.{part}").read_text(encoding="utf-8") + files[part]
        page.evaluate(MOUNT, {"name": name, "theme": theme, **files})
    page.evaluate(f"data => window.run_{name}(data)", data)
    return page.locator(f"#{name}")


def causal(*shape: int, seed: int = 0) -> np.ndarray:
    """(…, queries, keys) random rows that add up to 1, NaN above the diagonal."""
    scores = np.random.default_rng(seed).normal(size=shape) * 3
    scores[..., np.triu(np.ones(shape[-2:], bool), 1)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.where(np.isinf(scores), np.nan, weights).astype(np.float32)


def choose(*chosen: object) -> None:
    """The page's callback, which is not called here."""


def names(letter: str, count: int) -> list[str]:
    return [f"{letter}{i}." for i in range(count)]


def number_in(words: str) -> float:
    sign, digits = EXACT.search(words).groups()
    return float(digits) * (-1 if sign == "−" else 1)


def shades_of(page: Page, weights: np.ndarray, data: dict) -> tuple[dict, np.ndarray, list[str]]:
    """The status line and the colour of each cell, the colours of the legend, and the numbers at it."""
    section = run(page, "head", data)
    seen = section.locator("canvas.picture").evaluate(SCAN)
    cells = {}
    for words, color in seen.items():
        if found := re.match(r"“q(\d+)\.” → “k(\d+)\.”: (.*)", words):
            cells[int(found[1]), int(found[2])] = (found[3], color)
    assert cells.keys() == set(np.ndindex(weights.shape))
    legend = section.locator(".scale").evaluate("node => node.style.background")
    stops = np.array([[int(c) for c in stop.split(",")] for stop in re.findall(r"rgb\(([^)]*)\)", legend)])
    return cells, stops, section.locator(".ticks span").all_inner_texts()


@pytest.mark.parametrize("per", ["one", "row", "head"])
@pytest.mark.parametrize("log", [False, True])
def test_the_map_is_coloured_as_its_legend_says(sheet: Page, sent, per: str, log: bool):
    weights = causal(7, 7)
    full = {"one": 1.0, "row": np.nanmax(weights, axis=1, keepdims=True), "head": np.nanmax(weights[1:])}[per]
    weights[0, 0] = full if per == "head" else weights[0, 0]  # else the first row's 1 were the largest
    share = weights.astype(np.float64) / full
    expected = np.clip(1 + np.log10(share) / 4, 0, 1) if log else share
    scale = {"log": log, "per": per, "cut": 0.01}
    data = sent("head", weights, names("q", 7), names("k", 7), 3, 0.25, "", "k", choose, scale=scale)
    cells, stops, ticks = shades_of(sheet, weights, data)
    blanks = 0
    for (q, k), (words, color) in cells.items():
        if np.isnan(weights[q, k]):
            assert words == "cannot look there"
            continue
        assert number_in(words) == pytest.approx(weights[q, k], abs=1e-5)
        blank = weights[q, k] < 0.01
        blanks += blank
        assert ("under 1%: left blank" in words) == blank
        at = np.linspace(0, 1, len(stops))
        wanted = [255] * 3 if blank else [np.interp(expected[q, k], at, stops[:, c]) for c in range(3)]
        assert color[:3] == pytest.approx(wanted, abs=2), (q, k, words)
    assert 3 < blanks < 20
    top = float(full) if per == "head" else 1.0
    assert float(ticks[-1].rstrip("%")) == pytest.approx(100 * top, rel=6e-3)
    assert len(ticks) == (5 if log else 2)
    if log:
        assert float(ticks[2].rstrip("%")) == pytest.approx(top, rel=6e-3)  # two decades below
    assert sheet.locator("#head .blank").inner_text() == "blank: under 1%"


def test_a_difference_has_two_colours_and_keeps_its_gaps(sheet: Page, sent):
    difference = causal(5, 5, seed=1) - causal(5, 5, seed=2)
    difference[1, 0], difference[2, 1] = -1.0, 0.75  # −1 is a value here, not a gap
    data = sent("head", difference, names("q", 5), names("k", 5), 4, 0.0, "", "k", choose, signed=True)
    cells, stops, ticks = shades_of(sheet, difference, data)
    for (q, k), (words, color) in cells.items():
        if np.isnan(difference[q, k]):
            assert words == "cannot look there"
            continue
        assert number_in(words) == pytest.approx(difference[q, k], abs=1e-5)
        place = (difference[q, k] + 1) / 2
        wanted = [np.interp(place, np.linspace(0, 1, len(stops)), stops[:, c]) for c in range(3)]
        assert color[:3] == pytest.approx(wanted, abs=2)
    assert ticks == ["−100%", "0", "+100%"]
    bars = sheet.locator("#head .bar")
    order = np.argsort(-np.abs(difference[4]))
    assert [int(bar.get_attribute("data-key")) for bar in bars.all()] == order.tolist()
    assert bars.first.locator(".value").inner_text()[0] == ("+" if difference[4, order[0]] > 0 else "−")


def test_several_rows_share_their_bars(sheet: Page, sent):
    weights = causal(6, 6)
    together = np.nanmean(weights[[2, 4, 5]], axis=0)
    exact = (4, "q4.", together, names("k", 6))
    args = (weights, names("q", 6), names("k", 6), 4, 0.2, "One", "k", choose, exact)
    section = run(sheet, "head", sent("head", *args, also=[2, 5], caption="The mean of three rows."))
    assert section.locator(".heading").inner_text() == "3 tokens together look at"
    shown = {
        int(b.get_attribute("data-key")): float(b.get_attribute("data-weight")) for b in section.locator(".bar").all()
    }
    assert shown == pytest.approx(dict(enumerate(together)), abs=1e-6)
    assert "Rows 4, 2 and 5 are chosen" in section.locator(".status").inner_text()
    assert section.locator(".caption").inner_text() == "The mean of three rows."
    section.locator("canvas.picture").focus()
    sheet.keyboard.press("ArrowDown")
    sheet.keyboard.press("Enter")
    assert sheet.evaluate("window.chosen") == [{"token": 5}]
    run(sheet, "head", sent("head", *args, bars=False))
    assert not section.locator(".side").is_visible()


def read_pair(page: Page) -> list[float]:
    return [float(value) for _, value in EXACT.findall(page.locator("#lines .status").inner_text())]


def test_lines_say_every_weight_of_every_head(sheet: Page, sent):
    heads = causal(3, 5, 5)
    data = sent("lines", list(heads), names("head ", 3), names("q", 5), names("k", 5), 2, "", "k", choose)
    run(sheet, "lines", data)
    sheet.locator("#lines canvas").focus()
    sheet.keyboard.press("Home")
    for q in range(5):
        sheet.keyboard.press("Enter")  # keeps the query's lines; the arrows then read key by key
        sheet.keyboard.press("ArrowRight")
        sheet.keyboard.press("Home")
        for k in range(5):
            words = sheet.locator("#lines .status").inner_text()
            assert f"“q{q}.” ({q}) → “k{k}.” ({k})" in words
            if k > q:
                assert words.count("cannot look there") == 3
            else:
                assert read_pair(sheet) == pytest.approx(heads[:, q, k], abs=1e-5)
            sheet.keyboard.press("ArrowDown")
        sheet.keyboard.press("Escape")
        assert "Point at a token" in sheet.locator("#lines .status").inner_text()
        sheet.keyboard.press("Home")
        for _ in range(q + 1):
            sheet.keyboard.press("ArrowDown")
    assert sheet.evaluate("window.chosen") == [{"token": q} for q in (0, 1, 2, 3, 4)]
    colors = sheet.locator("#lines .heads small").all_inner_texts()
    assert len(set(colors)) == 3  # the words of the status line stand in the legend


def test_pointing_at_a_token_and_locking_it(sheet: Page, sent):
    weights = causal(6, 6)
    data = sent("lines", [weights], ["one"], names("q", 6), names("k", 6), 2, "", "k", choose)
    canvas = run(sheet, "lines", data).locator("canvas")
    status = sheet.locator("#lines .status")
    said = set(canvas.evaluate(SCAN))
    for q in range(6):
        words = next(words for words in said if words.startswith(f"“q{q}.” ({q}) looks"))
        best = int(np.nanargmax(weights[q]))
        assert f"at “k{best}.” ({best})" in words and number_in(words) == pytest.approx(weights[q, best], abs=1e-5)
    for k in range(6):
        words = next(words for words in said if words.startswith(f"“k{k}.” ({k}) is looked at"))
        best = int(np.nanargmax(weights[:, k]))
        assert f"by “q{best}.” ({best})" in words and number_in(words) == pytest.approx(weights[best, k], abs=1e-5)
    box = canvas.bounding_box()
    found = next(y for y in range(20, int(box["height"])) if _says(sheet, box["x"] + 70, box["y"] + y, "“q4.”"))
    sheet.mouse.click(box["x"] + 70, box["y"] + found)
    assert sheet.evaluate("window.chosen") == [{"token": 4}]
    sheet.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    assert "“q4.” (4) looks" in status.inner_text() and "Escape lets go" in status.inner_text()
    sheet.mouse.click(box["x"] + 70, box["y"] + found)
    sheet.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    assert "Point at a token" in status.inner_text()


def _says(page: Page, x: float, y: float, words: str) -> bool:
    page.mouse.move(x, y)
    return page.locator("#lines .status").inner_text().startswith(words)


def test_what_the_lines_leave_out_is_said(sheet: Page, sent):
    weights = causal(40, 40)
    args = ([weights], ["one"], names("q", 40), names("k", 40), 2, "", "k", choose)
    section = run(sheet, "lines", sent("lines", *args, cut=0.01))
    under = weights[(weights > 0) & (weights < 0.01)].astype(np.float64)
    total = np.nansum(weights.astype(np.float64))
    note = section.locator(".note").inner_text()
    found = re.fullmatch(r"([\d,]+) lines under 1% are not drawn, together ([\d.]+)% of all weight\.", note)
    assert int(found[1].replace(",", "")) == len(under)
    assert float(found[2]) == pytest.approx(100 * under.sum() / total, abs=0.05)
    run(sheet, "lines", sent("lines", *args))
    assert not section.locator(".note").is_visible()

    many = causal(120, 120, seed=3)
    strongest = np.sort(many[~np.isnan(many)])[::-1][:4000].astype(np.float64)
    args = ([many], ["one"], names("q", 120), names("k", 120), 2, "", "k", choose)
    run(sheet, "lines", sent("lines", *args))
    note = section.locator(".note").inner_text()
    found = re.search(r"Of the ([\d,]+) lines the 4,000 strongest are drawn, together ([\d.]+)% of all weight", note)
    assert int(found[1].replace(",", "")) == int((many > 0).sum())
    assert float(found[2]) == pytest.approx(100 * strongest.sum() / np.nansum(many.astype(np.float64)), abs=0.05)
    assert section.locator(".lines").get_attribute("data-drawn") == "4000"


def test_the_overview_shows_each_heads_weights(sheet: Page, sent):
    rng = np.random.default_rng(0)
    pictures = [rng.random((heads, 3, 5)).astype(np.float32) for heads in (2, 4, 1)]
    args = (pictures, ["layer 0", "layer 1", "layer 2"], (1, 2), "k", choose)
    section = run(sheet, "overview", sent("overview", *args))
    seen = section.locator("canvas.picture").evaluate(SCAN)
    assert {words.removesuffix(", chosen") for words in seen} == {
        f"layer {entry}, head {head}" for entry, heads in enumerate((2, 4, 1)) for head in range(heads)
    }
    # The pixels of the first head, bin by bin: darker is heavier.
    box = section.locator("canvas.picture").evaluate(
        """canvas => { const pen = canvas.getContext("2d"); const found = [];
           const is = (x, y) => { canvas.dispatchEvent(new MouseEvent("mousemove",
               { clientX: canvas.getBoundingClientRect().left + x, clientY: canvas.getBoundingClientRect().top + y }));
               return canvas.getRootNode().querySelector(".status").textContent === "layer 0, head 0"; };
           for (let y = 0; !found.length && y < canvas.clientHeight; y += 1)
               for (let x = 0; !found.length && x < canvas.clientWidth; x += 1) if (is(x, y)) found.push([x, y]);
           canvas.dispatchEvent(new MouseEvent("mouseleave"));
           const [x0, y0] = found[0]; const side = 90; const light = [];
           for (let q = 0; q < 3; q += 1) for (let k = 0; k < 5; k += 1) {
               const [r, g, b] = pen.getImageData(x0 + (k + 0.5) * side / 5, y0 + (q + 0.5) * side / 3, 1, 1).data;
               light.push(0.2126 * r + 0.7152 * g + 0.0722 * b); }
           return light; }"""
    )
    assert (
        np.argsort(-np.array(box)).tolist()
        == np.argsort(np.rint(pictures[0][0].reshape(-1) * 255), kind="stable").tolist()
    )


def test_only_new_pictures_are_painted_again(sheet: Page, sent):
    pictures = [causal(4, 6, 6, seed=entry) for entry in range(3)]
    layers = names("layer ", 3)

    def show(*chosen: int, **options) -> tuple[int, int]:
        args = (pictures, layers, chosen, "k", choose)
        root = run(sheet, "overview", sent("overview", *args, **options)).locator(".overview")
        return int(root.get_attribute("data-pictures")), int(root.get_attribute("data-painted"))

    show(0, 0)
    before, painted = show(0, 0)  # its font has arrived by now
    assert show(2, 1) == (before, painted + 1)
    assert show(2, 1, combined=[(0, 1), (1, 1)], colors=[0, 1]) == (before, painted + 2)
    pictures[1] = pictures[1] * 0.5
    assert show(2, 1) == (before + 1, painted + 3)
    curves = [np.random.default_rng(entry).random((4, 9)).astype(np.float32) for entry in range(3)]
    assert show(2, 1, curves=curves) == (before + 2, painted + 4)


def test_heads_are_sorted_and_filtered_by_a_score(sheet: Page, sent):
    pictures = [causal(4, 6, 6, seed=entry) for entry in range(3)]
    scores = [np.random.default_rng(7 + entry).random(4).astype(np.float32) for entry in range(3)]
    scores[1][2] = np.nan
    flat = {(entry, head): float(scores[entry][head]) for entry in range(3) for head in range(4)}
    order = sorted((place for place in flat if not np.isnan(flat[place])), key=lambda place: -flat[place])
    shown = [part >= 0.5 for part in scores]
    left = [place for place in order if flat[place] >= 0.5]
    layers = [f"layer {entry}" for entry in range(3)]
    args = (pictures, layers, left[1], "k", choose)
    options = {"scores": scores, "score_name": "induction"}
    section = run(sheet, "overview", sent("overview", *args, **options, order=order, shown=shown))
    canvas, status = section.locator("canvas.picture"), section.locator(".status")
    canvas.focus()
    sheet.keyboard.press("Home")
    for entry, head in left:
        words = status.inner_text().splitlines()
        assert words[0].startswith(f"layer {entry}, head {head} · induction {flat[entry, head]:.2f}")
        assert words[1] == f"{len(left)} of 12 heads"
        sheet.keyboard.press("ArrowRight")
    assert sheet.evaluate("window.chosen") == []
    sheet.keyboard.press("Enter")
    sheet.keyboard.press("ArrowLeft")
    sheet.keyboard.press("Shift+Enter")
    (last, other) = left[-1], left[-2]
    assert sheet.evaluate("window.chosen") == [
        {"entry": last[0], "head": last[1], "add": False},
        {"entry": other[0], "head": other[1], "add": True},
    ]
    run(sheet, "overview", sent("overview", pictures, layers, (1, 2), *args[3:], **options, shown=shown))
    sheet.locator("#overview canvas.picture").blur()
    assert status.inner_text().startswith("layer 1, head 2 · induction –, chosen, filtered out")


def test_thirty_layers_fit_on_one_screen(sheet: Page, sent):
    pictures = [causal(9, 8, 8, seed=entry) for entry in range(30)]
    sheet.set_viewport_size({"width": 380, "height": 900})
    args = (pictures, [f"layer {entry}" for entry in range(30)], (18, 6), "k", choose)
    section = run(sheet, "overview", sent("overview", *args))
    assert section.locator("canvas.picture").bounding_box()["height"] <= 660
    order = [(entry, head) for head in range(9) for entry in range(30)]
    run(sheet, "overview", sent("overview", *args, order=order))
    assert section.locator("canvas.picture").bounding_box()["height"] <= 660


def test_a_single_weight_survives_in_a_small_picture(sheet: Page, sent):
    rng, pictures = np.random.default_rng(0), []
    for _ in range(30):
        pictures.append(np.zeros((9, 32, 32), np.float32))
        pictures[-1][np.arange(9), rng.integers(32, size=9), rng.integers(32, size=9)] = 1
    args = (pictures, [f"layer {entry}" for entry in range(30)], (0, 0), "k", choose)
    section = run(sheet, "overview", sent("overview", *args))
    full = section.locator("canvas.picture").evaluate(
        """canvas => { const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
           let full = 0;
           for (let i = 0; i < pixels.length; i += 4) full += [8, 48, 107].every((c, part) => pixels[i + part] === c);
           return full; }"""
    )
    assert full >= 270  # the darkest blue at least once in every head, though 32 tokens share 20 pixels


def test_several_tokens_are_chosen(sheet: Page, sent):
    row = causal(6, 6)[5]
    args = (names("t", 6), None, row)
    section = run(sheet, "chips", sent("chips", *args, 5, "k", choose, "source"))
    chips = section.get_by_role("option")
    assert section.locator(".label").inner_text() == "source"
    chips.nth(5).click(modifiers=["Shift"])  # the last one stays
    assert sheet.evaluate("window.chosen") == []
    chips.nth(2).click(modifiers=["Control"])
    chips.nth(3).focus()
    sheet.keyboard.press("Shift+Enter")
    chips.nth(1).click()
    assert sheet.evaluate("window.chosen") == [
        {"token": 2, "add": True},
        {"token": 3, "add": True},
        {"token": 1, "add": False},
    ]
    run(sheet, "chips", sent("chips", *args, [5, 2], "k", choose))
    marked = [i for i, chip in enumerate(chips.all()) if chip.get_attribute("aria-selected") == "true"]
    assert marked == [2, 5]
    assert "chosen: one of the queries" in chips.nth(2).get_attribute("aria-label")
    run(sheet, "chips", sent("chips", *args, [], "k", choose))
    assert all(chip.get_attribute("aria-selected") == "false" for chip in chips.all())


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_axe_finds_nothing(sheet: Page, sent, theme: dict):
    from axe_playwright_python.sync_playwright import Axe

    heads = causal(8, 6, 6)
    queries, keys = names("q", 6), names("k", 6)
    run(sheet, "chips", sent("chips", queries, [1, 2, 3, 4, 5, 6], heads[0, 5], [5, 2], "k", choose, "from"), theme)
    combined = [(0, head) for head in range(8)]
    grid = sent("overview", [heads], ["layer 0"], (0, 0), "k", choose, combined=combined, colors=list(range(8)))
    run(sheet, "overview", grid, theme)
    scale = {"log": True, "per": "row", "cut": 0.01}
    run(sheet, "head", sent("head", heads[0], queries, keys, 5, 0.2, "One", "k", choose, scale=scale), theme)
    run(sheet, "lines", sent("lines", list(heads), names("head ", 8), queries, keys, 5, "All", "k", choose), theme)
    results = Axe().run(sheet)
    assert [(found["id"], found["nodes"]) for found in results.response["violations"]] == []
    # One colour a head, and each can be seen on its page.
    colors = sheet.locator("#lines .swatch").evaluate_all("nodes => nodes.map(node => node.style.background)")
    light = [_luminance(color) for color in (*colors, sheet.evaluate("document.body.style.background"))]
    assert len(set(colors)) == 8
    assert all((max(one, light[-1]) + 0.05) / (min(one, light[-1]) + 0.05) >= 3 for one in light[:-1])


def _luminance(color: str) -> float:
    """As WCAG defines it."""
    parts = np.array([int(c) for c in re.findall(r"\d+", color)[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
