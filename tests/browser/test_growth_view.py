"""The components of the tab "Growth" by themselves: in a bare page, with the data that Python sends, against NumPy."""

import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from pages.shared import growth_view as module

from .growth_parts import ASSETS, WRAPPERS, growth_page, mounting, names
from .test_components import DARK, LIGHT
from .test_steps_view import exact, read, status

WORDS = ["The", "old", "king", "gave", "the", "key", "to", "the", "queen", ",", "and", "the", "next"]
rng = np.random.default_rng(0)


def _less_more() -> np.ndarray:
    colors = re.search(r"LESS_MORE = \{\s*light: \[([^\]]*)\]", (ASSETS / "common.js").read_text(encoding="utf-8"))[1]
    return np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in re.findall(r"#\w{6}", colors)])


LESS_MORE = _less_more()  # below 0, 0, above 0

# Points at each place of a node, in its own pixels: what the status line says there, and the colour of the canvas.
POINT = """(node, places) => {
    const [root, canvas] = [node.getRootNode(), node.querySelector("canvas") ?? node];
    const area = node.getBoundingClientRect();
    const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const at = canvas.getBoundingClientRect();
    const seen = places.map(([x, y]) => {
        node.dispatchEvent(new MouseEvent("mousemove", { clientX: area.left + x, clientY: area.top + y }));
        const pixel = Math.floor(area.top + y - at.top) * image.width + Math.floor(area.left + x - at.left);
        return [root.querySelector(".status").textContent, [...image.data.slice(pixel * 4, pixel * 4 + 4)]];
    });
    node.dispatchEvent(new MouseEvent("mouseleave"));
    return seen;
}"""
# The cells of a part of a canvas: how many are not empty, and how many are not as they were when this was asked first.
CHANGED = """(canvas, [width, y, height]) => {
    const { data } = canvas.getContext("2d").getImageData(0, y, width, height);
    window.before ??= data;
    return [data.filter((part) => part > 0).length, data.filter((part, i) => part !== window.before[i]).length];
}"""


# Whether every component has the page's new width, and nothing in it stands out.
FITS = """(width) => [...document.querySelectorAll("section")].every(({ shadowRoot }) => {
    const root = shadowRoot.querySelector(".hl");
    const ends = [...root.querySelectorAll("*")].map((node) => node.getBoundingClientRect().right);
    return width - root.clientWidth < 40 && Math.max(...ends) <= width && root.scrollWidth <= root.clientWidth + 1;
})"""


@pytest.fixture
def sheet(browser) -> Iterator[Page]:
    with growth_page(browser) as page:
        yield page


@pytest.fixture
def show(sheet: Page, monkeypatch) -> Callable[..., Locator]:
    return mounting(sheet, monkeypatch)


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores.astype(np.float64) - scores.max())
    return (weights / weights.sum()).astype(np.float32)


def rows(n: int = 7, d: int = 5, dv: int = 3, first: int = 0, **options) -> dict:
    """What growth_view() takes for n rows, of which the last was just computed."""
    given = {
        "tokens": [f"t{i}." for i in range(first, first + n)],
        "places": list(range(first, first + n)),
        "keys": normal(n, d),
        "values": normal(n, dv),
        "weights": softmax(normal(n)),
        "new": range(first + n - 1, first + n),
        "query": normal(d),
        "query_label": "query of t6, head 5",
        "scale_key": 2.0,
        "scale_value": 1.5,
        "scale_query": 2.5,
    }
    return given | options


def cut(given: dict, n: int, **options) -> dict:
    """The same after an earlier step, when it had n rows."""
    parts = {name: given[name][:n] for name in ("tokens", "places", "keys", "values", "weights")}
    return given | parts | {"new": range(n - 1, n), "most": len(given["tokens"])} | options


