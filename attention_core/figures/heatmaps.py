"""Heatmaps as plotly figures. Knows nothing about models or pages."""

import html

import numpy as np
import plotly.graph_objects as go

SIGNED = "RdBu"
LABELS_UP_TO = 48  # more token labels than this cannot be read


def vectors_heatmap(vectors: np.ndarray, tokens: list[str], first: int, name: str) -> go.Figure:
    """(tokens, head_dim) float32 → one row per token, one column per dimension; colours are symmetric about zero.

    first: the position of the first token. Rows are named by position and token, so that equal tokens stay apart.
    """
    reach = float(np.abs(vectors).max()) or 1.0
    rows = [f"{first + n} {html.escape(token)}" for n, token in enumerate(tokens)]
    trace = go.Heatmap(
        z=np.asarray(vectors, dtype=np.float32),
        y=rows,
        hovertemplate="%{y}, dimension %{x}: %{z:.5f}<extra></extra>",
        colorscale=SIGNED,
        zmin=-reach,
        zmax=reach,
        colorbar={"thickness": 12},
    )
    step = -(-len(rows) // LABELS_UP_TO)
    figure = go.Figure(trace)
    figure.update_xaxes(title="dimension", nticks=9)
    figure.update_yaxes(type="category", autorange="reversed", tickmode="array", tickvals=rows[::step])
    figure.update_layout(
        title=name,
        height=130 + min(22 * len(rows), 700),
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
        font={"size": 14},
    )
    return figure
