"""How large a key-value cache is and becomes: as sentences, plotly curves and bars, and tables.

A figure's words are its alternative text, and it has a table of the same numbers; no two curves differ in colour alone.
Knows nothing about pages, and runs no model.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
from transformers import PreTrainedConfig

from ..cache_size import ATTENTIONS, CacheReport, as_attention
from ..roofline import DEVICES, Device
from .growing import DOUBLING, FEWEST, MOST, WIDTHS, Growing, amount
from .step import Table

DRAWN = ("Llama 2 7B", "Llama 3.1 8B", "Gemma 3 27B", "DeepSeek V3")  # one of each kind: MHA, GQA, windows, MLA
DASHES = ("dash", "dot", "longdash", "dashdot", "longdashdot")
IN_WORDS = {
    "MHA": "multi-head: every query head keeps keys and values of its own",
    "GQA": "grouped-query: a group of query heads shares keys and values",
    "MQA": "multi-query: all query heads share one of each",
    "MLA": "latent: one compressed vector a token, for all heads",
}
UNSAID = "its sizes do not say how this would be built"
SIZE = 15  # of letters
PLAIN = {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)"}


@dataclass(frozen=True)
class Colours:
    """What a figure is drawn in, and what it lies on."""

    text: str
    accent: str
    other: str
    ground: str

    @property
    def font(self) -> dict[str, Any]:
        return {"size": SIZE, "color": self.text} if self.text else {"size": SIZE}


LIGHT = Colours("#31333f", "#0b5c8a", "#6b7280", "#ffffff")
DARK = Colours("#fafafa", "#7cc4f2", "#9ca3af", "#171614")
EITHER = Colours(
    "", "#2a87c2", "#7f858d", "rgba(0,0,0,0)"
)  # seen on both: at least 3.7 : 1, letters in the page's colour
ACCENT, GREY, FONT = EITHER.accent, EITHER.other, EITHER.font


# ── measured = computed ─────────────────────────────────────────────────────────────────────────────────────────────


def measured_in_words(report: CacheReport, bits: int, measured: int) -> tuple[str, list[str]]:
    """Whether the bytes of a real cache are those of the equation, and the equation with its numbers filled in."""
    computed = report.bytes[bits]
    if measured != computed:
        apart = abs(measured - computed)
        title = f"{measured:,} bytes measured, but {computed:,} bytes computed"
        return title, [f"{report.equations[bits]}: {apart:,} bytes apart. The measured number is what is really there."]
    return f"{measured:,} bytes measured = {computed:,} bytes computed", [report.equations[bits] + "."]


def factors_in_words(report: CacheReport, bits: int) -> str:
    """Where the factors of the equation come from."""
    rows = [layer for layer in report.layers if layer.kind != "none"]
    if not rows:
        return "No layer of this model keeps keys and values."
    widths = {(layer.row.key_width, layer.row.value_width) for layer in rows}
    key, value = widths.pop() if len(widths) == 1 else (0, 0)
    if any(layer.kind == "latent" for layer in rows):
        long, turned = (f" of {key} numbers", f" of {value}") if key else ("", "")
        said = f"Every token leaves a compressed vector{long} and a rotated key{turned} in every layer for all heads"
    else:
        sizes = f" of {key} numbers each" if key == value and key else ""
        said = f"Every token leaves a key and a value{sizes} in every layer, for each key-value head"
    newest = " A layer with a window keeps the newest tokens alone." if any(layer.window for layer in rows) else ""
    return f"{said}; a number takes {bits // 8} bytes here.{newest}"


def kept_otherwise(report: CacheReport, bits: int, state_bytes: int = 0) -> list[str]:
    """Layers that keep no rows, or something beside them; and where the architecture's paper keeps other rows."""
    said = []
    if report.silent:
        states = f" Beside keys and values the model keeps {state_bytes:,} bytes." if state_bytes else ""
        said.append("Not every layer keeps keys and values alone. " + ". ".join(report.silent) + "." + states)
    if report.differences:
        paper = f"By the paper the cache would have {report.paper_bytes[bits]:,} bytes."
        said.append(" ".join([*report.differences, paper]))
    return said


# ── the curve ───────────────────────────────────────────────────────────────────────────────────────────────────────


