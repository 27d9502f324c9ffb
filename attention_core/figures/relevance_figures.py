"""Which bars to believe, as plotly figures: what becomes of the target while tokens go and come, and how far methods
agree.

A figure's words are its alternative text. No two methods differ in colour alone. Knows nothing about pages.
"""

import html
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ..attribution import METHODS
from ..credibility import INTERVAL, Curves, Verdict
from .blocks import written
from .cache_figures import EITHER, SIZE, Colours, laid_out
from .relevance_words import chance, listed

AGAINST = "#d97b1f"  # below 0; seen on white and on black
HUES = ("#c26a12", "#0f9d75", "#c2549a", "#8f7ae6")  # after the accent: each at least 3.4 : 1 on white and on black
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "9px,3px,2px,3px,2px,3px", "3px,7px")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "x", "star", "pentagon")
TITLES = [method.title for method in METHODS.values()]
RANDOM = "random orders, on average"
LEGEND_ROW = 26  # pixels
NAMES_UP_TO = 3  # columns of the map of agreement: more are numbered
WATCHED = {"deletion": "replaced", "insertion": "put in"}


# ── while tokens go and come ────────────────────────────────────────────────────────────────────────────────────────


def curves_figure(
    curves: Mapping[str, Curves],
    random: Curves | None,
    what: str,
    watched: str,
    colours: Colours = EITHER,
    share: bool = True,
) -> go.Figure:
    """What is watched over the share of tokens that were replaced (what = "deletion") or put in ("insertion"), one
    line a method; of random orders the mean, and a band that 90 % of them are in. share: it is written as a per cent.
    """
    figure, written_as = go.Figure(), "%{y:.1%}" if share else "%{y:.3f}"
    if random is not None:
        _band(figure, random, what, colours, written_as)
    for number, (title, drawn) in enumerate(curves.items()):
        line, symbol = _look(title, number, colours)
        figure.add_scatter(
            x=_shares(drawn),
            y=getattr(drawn, what)[0].astype(np.float32),
            mode="lines+markers",
            line=line,
            marker={"symbol": symbol, "size": 10, "color": line["color"], "opacity": 1},
            name=html.escape(title),
            hovertemplate=f"%{{fullData.name}}, %{{x:.0f}}% {WATCHED[what]}: {written_as}<extra></extra>",
        )
    marks = [0, 25, 50, 75, 100]
    figure.update_xaxes(
        title=f"tokens {WATCHED[what]}, the most relevant first",
        range=[-2, 102],
        tickvals=marks,
        ticktext=[f"{mark}%" for mark in marks],
        zeroline=False,
        gridcolor=faint(colours.other),
    )
    figure.update_yaxes(title=html.escape(watched), tickformat="~%" if share else "~g", rangemode="tozero")
    figure.update_yaxes(gridcolor=faint(colours.other), zerolinecolor=colours.other)
    rows = len(figure.data) - (random is not None)
    laid_out(figure, 400 + LEGEND_ROW * rows, colours=colours)
    return with_legend(figure, colours)


def _band(figure: go.Figure, random: Curves, what: str, colours: Colours, written_as: str) -> None:
    heights = getattr(random, what)  # (orders, points)
    low, high = np.quantile(heights, INTERVAL, axis=0)
    x = _shares(random)
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([high, low[::-1]]).astype(np.float32),
        fill="toself",
        fillcolor=faint(colours.other),
        mode="lines",
        line={"width": 0},
        hoverinfo="skip",
        name="90% of random orders",
    )
    figure.add_scatter(
        x=x,
        y=heights.mean(axis=0).astype(np.float32),
        mode="lines",
        line={"color": colours.other, "width": 2, "dash": "2px,4px"},
        name=RANDOM,
        hovertemplate=f"%{{fullData.name}}, %{{x:.0f}}% {WATCHED[what]}: {written_as}<extra></extra>",
    )


def _look(title: str, number: int, colours: Colours) -> tuple[dict[str, Any], str]:
    """A method's line and marker, the same whatever other methods are drawn."""
    at = TITLES.index(title) if title in TITLES else number
    hues = (colours.accent, *HUES)
    line = {"color": hues[at % len(hues)], "dash": DASHES[at % len(DASHES)], "width": 3}
    return line, SYMBOLS[at % len(SYMBOLS)]


