"""What a smaller cache did to a run: in sentences, as a plotly figure, and as a table. Knows nothing about pages."""

import numpy as np
import plotly.graph_objects as go

from ..lab import LabRun
from .blocks import small, written
from .cache_figures import EITHER, Colours, laid_out
from .run_words import counted
from .step import Table
from .words import percent

ACCENT, OTHER = "#3d8fc4", "#d97b1f"  # both seen on white and on black


def lab_in_words(trial: LabRun) -> list[str]:
    """What stays, what it saves, and what it does to the text."""
    last, steps = trial.steps[-1], len(trial.steps)
    saved = 1 - last.cache_bytes / last.full_bytes
    size = f"{last.cache_bytes:,} of {last.full_bytes:,} bytes"
    cost = f"{trial.policy.title}: {size} at the end, {percent(abs(saved))} {'less' if saved >= 0 else 'more'}."
    if last.cache_bytes == last.full_bytes:
        cost += " Nothing was dropped."
    same = f"The most likely next token is the same at {trial.same} of {counted(steps, 'step')}"
    later = f"behind step 0 the chances differ by {small(trial.mean_divergence)} nats a step on average"
    apart = later if steps > 1 else "let it write more tokens: at step 0 the cache is not yet used"
    if trial.parted is None:
        text = "By itself it writes the same text."
    else:
        text = f"By itself it writes another text from step {trial.parted} on."
    return [cost, f"{same}; {apart}.", text]


def divergence_bars(trial: LabRun, colours: Colours = EITHER) -> go.Figure:
    """KL divergence from the full cache, one bar a step; another colour where the most likely token is another one."""
    steps = trial.steps
    values = np.array([step.divergence for step in steps], dtype=np.float32)
    figure = go.Figure()
    for same, colour, name in ((True, ACCENT, "the same token is the most likely"), (False, OTHER, "another token is")):
        at = [n for n, step in enumerate(steps) if step.same is same]
        figure.add_bar(
            x=[steps[n].number for n in at],
            y=values[at],
            name=name,
            marker={"color": colour, "pattern": {"shape": "" if same else "/"}},
            hovertemplate="step %{x}: %{y:.5f} nats<extra></extra>",
        )
    figure.update_xaxes(title="step", dtick=1 if len(steps) <= 24 else None)
    figure.update_yaxes(title="KL divergence, nats", rangemode="tozero")
    legend = {"orientation": "h", "y": 1.15, "x": 0}
    laid_out(figure, 320, colours=colours)
    return figure.update_layout(legend=legend | {"font": colours.font}, showlegend=True, barmode="overlay")


def lab_table(trial: LabRun) -> Table:
    rows = [
        (
            str(step.number),
            step.full_text,
            step.text,
            written(step.divergence, ".5f"),
            f"{step.cache_bytes:,}",
            f"{step.full_bytes:,}",
        )
        for step in trial.steps
    ]
    header = ("step", "most likely, every row", "most likely here", "KL in nats", "bytes here", "bytes of every row")
    return Table(header, tuple(rows))


def stays(trial: LabRun, tokens: int) -> np.ndarray:
    """(tokens,) float32: the share of all layers and key-value heads that keep a token's row at the end."""
    kept = np.zeros(tokens, dtype=np.float32)
    last = trial.steps[-1]
    heads = 0
    for rows in last.kept:
        for positions in rows:
            kept[positions.numpy()] += 1
            heads += 1
    return kept / max(1, heads)