def plan(section: Locator) -> dict:
    """Where the pictures lie, read off from what stands round them."""
    boxes = section.locator(".picture").evaluate(
        """picture => {
            const area = picture.getBoundingClientRect();
            const box = (node) => {
                const { left, top, width, height } = node.getBoundingClientRect();
                return [left - area.left, top - area.top, width, height];
            };
            const all = (name) => [...picture.querySelectorAll(name)].map(box);
            return { titles: all(".title").filter((one) => one[2] > 0), brackets: all(".bracket") };
        }"""
    )
    upper = next(box for box in boxes["brackets"] if box[3])[1]
    return {
        "x": [box[0] for box in boxes["titles"]],
        "wide": [box[2] for box in boxes["titles"]],
        "top": upper,
        "height": boxes["brackets"][1][1] + boxes["brackets"][1][3] - upper,  # of all rows, without the last gap
    }


def color_of(values: np.ndarray, full: float, stops: np.ndarray) -> np.ndarray:
    at = np.clip((np.asarray(values) / full + 1) / 2, 0, 1)
    return np.stack([np.interp(at, np.linspace(0, 1, len(stops)), stops[:, c]) for c in range(3)], -1)


def point(section: Locator, places: list[tuple[float, float]]) -> tuple[list[str], np.ndarray]:
    seen = section.locator(".picture").first.evaluate(POINT, [list(map(float, place)) for place in places])
    return [words for words, _ in seen], np.array([color for _, color in seen])


@pytest.mark.parametrize(("n", "d", "dv"), [(7, 5, 3), (24, 64, 64), (60, 40, 12)])
def test_every_cell_has_its_number_and_colour(show, n: int, d: int, dv: int):
    given = rows(n, d, dv)
    section = show("growth", **given)
    at, stops = plan(section), LESS_MORE
    pitch = (at["height"] + 2) / n
    middle = [at["top"] + (i + 0.45) * pitch for i in range(n)]
    for side, (letter, name, full) in enumerate((("k", "keys", 2.0), ("v", "values", 1.5))):
        z = given[name]
        wide = at["wide"][side] / z.shape[1]
        places = [(at["x"][side] + (c + 0.4) * wide, y) for y in middle for c in range(z.shape[1])]
        words, colors = point(section, places)
        expected = [f"{letter}[{c}] of “t{i}.” ({i})" for i in range(n) for c in range(z.shape[1])]
        assert [read(word) for word in words] == list(zip(expected, map(exact, z.reshape(-1)), strict=True))
        assert np.abs(colors[:, :3] - color_of(z.reshape(-1), full, stops)).max() <= 3
    words, _ = point(section, [(at["x"][2] + 2, y) for y in middle])
    assert words == [f"“t{i}.” ({i}) gets {w:.1%} ({w:.5f}) of the look" for i, w in enumerate(given["weights"])]
    wide = at["wide"][0] / d
    words, colors = point(section, [(at["x"][0] + (c + 0.4) * wide, 14) for c in range(d)])
    assert [read(word.split(" (")[0]) for word in words] == [
        (f"q[{c}]", exact(q)) for c, q in enumerate(given["query"])
    ]
    assert np.abs(colors[:, :3] - color_of(given["query"], 2.5, stops)).max() <= 3
    assert section.locator(".picture").bounding_box()["height"] <= 640


