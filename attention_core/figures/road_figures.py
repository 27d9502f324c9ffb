"""The road in plotly figures: mistakes by word length, and the steps that wait for the one before.

A figure's words are its alternative text (road_words.py). No two lines differ in colour alone.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..seq2seq.saying import Saying
from .cache_figures import EITHER, Colours, laid_out
from .relevance_figures import AGAINST, DASHES, SYMBOLS, faint
from .road_words import size, title

PARTS = {"reading": "reading the letters", "learning": "learning the sounds", "saying": "saying the sounds"}


def lengths_figure(found: Mapping[str, Any], chosen: str, colours: Colours = EITHER) -> go.Figure:
    """Share of words that are said wrong by their length, a line a station; the fixed vector and the chosen station are
    in colour, with bands of their 95 % intervals."""
    figure = go.Figure()
    stations = found["stations"]
    loud = {"bottleneck": AGAINST} | {chosen: colours.accent if chosen != "bottleneck" else AGAINST}
    first = next(iter(stations.values()))["by_length"]
    x = np.arange(len(first))
    for name, colour in loud.items():
        parts = [part["wrong"] for part in stations[name]["by_length"]]
        low, high = ([part[end] for part in parts] for end in ("low", "high"))
        figure.add_scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.array([*high, *low[::-1]], dtype=np.float32),
            fill="toself",
            fillcolor=faint(colour),
            mode="lines",
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
    for number, (name, one) in enumerate(stations.items()):
        colour = loud.get(name, colours.other)
        parts = [part["wrong"] for part in one["by_length"]]
        figure.add_scatter(
            x=x,
            y=np.array([part["share"] for part in parts], dtype=np.float32),
            mode="lines+markers",
            line={"color": colour, "dash": DASHES[number % len(DASHES)], "width": 4 if name in loud else 1.5},
            marker={"symbol": SYMBOLS[number], "size": 12 if name in loud else 8, "color": colour, "opacity": 1},
            name=f"<b>{title(name)}</b>" if name in loud else title(name),
            customdata=np.array([[part["low"], part["high"]] for part in parts]),
            hovertemplate="%{y:.1%} (%{customdata[0]:.1%} to %{customdata[1]:.1%})",
        )
    figure.update_xaxes(
        title="letters of the word", tickvals=x, ticktext=[size(part) for part in first], zeroline=False
    )
    figure.update_yaxes(title="words said wrong", tickformat="~%", rangemode="tozero")
    figure.update_xaxes(gridcolor=faint(colours.other))
    figure.update_yaxes(gridcolor=faint(colours.other), zerolinecolor=colours.other)
    laid_out(figure, 480, colours=colours)
    legend = {"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top", "font": colours.font}
    return figure.update_layout(showlegend=True, legend=legend, hovermode="x unified")


def steps_figure(sayings: Mapping[str, Saying], colours: Colours = EITHER) -> go.Figure:
    """The steps in a row for one word: a group of bars for reading, learning and saying, a bar a station."""
    figure = make_subplots(
        rows=1, cols=len(PARTS), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=list(PARTS.values())
    )
    most = max(max(one.steps.reading, one.steps.saying) for one in sayings.values())
    for column, part in enumerate(PARTS, start=1):
        counts = [getattr(one.steps, part) for one in sayings.values()]
        figure.add_bar(
            x=counts,
            y=[title(name) for name in sayings],
            orientation="h",
            marker={"color": [colours.accent if name == "transformer" else colours.other for name in sayings]},
            text=[str(count) for count in counts],
            textposition="outside",
            textfont=colours.font,
            cliponaxis=False,
            hovertemplate="%{y}: %{x}<extra></extra>",
            row=1,
            col=column,
        )
    figure.update_annotations(font={"size": (colours.font["size"]) + 1} | _ink(colours))
    figure.update_xaxes(range=[0, 1.15 * most], showticklabels=False, showgrid=False, zeroline=True)
    figure.update_xaxes(zerolinecolor=colours.other)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return laid_out(figure, 70 + 40 * len(sayings), colours=colours).update_layout(margin={"t": 40})


def _ink(colours: Colours) -> dict[str, str]:
    return {"color": colours.text} if colours.text else {}