def _shares(curves: Curves) -> np.ndarray:
    """(points,) per cent of the tokens."""
    return (100 * curves.removed / max(1, curves.tokens)).astype(np.float32)


def faint(colour: str) -> str:
    """For grids and bands."""
    return "rgba({},{},{},0.22)".format(*_rgb(colour))


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def with_legend(figure: go.Figure, colours: Colours) -> go.Figure:
    """The names under the picture, one under the other, so that none is cut."""
    legend = {"orientation": "v", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom", "font": colours.font}
    return figure.update_layout(showlegend=True, legend=legend)


def curves_in_words(curves: Mapping[str, Curves], random: Curves | None, what: str, share: bool = True) -> str:
    """Where the curves begin and end, and how high each is after a quarter of the tokens."""
    if not curves:
        return ""
    first = next(iter(curves.values()))
    heights = {title: getattr(drawn, what)[0] for title, drawn in curves.items()}
    number = chance if share else (lambda value: written(value, ".3f"))
    at = 1 + int(np.abs(first.removed[1:] - first.tokens / 4).argmin()) if len(first.removed) > 1 else 0
    begin, end = (float(next(iter(heights.values()))[place]) for place in (0, -1))
    tokens = f"{first.removed[at]:,} of {first.tokens:,} tokens {WATCHED[what]}"
    parts = [f"{number(float(height[at]))} by {title}" for title, height in heights.items()]
    if random is not None:
        parts.append(f"{number(float(getattr(random, what)[:, at].mean()))} by {RANDOM}")
    aim = "the lower the better" if what == "deletion" else "the higher the better"
    return (
        f"From {number(begin)} {'with every token' if what == 'deletion' else 'without any token'} to {number(end)} "
        f"{'without any' if what == 'deletion' else 'with all'}. With {tokens} it is at {listed(parts)}: {aim}."
    )


def areas_figure(verdicts: Mapping[str, Verdict], colours: Colours = EITHER) -> go.Figure:
    """The area between a method's two curves; the band is where 90 % of random orders are."""
    gains = np.array([verdict.gain for verdict in verdicts.values()], dtype=np.float32)
    words = [verdict.word for verdict in verdicts.values()]
    figure = go.Figure(
        go.Bar(
            x=gains,
            y=np.arange(len(gains)),
            orientation="h",
            text=[written(gain, ".2f") for gain in gains],
            textposition="outside",
            textfont=colours.font,
            cliponaxis=False,
            marker={
                "color": [{"better": colours.accent, "worse": AGAINST}.get(word, colours.other) for word in words],
                "pattern": {"shape": [{"better": "", "worse": "x"}.get(word, "/") for word in words]},
            },
            customdata=words,
            hovertemplate="%{x:.4f}, %{customdata}<extra></extra>",
        )
    )
    ends = [float(part) for v in verdicts.values() for part in (v.gain, v.low, v.high) if np.isfinite(part)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room = 0.2 * ((high - low) or 1.0)
    for verdict in [*verdicts.values()][:1]:
        figure.add_vrect(x0=verdict.low, x1=verdict.high, fillcolor=faint(colours.other), line_width=0, layer="below")
        figure.add_annotation(
            x=(verdict.low + verdict.high) / 2,
            y=1,
            yref="paper",
            yanchor="bottom",
            text="90% of random orders",
            showarrow=False,
            font=colours.font,
        )
    figure.add_vline(x=0, line={"color": colours.other, "width": 1})
    names = [html.escape(title) for title in verdicts]
    figure.update_yaxes(autorange="reversed", tickvals=np.arange(len(names)), ticktext=names, showgrid=False)
    figure.update_xaxes(title="area between the curves", range=[low - room, high + room], zeroline=False)
    figure.update_xaxes(gridcolor=faint(colours.other))
    return laid_out(figure, 130 + 44 * len(gains), colours=colours).update_layout(margin={"t": 34})


def areas_in_words(verdicts: Mapping[str, Verdict]) -> str:
    """The alternative text of the areas."""
    parts = [f"{title} {written(v.gain, '.2f')}, {v.word}" for title, v in verdicts.items()]
    for v in [*verdicts.values()][:1]:
        parts.append(f"90% of random orders are from {written(v.low, '.2f')} to {written(v.high, '.2f')}")
    return f"Area between the curves: {'; '.join(parts)}." if parts else ""


# ── agreement ───────────────────────────────────────────────────────────────────────────────────────────────────────


def agreement_figure(names: Sequence[str], matrix: np.ndarray, colours: Colours = EITHER) -> go.Figure:
    """(methods, methods) rank agreement as a map, its numbers written in; of many methods the columns are numbered."""
    count = len(names)
    escaped = [html.escape(name) for name in names]
    numbered = count > NAMES_UP_TO
    across = [str(n + 1) if numbered else "<br>".join(map(html.escape, wrap(name, 14))) for n, name in enumerate(names)]
    down = [f"{name} {n + 1}" if numbered else name for n, name in enumerate(escaped)]
    texts = [[written(float(value), ".2f") for value in row] for row in matrix]
    figure = signed_map(matrix, texts, 1.0, colours)
    named = [[f"{one}, {other}" for other in escaped] for one in escaped]
    figure.update_traces(
        customdata=np.array(named, dtype=object).reshape(count, count),
        hovertemplate="%{customdata}: %{z:.3f}<extra></extra>",
        selector={"type": "heatmap"},
    )
    figure.update_xaxes(tickvals=np.arange(count), ticktext=across, side="top", tickangle=0)
    figure.update_yaxes(tickvals=np.arange(count), ticktext=down)
    return laid_out(figure, 90 + 48 * count, colours=colours)


def agreement_map_in_words(names: Sequence[str], matrix: np.ndarray) -> str:
    """The alternative text of the map."""
    pairs = [(names[i], names[j], matrix[i, j]) for i in range(len(names)) for j in range(i)]
    parts = [f"{other} and {one} {written(float(value), '.2f')}" for one, other, value in pairs]
    return f"Rank agreement, 1 for the same order: {'; '.join(parts)}." if parts else ""


def signed_map(
    values: np.ndarray, texts: Sequence[Sequence[str]] | None, largest: float, colours: Colours
) -> go.Figure:
    """(rows, columns), NaN for gaps: in the accent colour above 0, in orange below, full at ± largest; rows go down.
    texts are written into the cells, black or white, whichever is read better."""
    values = np.asarray(values, dtype=np.float32)
    stops = (AGAINST, _nothing(colours), colours.accent)
    figure = go.Figure(
        go.Heatmap(
            z=values,
            zmin=-largest,
            zmax=largest,
            colorscale=[[0, stops[0]], [0.5, stops[1]], [1, stops[2]]],
            showscale=False,
            xgap=2,
            ygap=2,
            hoverongaps=False,
        )
    )
    if texts is not None:
        rows, columns = np.indices(values.shape)
        inks = [_ink(float(value) / largest, stops) for value in values.flat]
        figure.add_scatter(
            x=columns.flatten(),
            y=rows.flatten(),
            mode="text",
            text=[text for row in texts for text in row],
            textfont={"size": SIZE, "color": [ink or colours.text or colours.other for ink in inks]},
            hoverinfo="skip",
        )
    figure.update_xaxes(showgrid=False, zeroline=False, range=[-0.5, values.shape[1] - 0.5])
    figure.update_yaxes(showgrid=False, zeroline=False, range=[values.shape[0] - 0.5, -0.5])
    return figure


def _nothing(colours: Colours) -> str:
    """The colour of 0: a little off the ground, so that a gap is seen."""
    if not colours.ground.startswith("#"):
        return "#b9bec5"
    mixed = 0.88 * np.array(_rgb(colours.ground)) + 0.12 * np.array(_rgb(colours.other))
    return "#{:02x}{:02x}{:02x}".format(*mixed.round().astype(int).tolist())


def _ink(shade: float, stops: Sequence[str]) -> str:
    """Black or white, on a cell of shade −1 … 1; "" on a gap."""
    if np.isnan(shade):
        return ""
    full, size = np.array(_rgb(stops[2 if shade > 0 else 0])), min(1.0, abs(shade))
    mixed = (full * size + np.array(_rgb(stops[1])) * (1 - size)) / 255
    linear = np.where(mixed <= 0.04045, mixed / 12.92, ((mixed + 0.055) / 1.055) ** 2.4)
    light = float(linear @ (0.2126, 0.7152, 0.0722))  # relative luminance (WCAG 2)
    return "#000000" if (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) else "#ffffff"