def test_rows_that_are_reused_are_the_same_pixels(sheet: Page, show):
    given = rows(13, 64, 64, tokens=list(WORDS))
    section = show("growth", **cut(given, 11))
    root, canvas = section.locator(".growth"), section.locator("canvas")
    sheet.evaluate("document.fonts.ready")
    at, box = plan(section), section.locator(".picture").bounding_box()
    [left, top, wide, high] = [at["x"][0], at["top"], at["x"][1] + at["wide"][1] - at["x"][0], at["height"] - 36]
    clip = {"x": box["x"] + left, "y": box["y"] + top, "width": wide, "height": high}  # ten rows, of K and of V
    shots = []
    for n in (11, 12, 13):
        show("growth", **cut(given, n, weights=softmax(normal(n)), query=normal(64)))
        assert root.get_attribute("data-drawn") == str(int(n > 11))
        filled, changed = canvas.evaluate(CHANGED, [wide, top, at["height"] - 2])  # all eleven
        assert filled > wide * high and changed == 0
        shots.append(sheet.screenshot(clip=clip))
        assert section.locator(".word.reused").inner_text() == f"reused\n{n - 1} rows"
        assert section.locator(".word.computed").inner_text() == "computed"
        assert status(section).startswith(f"{n} rows: {n - 1} reused, 1 computed (“{WORDS[n - 1]}”).")
    assert shots[0] == shots[1] == shots[2]
    given["keys"][4, 7] += 1  # this test would have seen it
    show("growth", **cut(given, 13))
    assert root.get_attribute("data-drawn") == "1"
    assert canvas.evaluate(CHANGED, [wide, top, high])[1] > 0 and sheet.screenshot(clip=clip) != shots[0]


def test_prefill_window_and_what_has_no_row_yet(sheet: Page, show):
    given = rows(6, new=range(6), pending="<b>and</b>", most=9)
    section = show("growth", **given)
    assert status(section).startswith("6 rows: all computed in this step. “<b>and</b>” was chosen and has no row yet.")
    assert section.locator(".word:visible").all_inner_texts() == ["computed\n6 rows"]
    assert section.locator(".empty").inner_text() == "“<b>and</b>” was chosen: no row yet"
    before = section.locator(".picture").bounding_box()["height"]
    weights = softmax(normal(9))
    weights[:2] = np.nan
    section = show("growth", **rows(9, first=12, weights=weights, forgotten=12))
    assert section.locator(".gone").inner_text() == "rows 0–11 are forgotten: the window keeps the last 9"
    assert not section.locator(".empty").is_visible()
    assert section.locator(".picture").bounding_box()["height"] - before < 30
    at = plan(section)
    words, _ = point(section, [(at["x"][2] + 5, at["top"] + 5), (10, at["top"] + 5), (at["x"][0] - 30, at["top"] + 5)])
    assert words[0] == "“t12.” (12) the query cannot look there"
    assert words[1].startswith("9 rows: 8 reused")
    assert words[2] == "“t12.” (12): reused, as an earlier step left it, the query cannot look there"
    assert section.locator(".percent").first.inner_text() == "–"
    section = show("growth", **rows(values=None, weights=None, query=None))
    assert section.locator(".title:visible").all_inner_texts() == ["K"]
    assert section.locator(".query:visible, .percent:not(:empty)").count() == 0


def test_rows_are_read_and_chosen_with_the_keyboard(sheet: Page, show):
    given = rows()
    section = show("growth", **given)
    section.locator(".picture").focus()
    sheet.keyboard.press("Tab")  # so that the focus is one of the keyboard
    sheet.keyboard.press("Shift+Tab")
    assert status(section).startswith("“t6.” (6): computed in this step, gets ")
    for c in range(5):
        sheet.keyboard.press("ArrowRight")
        assert read(status(section)) == (f"k[{c}] of “t6.” (6)", exact(given["keys"][6, c]))
    sheet.keyboard.press("ArrowUp")
    for c in range(3):
        sheet.keyboard.press("ArrowRight")
        assert read(status(section)) == (f"v[{c}] of “t5.” (5)", exact(given["values"][5, c]))
    sheet.keyboard.press("ArrowRight")
    weight = given["weights"][5]
    assert status(section) == f"“t5.” (5) gets {weight:.1%} ({weight:.5f}) of the look"
    sheet.keyboard.press("Home")
    mark = section.locator(".mark").bounding_box()
    picture, at = section.locator(".picture").bounding_box(), plan(section)
    assert mark["x"] == pytest.approx(picture["x"] + at["x"][0], abs=1)
    assert mark["width"] == pytest.approx(at["wide"][0] / 5, abs=1)
    for _ in range(6):
        sheet.keyboard.press("ArrowUp")
    assert read(status(section).split(" (")[0]) == ("q[0]", exact(given["query"][0]))
    sheet.keyboard.press("Enter")  # the query is no row
    sheet.keyboard.press("ArrowDown")
    sheet.keyboard.press("Enter")
    sheet.keyboard.press("Enter")  # once more: it is chosen no longer
    sheet.keyboard.press("PageDown")
    assert read(status(section))[0] == "k[0] of “t6.” (6)"
    sheet.keyboard.press(" ")
    sheet.keyboard.press("End")
    sheet.keyboard.press("Escape")
    assert status(section).startswith("7 rows: 6 reused") and not section.locator(".mark").is_visible()
    assert sheet.evaluate("window.chosen") == [{"place": 0}, {"place": 0}, {"place": 6}]
    assert set(sheet.evaluate("window.heard")) == {"Tab", "Shift"}
    sheet.keyboard.press("Control+ArrowLeft")
    assert "ArrowLeft" in sheet.evaluate("window.heard")


