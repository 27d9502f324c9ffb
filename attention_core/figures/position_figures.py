"""How order gets into a Transformer, as plotly figures: what each encoding adds or turns, how it compares two places,
and the loss by position.

A figure's words are its alternative text (position_words.py). No two lines differ in colour alone. Knows nothing about
pages, and runs no model.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go

from ..ordering import ByDistance
from ..variants import ENCODINGS, Measured
from .blocks import written
from .cache_figures import EITHER, Colours, laid_out
from .relevance_figures import AGAINST, DASHES, HUES, SYMBOLS, faint

FULL = 0.97  # of all numbers are below what a full colour stands for
ACROSS = 6  # dials beside each other
STEPS = 8  # points of a line from one position to the next
PAIRS_DRAWN = 4  # of rotary pairs: the fastest, the slowest and two between


# ── what is added, turned or taken off ──────────────────────────────────────────────────────────────────────────────


def encoding_map(table: np.ndarray, trained: int | None = None, colours: Colours = EITHER) -> go.Figure:
    """(positions, size) → a row for each position, a column for each number; blue below 0, orange above.

    trained: the positions from here on were never met in training, and a line says so.
    """
    known = table if trained is None else table[:trained]
    reach = float(np.quantile(np.abs(known), FULL)) or 1.0  # a few large numbers would leave the others pale
    ground = colours.ground if colours.ground.startswith("#") else "#f4f4f2"
    figure = go.Figure(
        go.Heatmap(
            z=np.asarray(table, dtype=np.float32),
            zmin=-reach,
            zmax=reach,
            colorscale=[[0, "#3b86c4"], [0.5, ground], [1, AGAINST]],
            hovertemplate="position %{y}, number %{x}: %{z:.4f}<extra></extra>",
            colorbar={"thickness": 14, "tickfont": colours.font, "outlinewidth": 0},
        )
    )
    figure.update_xaxes(title="number in the vector", showgrid=False, zeroline=False)
    figure.update_yaxes(title="position", autorange="reversed", showgrid=False, zeroline=False)
    if trained is not None and trained < len(table):
        figure.add_hline(y=trained - 0.5, line={"color": colours.text or colours.other, "width": 3, "dash": "dash"})
        for y, text, anchor in ((trained, "trained up to here ↑", "bottom"), (trained, "never met ↓", "top")):
            figure.add_annotation(
                x=len(table[0]) / 2,
                y=y,
                text=f"<b>{text}</b>",
                yanchor=anchor,
                showarrow=False,
                bgcolor=colours.ground,
                font=colours.font,
            )
    return laid_out(figure, 460, colours=colours)


def dials_figure(angles: np.ndarray, position: int, colours: Colours = EITHER) -> go.Figure:
    """angles (positions, pairs) radians → the pairs (1, 0) as hands of dials, turned as at this position against the
    clock; the sector is the angle."""
    turned = angles[position].astype(float)
    rows = -(-len(turned) // ACROSS)
    figure = go.Figure()
    rim = np.linspace(0, 2 * np.pi, 61)
    for pair, angle in enumerate(turned):
        x, y = 2.5 * (pair % ACROSS), -3.0 * (pair // ACROSS)
        arc = np.linspace(0, angle % (2 * np.pi), 31)
        hand = (x + np.array([0, np.cos(angle)]), y + np.array([0, np.sin(angle)]))
        words = f"pair {pair}: {np.degrees(angle):,.1f}°"
        for at_x, at_y, line, fill in (
            (x + np.cos(rim), y + np.sin(rim), {"color": colours.other, "width": 1}, None),
            (
                np.concatenate([[x], x + 0.94 * np.cos(arc), [x]]),
                np.concatenate([[y], y + 0.94 * np.sin(arc), [y]]),
                {"width": 0},
                faint(colours.accent),
            ),
            (np.array([x, x + 1]), np.array([y, y]), {"color": colours.other, "width": 2}, None),
            (*hand, {"color": colours.accent, "width": 5}, None),
        ):
            figure.add_scatter(
                x=at_x.astype(np.float32),
                y=at_y.astype(np.float32),
                mode="lines",
                line=line,
                fill="toself" if fill else None,
                fillcolor=fill,
                hoverinfo="text",
                text=words,
            )
        figure.add_annotation(x=x, y=y - 1.05, text=f"pair {pair}", yanchor="top", showarrow=False, font=colours.font)
    figure.update_xaxes(visible=False, range=[-1.15, 2.5 * (ACROSS - 1) + 1.15], fixedrange=True)
    figure.update_yaxes(
        visible=False, range=[-3.0 * (rows - 1) - 1.75, 1.1], fixedrange=True, scaleanchor="x", constrain="domain"
    )
    return laid_out(figure, 60 + 105 * rows, colours=colours)


def drawn_pairs(pairs: int) -> list[int]:
    return sorted({round(n) for n in np.linspace(0, pairs - 1, PAIRS_DRAWN)})


def angles_figure(angles: np.ndarray, position: int, colours: Colours = EITHER) -> go.Figure:
    """angles (positions, pairs) radians → how far round its dial each of some pairs is, by position."""
    figure = go.Figure()
    places = np.linspace(0, len(angles) - 1, STEPS * (len(angles) - 1) + 1)
    for number, pair in enumerate(drawn_pairs(angles.shape[1])):
        turns = places * float(angles[1, pair]) / (2 * np.pi)
        round_it = turns % 1
        wraps = np.flatnonzero(np.diff(np.floor(turns)) > 0) + 1  # the hand passes its start: the line is broken there
        x, y = np.insert(places, wraps, np.nan), np.insert(round_it, wraps, np.nan)
        figure.add_scatter(
            x=x,
            y=(360 * y).astype(np.float32),
            mode="lines",
            line=line_of(number, colours),
            name=f"pair {pair}",
            hovertemplate="position %{x:.1f}: %{y:.0f}°",
        )
    figure.add_vline(x=position, line={"color": colours.text or colours.other, "width": 2})
    axes_of(figure, "position", "angle of the hand", colours)
    figure.update_yaxes(tickvals=[0, 90, 180, 270, 360], ticksuffix="°", range=[-8, 368])
    return with_legend_above(laid_out(figure, 340, colours=colours), colours)


def slopes_figure(slopes: np.ndarray, colours: Colours = EITHER) -> go.Figure:
    """(heads,) → what each head takes off a score for every token of distance, as bars."""
    names = [f"head {head}" for head in range(len(slopes))]
    figure = go.Figure(
        go.Bar(
            x=slopes.astype(np.float32),
            y=names,
            orientation="h",
            marker={"color": colours.accent},
            text=[f"1/{1 / float(slope):g} = {written(float(slope), '.3g')}" for slope in slopes],
            textposition="outside",
            textfont=colours.font,
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.5f} a token<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(title="taken off the score for every token of distance", range=[0, 1.45 * float(slopes.max())])
    figure.update_xaxes(gridcolor=faint(colours.other), zerolinecolor=colours.other)
    return laid_out(figure, 90 + 62 * len(slopes), colours=colours)


# ── how two places compare ──────────────────────────────────────────────────────────────────────────────────────────


def products_figure(found: ByDistance, colours: Colours = EITHER) -> go.Figure:
    """The dot product of two places by their distance: the mean over all pairs, and where 90 % of them lie."""
    x = found.distances.numpy()
    figure = go.Figure()
    if not found.by_distance_alone:
        band = np.concatenate([found.high.numpy(), found.low.numpy()[::-1]])
        figure.add_scatter(
            x=np.concatenate([x, x[::-1]]),
            y=band.astype(np.float32),
            fill="toself",
            fillcolor=faint(colours.other),
            mode="lines",
            line={"width": 0},
            hoverinfo="skip",
            name="90% of the pairs of places",
        )
    figure.add_scatter(
        x=x,
        y=found.mean.numpy().astype(np.float32),
        mode="lines",
        line={"color": colours.accent, "width": 4},
        name="all pairs of places, on average",
        hovertemplate="%{x} apart: %{y:.3f}<extra></extra>",
    )
    axes_of(figure, "distance of the two places, in tokens", "dot product", colours)
    figure.update_yaxes(rangemode="tozero")
    laid_out(figure, 380, colours=colours)
    return figure if found.by_distance_alone else with_legend_above(figure, colours)


def penalties_figure(penalties: np.ndarray, slopes: np.ndarray, colours: Colours = EITHER) -> go.Figure:
    """(heads, distances) → what is added to a score by distance, one line a head."""
    figure = go.Figure()
    for head, row in enumerate(penalties):
        figure.add_scatter(
            x=np.arange(len(row)),
            y=row.astype(np.float32),
            mode="lines",
            line=line_of(head, colours),
            name=f"head {head}, slope 1/{1 / float(slopes[head]):g}",
            hovertemplate="%{x} tokens away: %{y:.3f}",
        )
    axes_of(figure, "distance in tokens", "added to the score", colours)
    return with_legend_above(laid_out(figure, 380, colours=colours), colours)


# ── longer texts ────────────────────────────────────────────────────────────────────────────────────────────────────


def loss_figure(measured: Mapping[str, Measured], colours: Colours = EITHER) -> go.Figure:
    """Loss by position, one line a variant with its 95 % interval; the trained length is marked."""
    figure = go.Figure()
    first = next(iter(measured.values()))
    width = float(first.positions[1] - first.positions[0]) if len(first.positions) > 1 else 1.0
    for number, (name, found) in enumerate(measured.items()):
        line = line_of(number, colours)
        x = found.positions + width / 2  # of the middle of the bin
        figure.add_scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([found.high, found.low[::-1]]).astype(np.float32),
            fill="toself",
            fillcolor=faint(line["color"]),
            mode="lines",
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            x=x,
            y=found.loss.astype(np.float32),
            mode="lines+markers",
            line=line,
            marker={"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 8, "color": line["color"], "opacity": 1},
            name=ENCODINGS[name],
            hovertemplate="%{fullData.name}, around position %{x:.0f}: %{y:.3f}<extra></extra>",
        )
    figure.add_vline(x=first.trained_length, line={"color": colours.text or colours.other, "width": 2, "dash": "dash"})
    figure.add_annotation(
        x=first.trained_length,
        y=1,
        yref="paper",
        text="longer than any<br>text in training →",
        align="left",
        xanchor="left",
        yanchor="top",
        xshift=8,
        showarrow=False,
        font=colours.font,
    )
    ends = np.array([found.loss[-1] for found in measured.values()])
    reach = [part for found in measured.values() for part in (found.low.min(), found.high.max())]
    for name, at, number in zip(measured, spread(ends, (max(reach) - min(reach)) / 15), range(len(ends)), strict=True):
        figure.add_annotation(
            x=1,
            xref="paper",
            y=at,
            text=f"<b>{ENCODINGS[name]}</b>",
            xanchor="left",
            xshift=6,
            showarrow=False,
            font=colours.font | {"color": line_of(number, colours)["color"]},
        )
    axes_of(figure, "position in the text, in tokens", "loss, nats a token (lower is better)", colours)
    figure.update_xaxes(dtick=first.trained_length, range=[0, float(first.positions[-1]) + width])
    return laid_out(figure, 520, 130, colours)


def spread(places: np.ndarray, gap: float) -> list[float]:
    """The same places in the same order, none closer to the next than the gap, and their mean where it was."""
    order = np.argsort(places, kind="stable")
    moved = places.astype(float)
    for below, above in pairwise(order):
        moved[above] = max(moved[above], moved[below] + gap)
    return (moved - (moved - places).mean()).tolist()


def axes_of(figure: go.Figure, x: str, y: str, colours: Colours) -> None:
    figure.update_xaxes(title=x, zeroline=False, gridcolor=faint(colours.other))
    figure.update_yaxes(title=y, zerolinecolor=colours.other, gridcolor=faint(colours.other))
    figure.update_layout(hovermode="x unified" if len(figure.data) > 1 else "closest")


def line_of(number: int, colours: Colours) -> dict:
    hues = (colours.accent, *HUES)
    return {"color": hues[number % len(hues)], "dash": DASHES[number % len(DASHES)], "width": 3}


def with_legend_above(figure: go.Figure, colours: Colours) -> go.Figure:
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": colours.font}
    return figure.update_layout(showlegend=True, legend=legend, margin={"t": 50})