def growth_curve(
    models: Sequence[Growing], tokens: int, bits: int, batch: int, device: Device, colours: Colours = EITHER
) -> go.Figure:
    """Bytes over tokens, both logarithmic; the first model in colour, real devices as lines across."""
    grid = np.unique(np.geomspace(FEWEST, MOST, 121).round().astype(np.int64))
    figure = go.Figure()
    curves = [model.numbers(grid) * batch * bits / 8 for model in models]
    for place, (model, curve) in enumerate(zip(models, curves, strict=True)):
        first = place == 0
        colour = colours.accent if first else colours.other
        line = {"width": 4} if first else {"width": 2, "dash": DASHES[(place - 1) % len(DASHES)]}
        here = model.bytes(tokens, bits, batch)
        figure.add_scatter(
            x=grid,
            y=curve.astype(np.float32),
            mode="lines",
            line={"color": colour, **line},
            customdata=[amount(size) for size in curve],
            hovertemplate="%{x:,} tokens: %{customdata}",
            name=html.escape(model.name),
        )
        figure.add_scatter(
            x=[tokens],
            y=np.array([here], dtype=np.float32),
            mode="markers",
            marker={"color": colour, "size": 13 if first else 9, "opacity": 1},
            customdata=[amount(here)],
            hovertemplate="%{x:,} tokens: %{customdata}",
            name=html.escape(model.name),
            showlegend=False,
        )
    low, high = _reach([curve for curve in curves if curve[-1]])
    _devices(figure, device, colours)
    ends = np.log10([max(curve[-1], 10**low) for curve in curves])
    for place, (model, at) in enumerate(zip(models, _apart(ends, (high - low) / 22), strict=True)):
        text = f"<b>{html.escape(model.name)}</b>" if place == 0 else model.name
        figure.add_annotation(
            x=1.0, xref="paper", y=at, text=text, xanchor="left", xshift=8, showarrow=False, font=colours.font
        )
    figure.add_vline(x=tokens, line={"color": colours.accent, "width": 1})
    ticks = [2**power for power in range(0, 60, 5)]
    figure.update_yaxes(
        type="log",
        range=[low, high],
        title=f"bytes of the cache, {WIDTHS[bits]}",
        tickvals=ticks,
        ticktext=[amount(tick) for tick in ticks],
    )
    figure.update_xaxes(
        type="log",
        range=[np.log10(FEWEST), np.log10(MOST)],
        title="tokens in the cache" + (f", in each of {batch:,} texts" if batch > 1 else ""),
        tickvals=[*(8**power for power in range(1, 7)), MOST],
        ticktext=[*(f"{8**power:,}" for power in range(1, 7)), f"{MOST:,}"],
    )
    return laid_out(figure, 560, 150, colours)


def _reach(curves: Sequence[np.ndarray]) -> tuple[float, float]:
    """From the smallest cache of eight tokens to the largest of a million or device, as powers of 10."""
    sizes = [device.bytes for device in DEVICES] + [curve[-1] for curve in curves]
    lowest = min((curve[0] for curve in curves), default=1.0)
    return float(np.log10(lowest)), float(np.log10(max(sizes))) + 0.3


def _devices(figure: go.Figure, chosen: Device, colours: Colours) -> None:
    """A line across for each size of memory, its names on it; neighbours take turns at two places."""
    for place, size in enumerate(sorted({device.bytes for device in DEVICES})):
        same = [device for device in DEVICES if device.bytes == size]
        line = {"color": colours.accent, "width": 2} if chosen in same else {"color": colours.other, "width": 1}
        figure.add_hline(y=size, line=line | {"dash": "2px,5px"})
        figure.add_annotation(
            x=0.01 if place % 2 == 0 else 0.24,
            xref="paper",
            y=np.log10(size),
            text=f"{', '.join(short(device).removesuffix(' 80 GB') for device in same)}: {same[0].gib:g} GB",
            xanchor="left",
            bgcolor=colours.ground,
            borderpad=0,
            showarrow=False,
            font=colours.font,
        )


def short(device: Device) -> str:
    """ "H100" of "H100 (SXM)"."""
    return device.name.split(" (")[0]