def test_a_click_chooses_a_row_and_keeps_its_number(sheet: Page, show):
    given = rows(9, chosen=7)
    section = show("growth", **given)
    at = plan(section)
    pitch = (at["height"] + 2) / 9
    spot = {"x": at["x"][1] + 4, "y": at["top"] + 3.4 * pitch}
    section.locator(".picture").click(position=spot)
    expect(section.locator(".tip")).to_have_text(status(section))
    sheet.mouse.move(5, 5)
    expect(section.locator(".tip")).to_be_hidden()
    assert read(status(section)) == ("v[0] of “t3.” (3)", exact(given["values"][3, 0]))
    assert sheet.evaluate("window.chosen") == [{"place": 3}]
    assert section.locator(".token.strong").all_inner_texts().count("t3.") == 1
    band = section.locator(".chosen.band").bounding_box()
    assert band["y"] + band["height"] / 2 == pytest.approx(
        section.locator(".picture").bounding_box()["y"] + spot["y"], abs=pitch / 2
    )
    show("growth", **cut(given, 3))  # an earlier step, without that row
    assert status(section).startswith("3 rows") and not section.locator(".chosen.band").is_visible()


def test_many_rows_share_lines(sheet: Page, show):
    given = rows(300, 20, 12, chosen=41)
    section = show("growth", **given)
    at, stops = plan(section), LESS_MORE
    each = 3
    lines = [range(i, min(i + each, 299)) for i in range(0, 299, each)] + [range(299, 300)]
    pitch = at["height"] / len(lines)
    assert 5 <= pitch < 7
    assert section.locator(".note").inner_text().startswith(f"A line stands for {each} rows")
    for side, (letter, name, full) in enumerate((("k", "keys", 2.0), ("v", "values", 1.5))):
        n = given[name].shape[1]
        wide = at["wide"][side] / n
        spots = [(i, c) for i in range(len(lines)) for c in range(n)]
        places = [(at["x"][side] + (c + 0.4) * wide, at["top"] + (i + 0.45) * pitch) for i, c in spots]
        words, colors = point(section, places)
        shown = [lines[i].start + int(np.abs(given[name][lines[i], c]).argmax()) for i, c in spots]
        values = given[name][shown, [c for _, c in spots]]
        expected = [f"{letter}[{c}] of “t{row}.” ({row})" for row, (_, c) in zip(shown, spots, strict=True)]
        assert [read(word) for word in words] == list(zip(expected, map(exact, values), strict=True))
        assert np.abs(colors[:, :3] - color_of(values, full, stops)).max() <= 3
    words, _ = point(section, [(at["x"][2] + 1, at["top"] + (i + 0.45) * pitch) for i in range(len(lines))])
    heaviest = [line.start + int(given["weights"][line].argmax()) for line in lines]
    assert words == [
        f"“t{row}.” ({row}) gets {given['weights'][row]:.1%} ({given['weights'][row]:.5f}) of the look"
        for row in heaviest
    ]
    named = section.locator(".token").all_inner_texts()
    assert {"t0.", "t41.", "t299.", f"t{given['weights'].argmax()}."} <= set(named) and 15 < len(named) < 40
    tops = sorted(box["y"] for box in (label.bounding_box() for label in section.locator(".token").all()))
    assert min(np.diff(tops)) >= 16
    show("growth", **cut(given, 296))
    assert int(section.locator(".growth").get_attribute("data-drawn")) <= 2  # the others stay as they were


