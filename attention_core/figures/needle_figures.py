"""A needle farther and farther back, found or not, and by which heads: as plotly figures, in sentences and as tables.

Knows nothing about pages, and runs no model.
"""

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from ..needle import Hunted
from .cache_figures import EITHER, Colours, laid_out
from .position_figures import axes_of, line_of, with_legend_above
from .relevance_figures import SYMBOLS
from .relevance_words import chance, listed
from .run_words import counted
from .step import Table
from .words import percent


def chances_figure(hunted: Hunted, colours: Colours = EITHER) -> go.Figure:
    """The chance of the needle's answer by distance, with the needle in the text and without it."""
    figure = go.Figure()
    x = [one.distance for one in hunted.found]
    parts = (
        ("with the needle in the text", [one.chance for one in hunted.found], colours.accent, "solid", "circle"),
        ("the same text without it", [one.without for one in hunted.found], colours.other, "dash", "square"),
    )
    for name, y, colour, dash, symbol in parts:
        figure.add_scatter(
            x=x,
            y=np.array(y, dtype=np.float32),
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 4 if dash == "solid" else 3},
            marker={"symbol": symbol, "size": 12, "color": colour, "opacity": 1},
            name=name,
            hovertemplate="%{x} tokens back: %{y:.1%}",
        )
    _by_distance(figure, x, colours)
    figure.update_yaxes(title=f"chance of “{html.escape(hunted.needle.answer)}”", tickformat="~%", range=[-0.03, 1.03])
    return with_legend_above(laid_out(figure, 400, colours=colours), colours)


def needle_heads_figure(hunted: Hunted, heads: Sequence[tuple[int, int]], colours: Colours = EITHER) -> go.Figure:
    """How much of the last row falls on the answer, by distance, for some heads."""
    figure = go.Figure()
    x = [one.distance for one in hunted.found]
    for number, (row, head) in enumerate(heads):
        line = line_of(number, colours)
        figure.add_scatter(
            x=x,
            y=np.array([float(one.weights[row, head]) for one in hunted.found], dtype=np.float32),
            mode="lines+markers",
            line=line,
            marker={"symbol": SYMBOLS[number], "size": 11, "color": line["color"], "opacity": 1},
            name=f"layer {hunted.entries[row]}, head {head}",
            hovertemplate="%{x} tokens back: %{y:.1%}",
        )
    _by_distance(figure, x, colours)
    figure.update_yaxes(title="weight on the answer", tickformat="~%", range=[-0.03, 1.03])
    return with_legend_above(laid_out(figure, 400, colours=colours), colours)


def _by_distance(figure: go.Figure, x: Sequence[int], colours: Colours) -> None:
    axes_of(figure, "how far back the answer was said, in tokens", "", colours)
    figure.update_xaxes(type="log", tickvals=list(x), ticktext=[f"{at:,}" for at in x], tickangle=0)


# ── in words ──


def needle_in_words(hunted: Hunted, model: str) -> list[str]:
    """How far back the needle is still found."""
    found, answer = hunted.found, hunted.needle.answer
    hits = [one for one in found if one.rank == 1]
    first, last = found[0], found[-1]
    if not hits:
        title = f"{model} does not find the needle"
        said = [f"“{answer}” is never the most likely next word, not even {counted(first.distance, 'token')} back."]
    else:
        far = max(one.distance for one in hits)
        misses = [one.distance for one in found if one.distance < far and one.rank > 1]
        title = f"{model} finds the needle up to {counted(far, 'token')} back"
        if misses:
            title = f"{model} finds the needle at {len(hits)} of {len(found)} distances"
        nearest = next(one for one in hits if one.distance == far)
        there = f"The farthest is {far:,} tokens back: there" if misses else "There"
        said = [
            f"{there} “{answer}” is the most likely next word, with {chance(nearest.chance)}; without the needle it "
            f"has {chance(nearest.without)}."
        ]
        if misses:
            said.append(f"It misses it at {listed([str(miss) for miss in misses])}.")
    if last.rank > 1:
        said.append(
            f"{last.distance:,} back it has {chance(last.chance)}, and “{last.likely[0][0]}” is expected instead."
        )
    return [title, *said]


def heads_of_needle_in_words(hunted: Hunted, heads: Sequence[tuple[int, int]]) -> list[str]:
    """Which heads look at the answer, and where they lose it."""
    if not heads:
        return []
    row, head = heads[0]
    weights = [float(one.weights[row, head]) for one in hunted.found]
    near, far = hunted.found[0].distance, hunted.found[-1].distance
    name = f"Layer {hunted.entries[row]}, head {head}"
    if max(weights) < 0.05:
        most = f"the most is {name.lower()} with {percent(max(weights))}."
        return ["No head looks for it", f"None puts as much as 5% of its weight on “{hunted.needle.answer}”; {most}"]
    said = (
        f"From the last word of the question it looks {percent(weights[0])} at “{hunted.needle.answer}” {near:,} "
        f"tokens back, and {percent(weights[-1])} at {far:,}."
    )
    return [f"{name} looks for it", said]


def asked_in_words(hunted: Hunted) -> str:
    """How the needle is hidden, and what is asked."""
    needle = hunted.needle
    split = (
        f" It has {len(hunted.answer_tokens)} tokens here; the chance is that of all together."
        if len(hunted.answer_tokens) > 1
        else ""
    )
    left = f" Distances beyond what the model can read are left out: {hunted.skipped}." if hunted.skipped else ""
    return (
        f"The text: two plain sentences, “{needle.said}”, more and more plain sentences, and at the end "
        f"“{needle.asks}”. Which word comes next?{split} Without the needle: the very same text, that sentence left "
        f"out.{left}"
    )


# ── as tables ──


def needle_table(hunted: Hunted) -> Table:
    rows = [
        (
            f"{one.distance:,}",
            f"{one.tokens:,}",
            percent(one.chance),
            f"{one.rank:,}",
            percent(one.without),
            ", ".join(f"{token} {percent(share)}" for token, share in one.likely[:3]),
        )
        for one in hunted.found
    ]
    header = ("tokens back", "tokens in all", "chance", "rank", "chance without the needle", "most likely")
    return Table(header, tuple(rows))


def needle_heads_table(hunted: Hunted, heads: Sequence[tuple[int, int]]) -> Table:
    """Heads, and how much of the last row falls on the answer at each distance."""
    rows = [
        (str(hunted.entries[row]), str(head), *(percent(float(one.weights[row, head])) for one in hunted.found))
        for row, head in heads
    ]
    return Table(("layer", "head", *(f"{one.distance:,} back" for one in hunted.found)), tuple(rows))