def _apart(places: np.ndarray, gap: float) -> list[float]:
    """The same places, no two closer than the gap: halfway between moving the upper ones up and the lower ones down."""
    order = np.argsort(places)
    up, down = places.astype(float), places.astype(float)
    for below, above in pairwise(order):
        up[above] = max(up[above], up[below] + gap)
    for above, below in pairwise(order[::-1]):
        down[below] = min(down[below], down[above] - gap)
    return ((up + down) / 2).tolist()


def growth_in_words(model: Growing, tokens: int, bits: int, batch: int, device: Device) -> list[str]:
    size = model.bytes(tokens, bits, batch)
    texts = f" for each of {batch:,} texts" if batch > 1 else ""
    said = [f"In {WIDTHS[bits]} and with {tokens:,} tokens{texts}, the cache of {model.name} takes {amount(size)}."]
    full = model.full_at(device.bytes, bits, batch)
    if not size:
        return said
    if full < MOST:
        said.append(f"{device.name}: its {device.gib:g} GB of memory are full of it at {full:,} tokens.")
    else:
        said.append(f"A million tokens have room in the {device.gib:g} GB of memory of {device.name}.")
    if model.context is not None and tokens > model.context:
        said.append(f"{model.name} reads at most {model.context:,} tokens: beyond them this is arithmetic alone.")
    return said


def growth_table(models: Sequence[Growing], tokens: int, bits: int, batch: int) -> Table:
    """The curve in numbers: one row a doubling."""
    marks = sorted({tokens, *DOUBLING})
    rows = [(f"{mark:,}", *(amount(model.bytes(mark, bits, batch)) for model in models)) for mark in marks]
    return Table(("tokens", *(model.name for model in models)), tuple(rows))


# ── one model, four kinds of attention ──────────────────────────────────────────────────────────────────────────────


def kinds(config: PreTrainedConfig, tokens: int, bits: int, batch: int, encoder_tokens: int | None) -> dict[str, Any]:
    """Bytes by kind of attention; None where the config does not say how."""
    return {kind: as_attention(config, kind, tokens, bits, batch, encoder_tokens) for kind in ATTENTIONS}


def kinds_bars(sizes: dict[str, Any], own: str, colours: Colours = EITHER) -> go.Figure:
    """Bytes of one model's cache with each kind of attention, its own in colour."""
    names = [kind + (" (its own)" if kind == own else "") for kind in sizes]
    largest = max((size for size in sizes.values() if size), default=1)
    trace = go.Bar(
        x=np.array([size or 0 for size in sizes.values()], dtype=np.float32),
        y=names,
        orientation="h",
        text=[UNSAID if size is None else amount(size) for size in sizes.values()],
        textposition="outside",
        textfont=colours.font,
        cliponaxis=False,
        marker={
            "color": [colours.accent if kind == own else colours.other for kind in sizes],
            "pattern": {"shape": ["" if kind == own else "/" for kind in sizes], "fillmode": "replace"},
        },
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    figure = go.Figure(trace)
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(range=[0, largest * 1.25], visible=False)
    return laid_out(figure, 300, colours=colours)


def kinds_in_words(sizes: dict[str, Any], own: str) -> list[str]:
    """The kind that the model uses against the largest."""
    said = [f"It uses {own}, {IN_WORDS[own]}."] if own in IN_WORDS else []
    if sizes.get(own) and sizes["MHA"] and own != "MHA":
        said.append(f"MHA would take {sizes['MHA'] / sizes[own]:.3g} times as many bytes.")
    elif own == "MHA" and sizes["MQA"]:
        said.append(f"That is {sizes['MHA'] / sizes['MQA']:.3g} times as many bytes as MQA would take.")
    return said


def kinds_table(sizes: dict[str, Any]) -> Table:
    rows = [(kind, IN_WORDS[kind], UNSAID if size is None else f"{size:,}") for kind, size in sizes.items()]
    return Table(("kind", "what is kept", "bytes"), tuple(rows))


def laid_out(figure: go.Figure, height: int, right: int = 10, colours: Colours = EITHER) -> go.Figure:
    margin = {"l": 10, "r": right, "t": 10, "b": 10}
    figure.update_xaxes(tickfont=colours.font, title_font=colours.font)
    figure.update_yaxes(tickfont=colours.font, title_font=colours.font)
    return figure.update_layout(height=height, margin=margin, font=colours.font, showlegend=False, **PLAIN)