def test_tokens_are_text(sheet: Page, show):
    tokens = ["<b>x</b>", "<img src=x onerror='window.hit = 1'>", "a\nb", "$x$", "שלום", "\t"]
    section = show("growth", **rows(6, tokens=tokens, key_title="<i>K</i>", query_label="<u>q</u>", pending="<s>"))
    assert section.locator(".token").all_inner_texts()[2:4] == ["a⏎b", "$x$"]
    assert section.locator(".title").first.inner_text() == "<i>K</i>"
    assert section.locator(".picture :is(b, i, u, s, img)").count() == 0 and sheet.evaluate("window.hit") is None


def test_a_new_row_comes_in_shortly(sheet: Page, show):
    moving = """() => document.querySelector("#growth").shadowRoot.getAnimations()
        .map((one) => one.effect.getTiming().duration)"""
    given = rows()
    show("growth", **cut(given, 4))
    assert sheet.evaluate(moving) == []
    show("growth", **cut(given, 5))
    assert sheet.evaluate(moving) == []  # for those who asked for that
    sheet.emulate_media(reduced_motion="no-preference")
    show("growth", **cut(given, 6))
    assert len(sheet.evaluate(moving)) == 2 and max(sheet.evaluate(moving)) <= 500
    sheet.wait_for_function(f"() => ({moving})().length === 0")
    show("growth", **cut(given, 6, chosen=2))
    assert sheet.evaluate(moving) == []


# ---- all layers ----


def furthest(part: np.ndarray) -> float:
    return part.reshape(-1)[np.abs(part).argmax()]


