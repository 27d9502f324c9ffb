"""Pictures for paper: what is drawn is what the arrays hold, captions can be read, tokens are text."""

import base64
import io
import re
import threading
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection, QuadMesh
from PIL import Image

from attention_core import Capture, HeadlightError
from attention_core.figures import colours, fonts, paper, printed
from attention_core.figures.captions import caption_of, checked_in_words
from attention_core.figures.notebook import notebook_html
from attention_core.record import SelfCheck

NASTY = ["$x_1$", "a^b_c", "\\frac{1}{2}", "<b>&amp;</b>", "中文", "שלום", "नमस्ते", "😀", "·the", "$", "%"]
ASSETS = Path(__file__).parents[1] / "assets"


def some_weights(q: int, k: int, seed: int = 0) -> np.ndarray:
    weights = np.random.default_rng(seed).dirichlet(np.full(k, 0.4), q).astype(np.float32)
    return weights


def mesh_of(figure) -> np.ndarray:
    mesh = next(c for c in figure.axes[0].collections if isinstance(c, QuadMesh))
    return np.ma.filled(mesh.get_array().astype(float), np.nan)


def svg_texts(data: bytes) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(data).iter("{http://www.w3.org/2000/svg}text")]


def one_heatmap(**more):
    tokens = NASTY[:7]
    return printed.heatmap(
        some_weights(7, 5), tokens, tokens[:5], title="Layer 2, head 1", caption="m, layer 2", **more
    )


# ── shades ──


def reference_shade(weights, log, per, cut):
    """The docstring of shades() in loops."""
    shade = np.full(weights.shape, np.nan)
    for q, row in enumerate(weights):
        for k, weight in enumerate(row):
            full = {"one": 1.0, "row": np.nanmax(row), "head": np.nanmax(weights)}[per]
            if np.isnan(weight) or weight < cut:
                continue
            part = float(weight) / float(full)
            shade[q, k] = max(0.0, 1 + np.log10(part) / 4) if log and part > 0 else (0.0 if log else part)
    return shade


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("per", ["one", "row", "head"])
@pytest.mark.parametrize("cut", [0.0, 0.05])
def test_shades_follow_the_scale(log, per, cut):
    weights = some_weights(5, 7) * np.linspace(0.3, 0.9, 5, dtype=np.float32)[:, None]
    weights[np.triu_indices(5, 3, 7)] = np.nan
    weights[4, 0] = 0.0
    shade, largest = colours.shades(weights, {"log": log, "per": per, "cut": cut})
    np.testing.assert_allclose(shade, reference_shade(weights, log, per, cut), atol=1e-6)
    assert largest == pytest.approx(np.nanmax(weights) if per == "head" else 1.0)


def test_signed_shades_keep_the_sign():
    difference = np.array([[0.5, -0.25], [-0.01, np.nan]], dtype=np.float32)
    shade, largest = colours.shades(difference, {"per": "head"}, signed=True)
    np.testing.assert_allclose(shade, [[1, -0.5], [-0.02, np.nan]], atol=1e-6)
    assert largest == 0.5
    shade, _ = colours.shades(difference, {"log": True}, signed=True)
    np.testing.assert_allclose(shade[0], [1 + np.log10(0.5) / 4, -(1 + np.log10(0.25) / 4)], atol=1e-6)


def test_rows_that_look_nowhere_draw_nothing():
    for scale in ({"per": "row"}, {"per": "head", "log": True}, {}):
        assert np.isnan(colours.shades(np.full((3, 2), np.nan, np.float32), scale)[0]).all()
        assert not colours.shades(np.zeros((3, 2), np.float32), scale)[0].any()


