"""Heatmaps as plotly figures: an attention head, and the vectors behind it."""

import html

import numpy as np
import plotly.graph_objects as go

LIGHT, DARK = "Blues", "Viridis"
SIGNED = "RdBu"
LABELS_UP_TO = 64  # more token labels than this cannot be read


def attention_heatmap(
    weights: np.ndarray, visible: np.ndarray, query_tokens: list[str], key_tokens: list[str], dark: bool = False
) -> go.Figure:
    """(queries, keys) weights, float32 → queries on rows ("from"), keys on columns ("to"); masked cells are gaps."""
    figure = _heatmap(
        np.where(visible, weights, np.nan).astype(np.float32),
        _hover_names(query_tokens),
        _hover_names(key_tokens),
        "%{y} looks at %{x}: %{z:.5f}<extra></extra>",
        colorscale=DARK if dark else LIGHT,
        zmin=0,
        zmax=1,
    )
    _axis(figure.update_xaxes, key_tokens, "to → (key)")
    _axis(figure.update_yaxes, query_tokens, "from ↓ (query)")
    figure.update_layout(height=120 + min(24 * len(query_tokens), 900))
    return figure


def vectors_heatmap(vectors: np.ndarray, tokens: list[str], name: str) -> go.Figure:
    """(tokens, head_dim) → one row per token, one column per dimension; colours are symmetric about zero."""
    reach = float(np.abs(vectors).max()) or 1.0
    dimensions = [str(d) for d in range(vectors.shape[1])]
    figure = _heatmap(
        np.asarray(vectors, dtype=np.float32),
        _hover_names(tokens),
        dimensions,
        f"{name} of %{{y}}, dimension %{{x}}: %{{z:.5f}}<extra></extra>",
        colorscale=SIGNED,
        zmin=-reach,
        zmax=reach,
    )
    figure.update_xaxes(title="dimension", tickmode="auto", nticks=9)
    _axis(figure.update_yaxes, tokens, "token")
    figure.update_layout(height=110 + min(22 * len(tokens), 700), title=name)
    return figure


def _heatmap(z: np.ndarray, rows: list[str], columns: list[str], hover: str, **scale) -> go.Figure:
    """Cells by number, so that equal tokens stay apart; names only in the hover text."""
    trace = go.Heatmap(z=z, hovertemplate=hover.replace("%{y}", "%{customdata[0]}").replace("%{x}", "%{customdata[1]}"))
    trace.customdata = np.dstack(np.broadcast_arrays(np.array(rows)[:, None], np.array(columns)[None, :]))
    trace.update(hoverongaps=False, xgap=0, ygap=0, colorbar={"thickness": 12}, **scale)
    figure = go.Figure(trace)
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(margin={"l": 10, "r": 10, "t": 40, "b": 10}, font={"size": 14})
    return figure


def _axis(update, tokens: list[str], title: str) -> None:
    step = max(1, -(-len(tokens) // LABELS_UP_TO))
    shown = range(0, len(tokens), step)
    update(title=title, tickmode="array", tickvals=list(shown), ticktext=[html.escape(tokens[i]) for i in shown])


def _hover_names(tokens: list[str]) -> list[str]:
    return [f"“{html.escape(token)}” ({number})" for number, token in enumerate(tokens)]