def test_small_pictures_show_what_is_furthest_from_0():
    cache = normal(3, 100, 70)
    picture = module.small_picture(cache, 120, 2.0)
    columns = [c * 70 // 32 for c in range(33)]
    expected = [
        [[furthest(head[i : i + 4, a:b]) for a, b in zip(columns, columns[1:], strict=False)] for i in range(0, 100, 4)]
        for head in cache
    ]
    assert picture.shape == (3, 25, 32)
    np.testing.assert_allclose(picture / 255 * 2 - 1, np.clip(np.array(expected) / 2, -1, 1), atol=0.5 / 127)
    np.testing.assert_array_equal(module.small_picture(cache[:, :96], 120, 2.0), picture[:, :24])  # lines stay
    assert module.small_picture(normal(2, 5, 3), 0, 1.0).shape == (2, 5, 3)
    sizes = np.arange(-100, 101).reshape(67, 3)
    assert module.full_color(sizes) == pytest.approx(np.quantile(np.abs(sizes), 0.97))
    assert module.full_color(np.zeros((3, 2))) == module.full_color(np.full((2, 2), np.nan)) == 1.0
    many = normal(1120, 16)
    lines = np.abs(many).reshape(112, 10, 16).max(1)  # as they are drawn
    assert np.mean(lines < module.full_color(many)) == pytest.approx(0.97, abs=0.01)


def layers(count: int, heads: int, n: int, d: int = 64, without: tuple[int, ...] = ()) -> dict:
    keys, values = ([None if i in without else normal(heads, n, d) for i in range(count)] for _ in "kv")
    return {
        "keys": keys,
        "values": values,
        "scales": [(2.0, 1.5)] * count,
        "notes": ["keeps a state of fixed size and no rows"] * count,
    }


def test_every_layer_and_head_has_its_picture(sheet: Page, show):
    given = layers(30, 3, 20, without=(4,))
    section = show("stack", **given, chosen=(2, 1), new=1, most=32)
    picture = section.locator(".picture")
    box = picture.bounding_box()
    assert box["width"] <= 1280 and box["height"] <= 640
    assert section.locator(".name").all_inner_texts() == [f"layer {i}" for i in range(30)]
    assert section.locator(".none").all_inner_texts() == ["keeps a state of fixed size and no rows"]
    spots = [(x, y) for y in np.arange(12, box["height"], 16) for x in np.arange(2, box["width"], 20)]
    words = set(point(section, spots)[0])
    told = {
        f"layer {i}, key-value head {g}: 20 rows, 19 reused, 1 computed" for i in range(30) for g in range(3) if i != 4
    }
    chosen = "layer 2, key-value head 1: 20 rows, 19 reused, 1 computed"
    assert words == told - {chosen} | {f"{chosen}, chosen", "layer 4: keeps a state of fixed size and no rows"}


def extent(section: Locator, said: str, spots: list[tuple[float, float]], axis: int) -> tuple[float, float]:
    """From where to where a row or column of pixels belongs to what is said there."""
    words, _ = point(section, spots)
    inside = [spot[axis] for word, spot in zip(words, spots, strict=True) if word.startswith(said)]
    return min(inside), max(inside)


@pytest.mark.parametrize(("n", "new"), [(8, 1), (6, 6)])
def test_small_pictures_are_coloured_as_their_rows(show, n: int, new: int):
    given = layers(2, 2, n, 5)
    given["values"] = [normal(2, n, 3) for _ in range(2)]
    section = show("stack", **given, chosen=(0, 0), new=new, most=8)
    box, stops = section.locator(".picture").bounding_box(), LESS_MORE
    accent = [int(LIGHT["primary-color"][i : i + 2], 16) for i in (1, 3, 5)]
    for layer, head in ((0, 1), (1, 0)):
        said = f"layer {layer}, key-value head {head}"
        split = f"{n - 1} reused, 1 computed" if new == 1 else "all computed in this step"
        middle = box["height"] / 4
        left, right = extent(section, said, [(x, middle) for x in range(int(box["width"]))], 0)
        upper, lower = extent(section, said, [(left + 20, y) for y in range(int(box["height"]))], 1)
        side = round(lower - upper)
        left += 4  # half the room between two pictures
        assert right + 1 - left == 2 * side + 1 + 4 and side > 60
        for at, name, full in ((left, "keys", 2.0), (left + side + 1, "values", 1.5)):
            z = given[name][layer][head]
            high, wide = side * n / 8 / n, side / z.shape[1]
            spots = [(at + (c + 0.5) * wide, upper + (i + 0.5) * high) for i in range(n) for c in range(z.shape[1])]
            words, colors = point(section, spots)
            assert {word.split(", chosen")[0] for word in words} == {f"{said}: {n} rows, {split}"}
            assert np.abs(colors[:, :3] - color_of(z.reshape(-1), full, stops)).max() <= 5
        bottom = upper + side * n / 8
        edge = [
            (left - 1.5, bottom - side / 16),
            (left - 1.5, upper + side / 16),
            (left + 9, bottom + (0.5 if n < 8 else -0.5)),
        ]
        _, colors = point(section, edge)
        assert (colors[[0, 2], :3] == accent).all() and ((colors[1, :3] == accent).all() == (new == n))


def test_a_layer_and_head_are_chosen(sheet: Page, show):
    given = layers(5, 2, 6, without=(1,))
    section = show("stack", **given, chosen=(0, 0), new=1)
    picture = section.locator(".picture")
    assert section.locator(".name.chosen").inner_text() == "layer 0"
    picture.focus()
    said = []
    for key in ("ArrowRight", "ArrowRight", "Enter", "ArrowRight", "Enter", " ", "End", "Enter", "Home", "Escape"):
        sheet.keyboard.press(key)
        said.append(status(section).split(":")[0])
    assert said[:4] == ["layer 0, key-value head 1", "layer 1", "layer 1", "layer 2, key-value head 0"]
    assert said[6] == "layer 4, key-value head 1" and said[8] == "layer 0, key-value head 0"
    assert said[9] == "layer 4, key-value head 1"  # the chosen one, when nothing is looked at
    assert sheet.evaluate("window.chosen") == [{"layer": 2, "head": 0}, {"layer": 4, "head": 1}]
    assert section.locator(".name.chosen").inner_text() == "layer 4" and sheet.evaluate("window.heard") == []
    first = section.locator(".name").first.bounding_box()
    picture.click(position={"x": first["width"] + 30, "y": 20})
    assert sheet.evaluate("window.chosen")[2:] == [{"layer": 0, "head": 0}]
    painted = section.locator(".stack-view").get_attribute("data-pictures")
    show("stack", **given, chosen=(3, 1), new=1)
    assert section.locator(".stack-view").get_attribute("data-pictures") == painted  # the mark alone has moved


# ---- all three ----


def test_the_page_hears_what_was_chosen(monkeypatch):
    caught: dict = {}
    for name in WRAPPERS:
        monkeypatch.setattr(module, f"_{name}", lambda **given: caught.update(given))
    state = {"mine": {"place": {"step": 7, "sent": 99}}}
    monkeypatch.setattr(module.st, "session_state", state)
    monkeypatch.setattr(module, "chosen_in", lambda key: {"place": 17, "layer": 3, "head": 2})
    got: list = []
    module.player(9, 2, "mine", got.append)
    caught["on_place_change"]()
    module.player(9, 7, "mine", got.append)
    assert got == [7] and caught["data"]["answered"] == 99
    module.growth_view(**rows(), key="mine", on_choose=got.append)
    caught["on_choose_change"]()
    module.stack_view(**layers(2, 1, 3), chosen=(0, 0), key="mine", new=1, on_choose=lambda *chosen: got.append(chosen))
    caught["on_choose_change"]()
    assert got == [7, 17, (3, 2)]


def everything(show, theme: dict = LIGHT) -> None:
    tokens = [*WORDS, "·internationalisation·of·everything", *WORDS]
    show("player", 12, 3, names=names(12), theme=theme)
    show("growth", **rows(27, 64, 64, tokens=tokens, chosen=4, pending="x", forgotten=12, most=32), theme=theme)
    show("stack", **layers(30, 3, 27, without=(4,)), chosen=(2, 1), new=1, most=32, theme=theme)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_axe_finds_nothing(sheet: Page, show, theme: dict):
    from axe_playwright_python.sync_playwright import Axe

    everything(show, theme)
    sheet.locator("#growth .picture").focus()
    sheet.keyboard.press("ArrowRight")
    results = Axe().run(sheet)
    assert [(found["id"], found["nodes"]) for found in results.response["violations"]] == []


def test_they_fit_every_screen(sheet: Page, show):
    everything(show)
    show("growth", **rows(80, 64, 64))
    for width in (1920, 700, 1280):
        sheet.set_viewport_size({"width": width, "height": 900})
        sheet.wait_for_function(FITS, arg=width)
        assert sheet.evaluate("document.documentElement.scrollWidth") <= width
    assert sheet.locator("#growth .picture").bounding_box()["height"] <= 640
    assert sheet.locator("#stack .picture").bounding_box()["height"] <= 640
    sizes = sheet.locator("main section").evaluate_all(
        """nodes => nodes.flatMap((node) => [...node.shadowRoot.querySelectorAll(".hl *:not(input, canvas)")])
            .map((node) => parseFloat(getComputedStyle(node).fontSize))"""
    )
    assert min(sizes) >= 16