def test_colours_are_the_pages():
    """The page and the paper agree; common.js is read as it is."""
    script = (ASSETS / "components" / "common.js").read_text(encoding="utf-8")
    blues = re.search(r"const BLUES = \[(.*?)\]", script).group(1)
    assert re.findall("#[0-9a-f]{6}", blues) == list(colours.BLUES)
    less_more = re.search(r"LESS_MORE = \{\s*light: \[(.*?)\]", script).group(1)
    assert re.findall("#[0-9a-f]{6}", less_more) == list(colours.DIFFERENCE)
    heads = re.search(r"HEADS = \{\s*light: \{(.*?)\}", script, re.DOTALL).group(1)
    assert re.findall("#[0-9a-f]{6}", heads) == list(colours.HEADS)


# ── what is drawn ──


def test_the_heat_map_holds_the_weights():
    weights = some_weights(7, 5)
    weights[0, 3:] = np.nan
    drawn = mesh_of(printed.heatmap(weights, NASTY[:7], NASTY[:5], title="t", caption="c"))
    np.testing.assert_allclose(drawn, weights, atol=1e-6)
    cut = mesh_of(printed.heatmap(weights, NASTY[:7], NASTY[:5], title="t", caption="c", scale={"cut": 0.2}))
    assert (np.isnan(cut) == np.isnan(weights)).all()  # blank is no gap
    assert ((cut == -2.0) == (weights < 0.2)).all()


def test_gaps_are_hatched_and_said():
    weights = some_weights(3, 5)
    plain = printed.heatmap(weights, NASTY[:3], NASTY[:5], title="t", caption="c")
    assert not [p for p in plain.axes[0].patches if p.get_hatch()]
    assert "cannot look there" not in svg_texts(paper.as_bytes(plain, "svg"))
    weights[0, 4] = np.nan
    gaps = printed.heatmap(weights, NASTY[:3], NASTY[:5], title="t", caption="c", scale={"cut": 0.01})
    assert [p for p in gaps.axes[0].patches if p.get_hatch()]
    assert "cannot look there · under 0.01: left blank" in svg_texts(paper.as_bytes(gaps, "svg"))


@pytest.mark.parametrize(
    ("scale", "signed", "words"),
    [
        ({}, False, ["0", "0.25", "0.5", "0.75", "1", "weight"]),
        ({"log": True}, False, ["≤ 0.0001", "0.001", "0.01", "0.1", "1", "weight, logarithmic"]),
        ({"per": "row"}, False, ["weight ÷ row’s largest"]),
        ({"per": "head"}, True, ["difference"]),
    ],
)
def test_the_colour_bar_says_its_scale(scale, signed, words):
    texts = svg_texts(paper.as_bytes(one_heatmap(scale=scale, signed=signed), "svg"))
    assert set(words) <= set(texts)
    assert {"from ↓ (query)", "to → (key)"} <= set(texts)


