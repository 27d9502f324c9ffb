"""Curves as plotly figures. Knows nothing about models or pages."""

import numpy as np
import plotly.graph_objects as go


def distance_curve(distances: np.ndarray, weights: np.ndarray, unit: str = "tokens") -> go.Figure:
    """distances (n,), weights (n,) → the mean weight by distance; 0 is the token itself, farther back is right."""
    trace = go.Scatter(
        x=distances,
        y=np.asarray(weights, dtype=np.float32),
        mode="lines+markers" if len(distances) <= 64 else "lines",
        hovertemplate="%{x} " + unit + " back: %{y:.5f}<extra></extra>",
    )
    figure = go.Figure(trace)
    ahead = " (below 0: ahead)" if len(distances) and distances[0] < 0 else ""
    figure.update_xaxes(title=f"distance in {unit}, from the query back to the key{ahead}", rangemode="tozero")
    figure.update_yaxes(title="mean weight", rangemode="tozero")
    figure.update_layout(height=420, margin={"l": 10, "r": 10, "t": 10, "b": 10}, font={"size": 15}, hovermode="x")
    return figure
