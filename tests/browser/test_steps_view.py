"""The picture of one worksheet step by itself: in a bare page, with the very data that Python sends, against NumPy."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from attention_core.figures.blocks import Bars, Column, Dials, Keys, Strip, Strips, largest, span, written
from pages.shared import steps_view as module

from .bare import bare_page
from .test_components import DARK, LIGHT, MOUNT, _plain

ASSETS = Path(__file__).parents[2] / "assets" / "components"
rng = np.random.default_rng(0)

# Points at every pixel along the middle of a node: what the status line says there.
SWEEP = """(node, rows) => {
    const box = node.getBoundingClientRect();
    const said = [];
    for (let row = 0; row < rows; row += 1) for (let x = 0.5; x < box.width; x += 1) {
        const y = box.top + ((row + 0.5) * box.height) / rows;
        node.dispatchEvent(new MouseEvent("mousemove", { clientX: box.left + x, clientY: y, bubbles: true }));
        said.push(node.getRootNode().querySelector(".status").textContent);
    }
    node.getRootNode().querySelector(".steps").dispatchEvent(new MouseEvent("mouseleave"));
    return said;
}"""
PIXELS = "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"


@pytest.fixture
def sheet(browser) -> Iterator[Page]:
    with bare_page(browser, "Steps") as page:
        yield page


@pytest.fixture
def show(sheet: Page, monkeypatch) -> Callable[..., Locator]:
    """(blocks …) → the mounted picture, as steps_view() would fill it."""

    def run(*blocks, chosen: int | None = None, theme: dict = LIGHT) -> Locator:
        caught: dict = {}
        monkeypatch.setattr(module, "_steps", lambda data, key, on_choose_change: caught.update(data))
        module.steps_view(blocks, "k", lambda place: None, chosen, "one step")
        if not sheet.locator("#steps").count():
            html, css, *js = (
                (ASSETS / name).read_text(encoding="utf-8")
                for name in ("steps.html", "steps.css", "common.js", "blocks.js", "steps.js")
            )
            css = (ASSETS / "common.css").read_text(encoding="utf-8") + css
            sheet.evaluate(MOUNT, {"name": "steps", "theme": theme, "html": html, "css": css, "js": "\n".join(js)})
        sheet.evaluate("data => window.run_steps(data)", {part: _plain(value) for part, value in caught.items()})
        return sheet.locator("#steps")

    return run


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def read(words: str) -> tuple[str, float]:
    """ "q[3] = −0.25" → ("q[3]", −0.25)"""
    name, number = words.rsplit(" = ", 1)
    return name, float(number.replace("−", "-").replace("∞", "inf"))


def exact(value: float) -> float:
    """What six digits can say of it."""
    return float(f"{value:.6g}")


def status(section: Locator) -> str:
    return section.locator(".status").inner_text()


def keys(rows: int = 7, n: int = 5, **options) -> tuple[Keys, np.ndarray, np.ndarray, np.ndarray]:
    products, scores = normal(rows, n), normal(rows)
    weights = np.exp(scores) / np.exp(scores).sum()
    columns = (
        Column("q × k", products, "strip", wide=2),
        Column("score", scores, "number"),
        Column("weight", weights, "bar", ".1%"),
    )
    tokens = tuple(f"t{i}" for i in range(rows))
    return Keys(tokens, tuple(range(3, 3 + rows)), columns, **options), products, scores, weights


def test_numbers_are_written_as_people_read_them():
    assert [written(v, ".2f") for v in (np.nan, -np.inf, np.inf, -1.234, -0.001, 0.5)] == [
        "—", "−∞", "∞", "−1.23", "0.00", "0.50",
    ]  # fmt: skip
    assert written(np.float32(0.1234), ".1%") == "12.3%" and written(-1e-9, ".1e") == "−1.0e−09"
    values = np.array([[np.nan, -np.inf], [-3, 2]], np.float32)
    assert largest(values) == 3 and largest(values, 8) == 8 and largest(np.zeros(0)) == 1
    assert span(values) == (-3, 2) and span(values, 4) == (-4, 4) and span(values[1, 1:], 4) == (0, 4)
    assert span(np.zeros(3)) == (0, 1) == span(np.full(2, -np.inf))


@pytest.mark.parametrize("n", [5, 64, 576, 4096])
def test_every_cell_of_a_strip_has_its_number_and_colour(show, n: int):
    values = normal(n)
    section = show(Strips((Strip("q", values, "norm 4.21", then="× W"), Strip("k", normal(3))), "Two vectors"))
    cells = section.locator(".cells").first
    said = [read(words) for words in cells.evaluate(SWEEP, 1)]
    pixels = np.array(cells.locator("canvas").evaluate(PIXELS)).reshape(-1, 4)
    assert len(said) == len(pixels)
    places = [int(re.fullmatch(r"q\[(\d+)\]", name)[1]) for name, _ in said]
    assert places == sorted(places) and (n > len(pixels) or set(places) == set(range(n)))
    assert [number for _, number in said] == [exact(values[place]) for place in places]
    stops = section.locator(".scale").evaluate("node => node.style.background")
    stops = np.array([[int(c) for c in stop.split(",")] for stop in re.findall(r"rgb\(([^)]*)\)", stops)])
    at = (values[places] / np.abs(values).max() + 1) / 2
    wanted = np.stack([np.interp(at, np.linspace(0, 1, len(stops)), stops[:, c]) for c in range(3)], 1)
    drawn = pixels[:, 3] == 255  # the others are the thin gaps between wide cells
    assert (~drawn).sum() == (n - 1 if n <= 64 else 0)
    assert np.abs(pixels[drawn, :3] - wanted[drawn]).max() <= 3
    if n > len(pixels):  # several cells a pixel: the one furthest from 0
        assert np.abs(values).argmax() in places and np.abs(values[places]).mean() > 1.5 * np.abs(values).mean()
    assert section.locator(".note").first.inner_text() == "norm 4.21"
    assert section.locator(".then:visible").all_inner_texts() == ["↓ × W"]


def test_strips_are_read_with_the_keyboard_and_the_page_does_not_hear_it(sheet: Page, show):
    first, second = normal(9), normal(4)
    section = show(Strips((Strip("q", first, scale=2.0), Strip("k", second))))
    lines = section.get_by_role("application")
    lines.first.focus()
    for i in range(9):
        sheet.keyboard.press("ArrowRight")
        assert read(status(section)) == (f"q[{i}]", exact(first[i]))
    sheet.keyboard.press("ArrowRight")  # stays at the end
    assert read(status(section))[0] == "q[8]"
    sheet.keyboard.press("Home")
    sheet.keyboard.press("ArrowRight")
    sheet.keyboard.press("ArrowDown")  # the same place in the next strip
    assert read(status(section)) == ("k[1]", exact(second[1]))
    mark, cells = section.locator(".mark").bounding_box(), section.locator(".cells").nth(1).bounding_box()
    assert mark["x"] == pytest.approx(cells["x"] + cells["width"] / 4, abs=1.5)
    sheet.keyboard.press("End")
    assert read(status(section)) == ("k[3]", exact(second[3]))
    sheet.keyboard.press("ArrowUp")
    sheet.keyboard.press("ArrowLeft")
    assert read(status(section)) == ("q[2]", exact(first[2]))
    sheet.keyboard.press("Escape")
    assert status(section).startswith("Point at a cell") and not section.locator(".mark").count()
    low, high = (written(v, ".6g") for v in (second.min(), second.max()))
    assert lines.nth(1).get_attribute("aria-label").startswith(f"k: 4 numbers from {low} to {high}")
    assert sheet.evaluate("window.heard") == []
    sheet.keyboard.press("Control+ArrowLeft")
    sheet.keyboard.press("PageDown")
    assert sheet.evaluate("window.heard") == ["Control", "ArrowLeft", "PageDown"]


def test_a_key_is_chosen_by_mouse_and_by_keyboard(sheet: Page, show):
    block, products, scores, weights = keys()
    section = show(block, chosen=5)
    rows = section.get_by_role("option")

    def marked() -> list[int]:
        return [i for i, row in enumerate(rows.all()) if row.get_attribute("aria-selected") == "true"]

    assert marked() == [2] and status(section).startswith("“t2” (5) is chosen.")
    rows.nth(4).click()
    assert marked() == [4]
    sheet.keyboard.press("ArrowDown")
    sheet.keyboard.press("Enter")
    for _ in range(9):
        sheet.keyboard.press("ArrowUp")
    sheet.keyboard.press(" ")
    sheet.keyboard.press(" ")  # it is chosen already
    assert marked() == [0]
    assert sheet.evaluate("window.chosen") == [{"place": 7}, {"place": 8}, {"place": 3}]
    assert sheet.evaluate("window.heard") == []
    sheet.keyboard.press("Home")
    for i in range(5):
        assert read(status(section)) == (f"“t0” (3), q × k[{i}]", exact(products[0, i]))
        sheet.keyboard.press("ArrowRight")
    assert read(status(section)) == ("“t0” (3), score", exact(scores[0]))
    sheet.keyboard.press("ArrowRight")
    assert read(status(section)) == ("“t0” (3), weight", exact(weights[0]))
    words = section.locator(".cells.bar").nth(3).evaluate(SWEEP, 1)
    assert {read(word) for word in words} == {("“t3” (6), weight", exact(weights[3]))}
    section.locator(".label").nth(2).hover()
    expect(section.locator(".tip")).to_have_text(re.compile(rf"^“t2” \(5\), .*score {written(scores[2], '.3f')}, "))


def test_the_page_gets_the_place_that_was_chosen(monkeypatch):
    caught: dict = {}
    monkeypatch.setattr(module, "_steps", lambda **given: caught.update(given))
    monkeypatch.setattr(module, "chosen_in", lambda key: {"place": {"mine": 17}[key]})
    got: list[int] = []
    module.steps_view([keys()[0]], "mine", got.append, label="x")
    caught["on_choose_change"]()
    assert got == [17] and caught["key"] == "mine" and caught["data"]["chosen"] is None


def test_bars_are_as_long_as_their_numbers(show):
    values = np.array([-1.5, 0.25, 3, 0], np.float32)
    block = Keys(tuple("abcd"), (0, 1, 2, 3), (Column("score", values, "bar"), Column("share", values / 3 + 1, "bar")))
    section = show(block, Bars(tuple("wxyz"), values, marked=1, title="Heads", unit="nats"))
    low, high = -1.5, 3
    section.locator(".fill").first.evaluate("node => node.getAnimations().forEach((one) => one.finish())")
    boxes = [
        (track.bounding_box(), track.locator(".fill").bounding_box(), track.locator(".zero").is_visible())
        for track in section.locator(".track").all()
    ]
    for i, (track, fill, zero) in enumerate([*boxes[0:8:2], *boxes[8:]]):
        value = values[i % 4]
        assert fill["width"] / track["width"] == pytest.approx(abs(value) / (high - low), abs=0.01) and zero
        start = track["x"] + track["width"] * (min(value, 0) - low) / (high - low)
        assert fill["x"] == pytest.approx(start, abs=1.5)
    for value, (track, fill, zero) in zip(values / 3 + 1, boxes[1:8:2], strict=True):
        assert fill["width"] / track["width"] == pytest.approx(value / 2, abs=0.01) and not zero
        assert fill["x"] == pytest.approx(track["x"], abs=0.5)
    assert section.locator(".list .marked").inner_text().split() == ["x", "0.25", "nats"]


def test_many_bars_stand_in_columns_and_are_read_down(sheet: Page, show):
    values = normal(40)
    section = show(Bars(tuple(f"head {i}" for i in range(40)), values, 3, "Heads", unit="nats"))
    boxes = [bar.bounding_box() for bar in section.locator(".list .cells").all()]
    assert len({box["x"] for box in boxes}) == 3 and boxes[1]["y"] > boxes[0]["y"] and boxes[14]["y"] == boxes[0]["y"]
    section.get_by_role("application").focus()
    for i in range(40):
        sheet.keyboard.press("ArrowDown")
        assert status(section) == f"head {i}: {written(exact(values[i]), '.6g')} nats"
    words = section.locator(".list .cells").nth(17).evaluate(SWEEP, 1)
    assert set(words) == {f"head 17: {written(exact(values[17]), '.6g')} nats"}
    for width, columns in ((900, 2), (500, 1)):
        sheet.set_viewport_size({"width": width, "height": 900})
        expect(section.locator(".list")).to_have_attribute("style", re.compile(rf"repeat\({columns}, "))


def test_covered_numbers_are_nowhere(sheet: Page, show):
    block, products, scores, weights = keys()
    shown = Keys(block.tokens, block.places, block.columns, covered=frozenset({0, 2}))
    section = show(block)  # was open before: nothing may be left of it
    section.locator(".cells.bar").first.hover()
    show(shown)
    secrets = {f"{abs(v):{form}}" for v in (*weights, *products.reshape(-1)) for form in (".6g", ".3f", ".1%")}
    secrets -= {f"{abs(v):{form}}" for v in scores for form in (".6g", ".3f")}
    everything = "[...document.querySelector('#steps').shadowRoot.children].map((node) => node.outerHTML).join()"

    def leaked() -> set[str]:
        html = re.sub(r"<style>.*?</style>", "", sheet.evaluate(everything), flags=re.S)
        return {secret for secret in secrets if secret in html}

    assert not leaked()
    assert section.locator(".covered").all_inner_texts() == ["?"] * 14
    for cell in section.locator(".covered").all()[:4]:
        cell.hover()
        assert "covered until you have guessed" in status(section) and not leaked()
    section.get_by_role("option").first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown", "Enter"):
        sheet.keyboard.press(key)
        assert not leaked()
    assert status(section) == "“t1” (4), weight: covered until you have guessed"
    assert "weight: covered" in section.get_by_role("option").first.get_attribute("aria-description")
    show(block)
    assert section.locator(".cells.bar .value").first.inner_text() == written(weights[0], ".1%")
    assert leaked()  # so that this test would have seen them


def test_what_is_covered_is_not_sent(monkeypatch):
    block, *_ = keys()
    caught: dict = {}
    monkeypatch.setattr(module, "_steps", lambda data, key, on_choose_change: caught.update(data))
    module.steps_view([Keys(block.tokens, block.places, block.columns, covered=frozenset({0, 1, 2}))], "k", print)
    assert caught["z"].empty and all(
        set(c) == {"title", "kind", "wide", "covered", "n"} for c in caught["blocks"][0]["columns"]
    )


def test_gaps_and_infinities_are_said_and_drawn(sheet: Page, show):
    scores = np.array([0.5, -np.inf, np.nan, -3.4e38], np.float32)
    products = normal(4, 3)
    products[2], products[0, 1], products[3, 0] = np.nan, np.nan, -np.inf
    columns = (
        Column("product", products, "strip"),
        Column("bar", scores, "bar", ".3g"),
        Column("score", scores, "number", ".3g"),
    )
    section = show(Keys(tuple("abcd"), (0, 1, 2, 3), columns))
    assert section.locator(".cells.number").all_inner_texts() == ["0.5", "−∞", "—", "−3.4e+38"]
    assert section.locator(".cells.bar .value").all_inner_texts() == ["0.5", "−∞", "—", "−3.4e+38"]
    rows = section.get_by_role("option")
    assert [row.locator(".cannot-look").count() for row in rows.all()] == [0, 0, 2, 0]
    assert [row.locator(".holes").count() for row in rows.all()] == [1, 0, 1, 0]
    assert rows.nth(2).get_attribute("aria-description") == (
        "“c” (2), product: cannot look there, bar: cannot look there, score: cannot look there"
    )
    words = list(dict.fromkeys(section.locator(".cells.strip").first.evaluate(SWEEP, 1)))
    assert words[1] == "“a” (0), product[1]: cannot look there" and len(words) == 3
    pixels = np.array(section.locator(".cells.strip canvas").nth(2).evaluate(PIXELS)).reshape(-1, 4)
    assert not pixels[:, 3].any()  # the hatching shows through
    rows.nth(3).focus()
    sheet.keyboard.press("Home")
    assert read(status(section)) == ("“d” (3), product[0]", -np.inf)
    sheet.keyboard.press("End")
    assert read(status(section)) == ("“d” (3), score", exact(np.float32(-3.4e38)))
    assert section.locator(".gaps").is_visible()


def test_tokens_are_text(sheet: Page, show):
    tokens = (
        "<b>x</b>",
        "<script>window.hit = 1</script>",
        "<img src=x onerror='window.hit = 1'>",
        "a\nb",
        "$x$",
        "שלום",
    )
    block = Keys(tokens, tuple(range(6)), (Column("<i>w</i>", normal(6), "bar"),), more="<u>more</u>", title="<s>")
    section = show(block, Strips((Strip("<em>", normal(3), "<br>", then="<hr>"),)), Bars(("<p>",), normal(1)))
    assert section.locator(".keys bdi").all_inner_texts() == [*tokens[:3], "a⏎b", *tokens[4:]]
    for row in section.get_by_role("option").all():
        row.locator(".label").hover()
    assert section.locator(".blocks :is(b, i, u, s, em, br, hr, img, script)").count() == 0
    assert sheet.evaluate("window.hit") is None
    assert section.locator(".titles").inner_text().strip() == "<i>w</i>"


def turned(pairs: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """(pairs, 2) float32 and (pairs,) radians → the same as complex numbers, times e^(i angle)."""
    after = (pairs[:, 0] + 1j * pairs[:, 1]) * np.exp(1j * angles.astype(np.float64))
    return np.stack([after.real, after.imag], 1).astype(np.float32)


@pytest.mark.parametrize(("n", "lines"), [(7, 1), (70, 2)])
def test_dials_turn_each_pair_by_its_angle(sheet: Page, show, n: int, lines: int):
    before, angles = normal(n, 2), (normal(n) * 3).astype(np.float32)
    after = turned(before, angles)
    section = show(Dials("q", before, after, angles, "RoPE"))
    canvas, drawn = section.locator(".dials canvas"), min(n, 64)
    words = list(dict.fromkeys(section.locator(".cells.dials").evaluate(SWEEP, lines)))
    words = [word for word in words if word.startswith("pair")]
    assert len(words) == drawn
    for i, word in enumerate(words):
        numbers = [float(part.replace("−", "-")) for part in re.findall(r"−?[\d.]+(?:e−?\d+)?", word)]
        assert numbers == [i, *map(exact, (*before[i], angles[i], *after[i]))]
    # The strong hand points where the pair points now.
    box = canvas.evaluate("canvas => [canvas.width, canvas.height]")
    pixels = np.array(canvas.evaluate(PIXELS)).reshape(box[1], box[0], 4)
    pitch, across = box[1] // lines, -(-drawn // lines)
    wide = box[0] / across
    accent = [int(LIGHT["primary-color"][i : i + 2], 16) for i in (1, 3, 5)]
    for i in range(drawn):
        x, y = (i % across + 0.5) * wide, (i // across + 0.5) * pitch
        hand = after[i] / np.hypot(*after[i]) * (pitch / 2 - 2) * 0.6
        assert np.abs(pixels[int(y - hand[1]), int(x + hand[0]), :3].astype(int) - accent).max() < 60, i
    note = "RoPE" if n <= 64 else "RoPE, the first 64 of 70 pairs"
    assert section.locator(".note").inner_text() == note
    section.get_by_role("application").focus()
    sheet.keyboard.press("End")
    assert status(section) == words[-1]


def test_a_rerun_keeps_the_node_and_paints_only_what_changed(sheet: Page, show):
    block, products, *_ = keys()
    strips = Strips((Strip("q", normal(5)),))
    section = show(strips, block, chosen=4)
    root = section.locator(".steps")
    section.get_by_role("option").nth(2).focus()
    sheet.keyboard.press("ArrowRight")
    sheet.evaluate("document.fonts.ready")
    root.evaluate("node => (window.kept = [node, node.getRootNode().activeElement])")

    def painted() -> int:
        return int(root.get_attribute("data-blocks"))

    before = painted()
    show(strips, block, chosen=6)
    assert painted() == before and root.get_attribute("data-runs") == "2"
    assert section.get_by_role("option").nth(3).get_attribute("aria-selected") == "true"
    products[2, 0] += 1
    show(strips, block, chosen=6)
    assert painted() == before + 1
    assert status(section) == f"“t2” (5), q × k[0] = {written(exact(products[2, 0]), '.6g')}"  # still looked at
    same = "node => window.kept[0] === node && window.kept[1] === node.getRootNode().activeElement"
    assert root.evaluate(same)
    show(Bars(("a",), normal(1)), strips)  # another step: other blocks in the same picture
    assert section.locator(".block").count() == 2 and section.get_by_role("option").count() == 0
    assert root.evaluate("node => window.kept[0] === node")
    show()
    assert section.locator(".block").count() == 0


def everything(rows: int = 20) -> tuple:
    block, *_ = keys(rows, 64, more="and 10 more keys, together 3.2%", title="What “it” is compared with")
    tokens = ("<|im_start|>", "internationalisation·of·everything", *block.tokens[2:])
    columns = (*block.columns, Column("cover", normal(rows), "number"), Column("gaps", np.full(rows, np.nan), "bar"))
    pairs, angles = normal(32, 2), normal(32)
    return (
        Keys(tokens, block.places, columns, block.more, block.title, frozenset({3})),
        Strips((Strip("hidden state", normal(576), "norm 4.21", then="× W (q_proj)"), Strip("q", normal(64)))),
        Dials("q, turned", pairs, turned(pairs, angles), angles, "32 pairs"),
        Bars(tuple(f"head {i}" for i in range(32)), normal(32), 3, "Heads"),
    )


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_axe_finds_nothing(sheet: Page, show, theme: dict):
    from axe_playwright_python.sync_playwright import Axe

    section = show(*everything(), chosen=5, theme=theme)
    section.get_by_role("option").nth(2).focus()
    sheet.keyboard.press("ArrowRight")
    results = Axe().run(sheet)
    assert [(found["id"], found["nodes"]) for found in results.response["violations"]] == []


def test_it_fits_every_screen(sheet: Page, show):
    blocks = everything()
    section = show(*blocks, chosen=5)
    for width in (1920, 700, 1280):
        sheet.set_viewport_size({"width": width, "height": 900})
        expect(section.locator(".titles")).to_be_visible()
        sheet.wait_for_function(
            "w => document.querySelector('#steps').shadowRoot.querySelector('.steps').clientWidth < w", arg=width
        )
        sheet.mouse.move(width - 30, 300)
        # it paints anew in the frame after the window's change
        sheet.wait_for_function("w => document.documentElement.scrollWidth <= w", arg=width)
        right = section.locator(".cells, .note, .label").evaluate_all(
            "nodes => Math.max(...nodes.map((node) => node.getBoundingClientRect().right))"
        )
        assert right <= width
        # The labels' column ends, and what they are labels of begins, at one place in all blocks.
        starts = section.locator(".cells.strip, .cells.dials").evaluate_all(
            "nodes => [...new Set(nodes.map((node) => Math.round(node.getBoundingClientRect().left)))]"
        )
        assert len(starts) == 1
    assert section.locator(".block").first.bounding_box()["height"] <= 570
    sizes = section.locator(".blocks *").evaluate_all(
        "nodes => nodes.map((node) => parseFloat(getComputedStyle(node).fontSize))"
    )
    assert min(sizes) >= 16


def test_nothing_moves_for_those_who_asked_for_that(sheet: Page, show):
    section = show(keys()[0])
    duration = "node => getComputedStyle(node).transitionDuration"
    assert section.locator(".fill").first.evaluate(duration) == "0.12s"
    sheet.emulate_media(reduced_motion="reduce")
    assert section.locator(".fill").first.evaluate(duration) == "0s"