def test_lines_go_from_query_to_key():
    first, second = some_weights(5, 7), some_weights(5, 7, seed=1)
    first[0, 0], second[4, 6] = np.nan, 0.0
    figure = printed.lines([first, second], ["a", "b"], NASTY[:5], NASTY[:7], title="t", caption="c", cut=0.1)
    drawn = next(c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    found = set()
    for (start, end), colour in zip(drawn.get_segments(), drawn.get_colors(), strict=True):
        assert start[0] == 0 and end[0] == 1
        head = [tuple(np.round(printed.to_rgb(c), 6)) for c in colours.HEADS].index(tuple(np.round(colour[:3], 6)))
        found.add((head, int(start[1] - 0.5), int(end[1] - 0.5)))
    wanted = {
        (n, int(q), int(k)) for n, w in enumerate((first, second)) for q, k in np.argwhere(np.nan_to_num(w) >= 0.1)
    }
    assert found == wanted
    texts = svg_texts(paper.as_bytes(figure, "svg"))
    assert {"a", "b", "from (query)", "to (key)"} <= set(texts)
    assert "Lines under 0.1 are not drawn." in " ".join(texts)


def test_too_many_lines_are_left_out_and_said(monkeypatch):
    monkeypatch.setattr(printed, "MOST_LINES", 10)
    weights = some_weights(5, 7)
    figure = printed.lines([weights], ["a"], NASTY[:5], NASTY[:7], title="t", caption="c")
    drawn = next(c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    strongest = np.sort(weights.ravel())[-10:]
    np.testing.assert_allclose(drawn.get_linewidths(), 0.4 + 1.8 * strongest, atol=1e-5)
    words = " ".join(" ".join(svg_texts(paper.as_bytes(figure, "svg"))).split())
    assert "Only the 10 strongest lines are drawn; 25 weaker ones are not." in words


def test_bars_are_the_heaviest_keys():
    weights = some_weights(1, 20)[0]
    weights[3] = np.nan
    tokens = [f"t{k}" for k in range(20)]
    figure = printed.bars(weights, tokens, title="t", caption="c", uniform=1 / 19)
    order = [int(k) for k in np.argsort(-weights, kind="stable")[:12]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [f"t{k}  {k}" for k in order]
    np.testing.assert_allclose([bar.get_width() for bar in figure.axes[0].patches], weights[order], atol=1e-6)
    rest = np.nansum(weights) - weights[order].sum()
    assert f"7 more tokens have {rest:.1%} together." in " ".join(svg_texts(paper.as_bytes(figure, "svg")))


def test_the_curve_is_the_weight_by_distance():
    distances, weights = np.arange(5), np.array([0.5, 0.25, 0.125, 0.1, 0.025])
    line = printed.curve(distances, weights, title="t", caption="c").axes[0].lines[0]
    assert line.get_xdata().tolist() == distances.tolist() and line.get_ydata().tolist() == weights.tolist()


def test_the_grid_has_every_head():
    thumbnails = [some_weights(5 * 3, 7).reshape(5, 3, 7), some_weights(2 * 3, 7).reshape(2, 3, 7)]
    figure = printed.grid(thumbnails, ["layer 0", "layer 1"], title="t", caption="c")
    drawn = [image.get_array() for image in figure.axes[0].images]
    np.testing.assert_allclose(np.stack(drawn), np.concatenate(thumbnails), atol=1e-6)


# ── files ──


@pytest.mark.parametrize("form", paper.FORMS)
def test_equal_pictures_make_equal_files(form):
    data = paper.as_bytes(one_heatmap(row=3), form)
    assert data == paper.as_bytes(one_heatmap(row=3), form)
    assert data.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[form])


def test_the_caption_and_the_tokens_can_be_read_from_the_svg():
    caption = "a model, layer 2, head 1. Text: “" + "many words and $x_1$ " * 30 + "”."
    figure = printed.heatmap(some_weights(11, 11), NASTY, NASTY, title="Why $x_1^2$?", caption=caption, row=2)
    data = paper.as_bytes(figure, "svg")
    texts = svg_texts(data)
    for token in NASTY:
        assert texts.count(token) == 2, token  # a row and a column, letter for letter
    assert "Why $x_1^2$?" in texts
    assert " ".join(caption.split()) in " ".join(texts)
    described = ET.fromstring(data).find(".//{http://purl.org/dc/elements/1.1/}description")
    assert described.text == " ".join(caption.split())
    assert data.count(b"<image") == 1  # the colour bar; cells are vectors


def test_nothing_warns_and_every_script_is_drawn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for form in paper.FORMS:
            paper.as_bytes(printed.heatmap(some_weights(11, 11), NASTY, NASTY, title="中文 $x", caption="😀"), form)


def test_fonts_fall_back_only_where_they_must():
    assert fonts.families("plain · ‹E2› ⏎") == [fonts.FIRST]
    strange = fonts.families("x\U00013000\U0003fffd")  # a hieroglyph, and what is no letter at all
    assert strange[0] == fonts.FIRST and strange[-1] == fonts.LAST


@pytest.mark.parametrize("tokens", [1, 2, 30, 100, 256])
def test_labels_never_touch_and_stay_on_the_sheet(tokens):
    names = [f"·token{n}" for n in range(tokens)]
    figure = printed.heatmap(some_weights(tokens, tokens), names, names, title="t", caption="c " * 200, row=tokens // 2)
    renderer = figure.canvas.get_renderer()
    axes, texts = figure.axes[0], figure.axes[0].texts
    extents = {t: t.get_window_extent(renderer) for t in texts}
    rows = sorted((e for t, e in extents.items() if t.get_ha() == "right" and t.xy[1] != 1), key=lambda e: e.y0)
    assert len(rows) >= min(tokens, 30)
    assert all(low.y1 <= high.y0 + 2.5 for low, high in zip(rows, rows[1:], strict=False))  # leading, not letters
    sheet, picture = figure.bbox, axes.get_window_extent(renderer)
    for text, extent in extents.items():
        assert sheet.x0 <= extent.x0 and extent.x1 <= sheet.x1 and extent.y1 <= sheet.y1, text
        assert extent.x1 <= picture.x0 or extent.y0 >= picture.y1 - 1, text  # beside or above the cells
    title, caption = (next(t for t in figure.texts if t.get_gid() == name) for name in ("title", "caption"))
    low = [a.get_window_extent(renderer).y0 for a in figure.axes]
    assert caption.get_window_extent(renderer).y1 < min(low)
    assert title.get_window_extent(renderer).y0 > max(e.y1 for e in extents.values()) - 1
    assert caption.get_window_extent(renderer).x1 <= sheet.x1


def test_threads_may_draw_at_once():
    wanted, found = paper.as_bytes(one_heatmap(row=1), "svg"), []
    threads = [threading.Thread(target=lambda: found.append(paper.as_bytes(one_heatmap(row=1), "svg"))) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 4


def test_no_window_is_ever_needed():
    """pyplot keeps figures in one list for all threads, and may open windows."""
    folder = Path(printed.__file__).parent
    assert not [file.name for file in folder.glob("*.py") if "import pyplot" in file.read_text(encoding="utf-8")]
    assert not [file.name for file in folder.glob("*.py") if "matplotlib.pyplot" in file.read_text(encoding="utf-8")]


def test_there_is_no_other_form():
    with pytest.raises(HeadlightError, match="choose png, svg, pdf"):
        paper.as_bytes(one_heatmap(), "gif")


# ── in words ──


def test_the_caption_names_what_was_seen(small):
    cap = small.capture("The old king.")
    assert caption_of(cap, 2, 1) == "small, layer 2, head 1. Text: “The old king.”."
    assert caption_of(cap, 2, None, ["One.", "Two."]) == "small, every head. Text: “The old king.”. One. Two."
    long = caption_of(small.capture("word " * 200), 0, 0)
    assert len(long) < 300 and long.endswith("…”.")
    bare = Capture(output=None, layers=cap.layers, check=cap.check, tokens=["a", "b"], name="m", revision="abc")
    assert caption_of(bare, 0, 3) == "m (revision abc), layer 0, head 3. Tokens: a b."


def test_the_check_is_said_as_measured(small):
    cap = small.capture("The old king.")
    assert f"{cap.check.weights:.1e}" in checked_in_words(cap) and f"{cap.check.output:.1e}" in checked_in_words(cap)
    alone = SelfCheck(0.0, 0.0, "eager", reason="It never hands them out.")
    words = checked_in_words(Capture(output=None, layers=cap.layers, check=alone))
    assert words == "The weights are those that the model itself returns. It never hands them out."


# ── in a notebook ──


def test_a_notebook_shows_the_page_or_a_picture(small, monkeypatch):
    cap = small.capture("The old <b>king</b>.")
    shown = cap._repr_html_()
    assert shown == notebook_html(cap) and shown.startswith("<iframe srcdoc=") and 'sandbox="allow-scripts"' in shown
    assert "<script" not in shown and shown.count('"') == 12  # the page is one attribute, whatever is in it
    monkeypatch.setattr("attention_core.figures.notebook.PAGE_UP_TO", 1000)
    still = cap._repr_html_()
    assert still.startswith('<img src="data:image/png;base64,') and "The old &lt;b&gt;king&lt;/b&gt;." in still
    picture = Image.open(io.BytesIO(base64.b64decode(still.split("base64,")[1].split('"')[0])))
    assert min(picture.size) > 400
