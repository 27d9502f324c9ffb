"""Pictures for paper: a head as heat map or lines, a row as bars, weight by distance, all heads in small.

Arrays and labels → matplotlib figures on white; paper.as_bytes() saves them. Knows nothing about models or pages.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from . import fonts, paper
from .colours import BLUES, DECADES, DIFFERENCE, HEADS, Scale, shades
from .paper import ACCENT, LABEL, LINE, MUTED, TEXT, Sheet

VECTORS_UP_TO = 64 * 64  # cells; more are drawn as pixels, or the file would be huge
MOST_LINES = 4000
MOST_BARS = 12


def heatmap(
    weights: np.ndarray,
    query_tokens: list[str],
    key_tokens: list[str],
    *,
    title: str,
    caption: str,
    row: int | None = None,
    scale: Scale | None = None,
    signed: bool = False,
) -> Figure:
    """One head: (q, k) float32 weights, NaN where a query may not look (hatched); signed: a difference of two heads."""
    queries, keys = weights.shape
    family = paper.families_for(title, caption, *query_tokens, *key_tokens, "↓→·…")
    rows, columns = paper.labels(query_tokens), paper.labels(key_tokens)
    pitch = min(0.3, max(9.5 / max(queries, keys), 0.04))
    slanted = pitch >= 0.24
    row_room = max(paper.text_width([*rows, "from ↓ (query)"], LABEL, family, fonts.bold(family)))
    column_widths = paper.text_width(columns, LABEL, family)
    lean = 0.71 if slanted else 1.0
    top = lean * max(column_widths) + 0.45
    over = [w * lean - (keys - k - 0.5) * pitch for k, w in enumerate(column_widths)] if slanted else [0.0]
    right = max(0.2, max(over) + 0.1)
    margins = (row_room + 0.12, right + 0.95, top, 0.34)
    page = paper.sheet(keys * pitch, queries * pitch, margins, title, caption, family)
    mesh = _cells(page.axes, weights, pitch, scale, signed)
    _row_labels(page, rows, pitch, row)
    _column_labels(page, columns, pitch, slanted)
    paper.label(page, "from ↓ (query)", (0, 1), (-7, 6), coords="axes fraction", ha="right", color=MUTED)
    paper.label(page, "to → (key)", (0, 1), (0, 72 * (top - 0.2)), coords="axes fraction", color=MUTED)
    if row is not None:
        edge = Rectangle((0, row), keys, 1, fill=False, edgecolor=ACCENT, linewidth=1.6, clip_on=False, zorder=4)
        page.axes.add_patch(edge)
    _colour_bar(page, mesh, right, scale or {}, shades(weights, scale, signed)[1], signed)
    _legend_of_gaps(page, weights, (scale or {}).get("cut", 0.0))
    return page.figure


def _cells(axes: Axes, weights: np.ndarray, pitch: float, scale: Scale | None, signed: bool):
    """The cells, over a ground that is hatched where a query may not look."""
    queries, keys = weights.shape
    gaps, many = np.isnan(weights), weights.size > VECTORS_UP_TO
    axes.set(xlim=(0, keys), ylim=(queries, 0), xticks=[], yticks=[])
    axes.spines[:].set(color=LINE, linewidth=0.8)
    if gaps.any():
        axes.add_patch(_hatched((0, 0), keys, queries, 0))
    shade, _ = shades(weights, scale, signed)
    shade = np.where(np.isnan(shade) & ~gaps, -2.0, shade)  # under the cut: blank, but no gap
    colours = LinearSegmentedColormap.from_list("weights", DIFFERENCE if signed else BLUES).with_extremes(under="white")
    edges = {"edgecolors": "white", "linewidth": 0.5} if pitch >= 0.1 and not many else {"edgecolors": "none"}
    mesh = axes.pcolormesh(np.ma.masked_array(shade, gaps), cmap=colours, rasterized=many, **edges)
    mesh.set_clim(-1.0 if signed else 0.0, 1.0)
    return mesh


def _hatched(corner: tuple[float, float], width: float, height: float, edge: float) -> Rectangle:
    """A ground that says: cannot look there."""
    return Rectangle(corner, width, height, facecolor="white", edgecolor=LINE, hatch="////", linewidth=edge)


def _row_labels(page: Sheet, rows: list[str], pitch: float, chosen: int | None) -> None:
    for q in _shown(len(rows), pitch, chosen):
        look = {"weight": page.bold, "color": ACCENT} if q == chosen else {}
        paper.label(page, rows[q], (0, q + 0.5), (-5, 0), ha="right", va="center_baseline", **look)


def _shown(count: int, pitch: float, kept: int | None) -> list[int]:
    """The labels that have room, and always `kept`, which pushes its neighbours away."""
    room = paper.every(count, pitch)
    return [i for i in room if kept is None or i == kept or abs(i - kept) >= room.step] + (
        [kept] if kept is not None and kept % room.step else []
    )


def _column_labels(page: Sheet, columns: list[str], pitch: float, slanted: bool) -> None:
    upright = {"rotation": 90, "ha": "center", "va": "bottom"}
    leaning = {"rotation": 45, "ha": "left", "va": "baseline", "rotation_mode": "anchor"}
    for k in paper.every(len(columns), pitch):
        paper.label(page, columns[k], (k + 0.5, 0), (0, 5), **(leaning if slanted else upright))


def _colour_bar(page: Sheet, mesh, right: float, scale: Scale, largest: float, signed: bool) -> None:
    """To the right of the map: which colour is which weight."""
    box = page.axes.get_position()
    height = min(box.height, page.y(2.4))
    bar_axes = page.figure.add_axes((box.x1 + page.x(right), box.y1 - height, page.x(0.13), height))
    bar = page.figure.colorbar(mesh, cax=bar_axes)
    if bar.solids is not None:
        bar.solids.set_edgecolor("face")
    bar.outline.set(color=LINE, linewidth=0.8)
    places = np.array([-1, -0.5, 0, 0.5, 1] if signed else [0, 0.25, 0.5, 0.75, 1])
    bar.set_ticks(list(places), labels=[_tick(float(at), scale, largest) for at in places])
    bar_axes.tick_params(labelsize=7, color=LINE, labelcolor=MUTED, length=3)
    what = "difference" if signed else "weight"
    said = {"one": what, "head": what, "row": f"{what} ÷ row’s largest"}[scale.get("per", "one")]
    bar.set_label(said + (", logarithmic" if scale.get("log") else ""), size=LABEL, color=MUTED)


def _tick(at: float, scale: Scale, largest: float) -> str:
    if not scale.get("log"):
        return f"{at * largest:.3g}"
    if at == 0:
        return f"≤ {largest * 10.0**-DECADES:.2g}"
    return f"{'−' if at < 0 else ''}{largest * 10.0 ** (DECADES * (abs(at) - 1)):.2g}"


def _legend_of_gaps(page: Sheet, weights: np.ndarray, cut: float) -> None:
    box, words = page.axes.get_position(), []
    y, x = box.y0 - page.y(0.27), box.x0
    if np.isnan(weights).any():
        page.figure.add_artist(_hatched((x, y), page.x(0.24), page.y(0.13), 0.8))
        words.append("cannot look there")
        x += page.x(0.31)
    if cut > 0:
        words.append(f"under {cut:g}: left blank")
    page.figure.text(x, y + page.y(0.02), " · ".join(words), size=LABEL, color=MUTED, family=page.family)


def lines(
    weights: list[np.ndarray],
    names: list[str],
    query_tokens: list[str],
    key_tokens: list[str],
    *,
    title: str,
    caption: str,
    row: int | None = None,
    cut: float = 0.0,
) -> Figure:
    """Heads as lines from the query tokens (left) to the key tokens (right), the stronger the darker and wider.

    weights: one (q, k) float32 per head, NaN for gaps; names: one per head. row: its lines stand out.
    """
    count = max(len(query_tokens), len(key_tokens))
    family = paper.families_for(title, caption, *names, *query_tokens, *key_tokens, "↓→·…")
    left, right = paper.labels(query_tokens), paper.labels(key_tokens)
    pitch = min(0.21, max(9.5 / count, 0.04))
    width = min(4.2, max(2.6, 0.45 * count * pitch))
    room = [
        max(paper.text_width([*side, "from (query)"], LABEL, family, fonts.bold(family))) + 0.15
        for side in (left, right)
    ]
    segments, colours, widths, left_out = _segments(weights, row, cut)
    said = [f"Lines under {cut:g} are not drawn."] if cut > 0 else []
    if left_out:
        said.append(f"Only the {MOST_LINES:,} strongest lines are drawn; {left_out:,} weaker ones are not.")
    legend = len(names) > 1
    below = 0.12 + (0.2 * -(-len(names) // 3) if legend else 0.0)
    margins = (room[0], room[1], 0.26, below)
    page = paper.sheet(width, count * pitch, margins, title, " ".join([caption, *said]), family)
    page.axes.set(xlim=(0, 1), ylim=(count, 0))
    page.axes.set_axis_off()
    page.axes.add_collection(
        LineCollection(segments, colors=colours, linewidths=widths, capstyle="round", rasterized=len(segments) > 2000)
    )
    for x, tokens, side, gap in ((0, left, "right", -5), (1, right, "left", 5)):
        for n in _shown(len(tokens), pitch, row if x == 0 else None):
            look = {"weight": page.bold, "color": ACCENT} if x == 0 and n == row else {}
            paper.label(page, tokens[n], (x, n + 0.5), (gap, 0), ha=side, va="center_baseline", **look)
        word = "from (query)" if x == 0 else "to (key)"
        paper.label(page, word, (x, 1), (gap, 6), coords="axes fraction", ha=side, color=MUTED)
    if legend:
        handles = [Line2D([], [], color=HEADS[n % len(HEADS)], linewidth=2) for n in range(len(names))]
        shown = page.figure.legend(
            handles, names, loc="upper center", bbox_to_anchor=(0.5, page.axes.get_position().y0 - page.y(0.04)),
            ncols=3, frameon=False, prop={"size": LABEL, "family": family}, labelcolor=TEXT, borderpad=0,
        )  # fmt: skip
        for text in shown.get_texts():
            text.set_parse_math(False)
    return page.figure


def _segments(weights: list[np.ndarray], row: int | None, cut: float):
    """The lines to draw, weakest first: ends, colours, widths; and how many weaker ones there was no room for."""
    found = []
    for n, head in enumerate(weights):
        q, k = np.nonzero((np.nan_to_num(head) >= cut) & (np.nan_to_num(head) > 0))
        found.append(np.stack([q, k, np.full(len(q), n), head[q, k]], axis=1))
    every = np.concatenate(found)
    every = every[np.argsort(every[:, 3], kind="stable")][-MOST_LINES:]
    left_out = sum(map(len, found)) - len(every)
    q, k, n, strength = every.T
    ends = np.stack([np.stack([np.zeros_like(q), q + 0.5], 1), np.stack([np.ones_like(k), k + 0.5], 1)], 1)
    palette = np.array([to_rgb(colour) for colour in HEADS])
    alpha = np.clip(strength, 0.03, 1) * (0.9 if row is None else np.where(q == row, 1.0, 0.12))
    colours = np.concatenate([palette[n.astype(int) % len(HEADS)], alpha[:, None]], axis=1)
    return ends, colours, 0.4 + 1.8 * strength, left_out


def curve(distances: np.ndarray, weights: np.ndarray, *, title: str, caption: str) -> Figure:
    """Weight by token distance: (n,) distances and the (n,) weights that rows put there on average."""
    page = paper.sheet(4.6, 2.3, (0.6, 0.15, 0.1, 0.55), title, caption, paper.families_for(title, caption))
    page.axes.fill_between(distances, weights, color=ACCENT, alpha=0.16, linewidth=0)
    marker = "o" if len(weights) < 40 else ""
    page.axes.plot(distances, weights, color=ACCENT, linewidth=1.5, marker=marker, markersize=3)
    page.axes.set_ylim(bottom=0)
    page.axes.margins(x=0.02)
    _plain_axes(page, "distance in tokens", "weight")
    return page.figure


def bars(weights: np.ndarray, tokens: list[str], *, title: str, caption: str, uniform: float | None = None) -> Figure:
    """One row: (k,) weights, NaN for gaps, as bars, heaviest first; uniform: the dashed line “no preference”."""
    order = [int(k) for k in np.argsort(-weights, kind="stable") if not np.isnan(weights[k])]
    shown, rest = order[:MOST_BARS], order[MOST_BARS:]
    note = f"{len(rest):,} more tokens have {float(weights[rest].sum()):.1%} together." if rest else ""
    family = paper.families_for(title, caption, *tokens, "…")
    names = [f"{label}  {k}" for label, k in zip(paper.labels([tokens[k] for k in shown]), shown, strict=True)]
    room = max(paper.text_width(names or [""], LABEL, family)) + 0.15
    words = f"{caption} {note}".strip()
    page = paper.sheet(3.6, max(0.22 * len(shown), 0.22), (room, 0.55, 0.1, 0.5), title, words, family)
    heights = weights[shown]
    page.axes.barh(range(len(shown)), heights, height=0.7, color=ACCENT)
    page.axes.set(ylim=(max(len(shown), 1) - 0.4, -0.6), yticks=range(len(shown)))
    page.axes.set_xlim(0, max([*heights, uniform or 0.0, 1e-6]) * 1.02)
    page.axes.set_yticklabels(names, family=family, parse_math=False)
    for n, weight in enumerate(heights):
        coords = page.axes.get_yaxis_transform()
        paper.label(page, f"{weight:.1%}", (1, n), (36, 0), coords=coords, ha="right", va="center_baseline")
    if uniform:
        page.axes.axvline(uniform, color=TEXT, linewidth=0.9, linestyle=(0, (3, 2)))
    _plain_axes(page, "weight" + ("  (dashed: no preference)" if uniform else ""), "")
    return page.figure


def _plain_axes(page: Sheet, x: str, y: str) -> None:
    page.axes.spines[["top", "right"]].set_visible(False)
    page.axes.spines[["left", "bottom"]].set(color=LINE)
    page.axes.tick_params(labelsize=LABEL, color=LINE, labelcolor=TEXT)
    page.axes.set_xlabel(x, size=LABEL, color=MUTED)
    page.axes.set_ylabel(y, size=LABEL, color=MUTED)


def grid(thumbnails: Sequence[np.ndarray], names: Sequence[str], *, title: str, caption: str) -> Figure:
    """Every head in small, a row per entry: one (heads, rows, columns) array each, as Capture.thumbnails() gives."""
    heads = max(len(entry) for entry in thumbnails)
    family = paper.families_for(title, caption, *names)
    cell = min(0.6, 7.5 / max(heads, len(names)))
    room = max(paper.text_width([*names, "head →"], LABEL, family)) + 0.15
    page = paper.sheet(heads * cell, len(names) * cell, (room, 0.1, 0.25, 0.1), title, caption, family)
    page.axes.set(xlim=(0, heads), ylim=(len(names), 0))
    page.axes.set_axis_off()
    colours = LinearSegmentedColormap.from_list("weights", BLUES)
    gap = 0.04
    for entry, maps in enumerate(thumbnails):
        for head, one in enumerate(maps):
            place = (head + gap, head + 1 - gap, entry + 1 - gap, entry + gap)
            page.axes.imshow(one, colours, extent=place, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    page.axes.set(xlim=(0, heads), ylim=(len(names), 0))
    for n in paper.every(len(names), cell):
        paper.label(page, names[n], (0, n + 0.5), (-5, 0), ha="right", va="center_baseline")
    for n in paper.every(heads, cell, LABEL * 1.6):
        paper.label(page, str(n), (n + 0.5, 0), (0, 4), ha="center", color=MUTED)
    paper.label(page, "head →", (0, 0), (-5, 4), ha="right", color=MUTED)
    return page.figure
