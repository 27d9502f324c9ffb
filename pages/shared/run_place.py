"""Where the selection is in a run of generation: its step, kind of attention, layer, head and key-value head."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import streamlit as st

from attention_core.figures.run_words import row_tokens
from attention_core.record import LayerCapture
from attention_core.rows import Kept
from attention_core.run import DecodeStep, Reading, Run

from . import selection
from .messages import notice


@dataclass(frozen=True)
class RunPlace:
    """A step, and in it one head of one layer with the rows that it reads."""

    run: Run
    step: DecodeStep
    kind: str  # "decoder" or "cross"
    layer: int
    head: int

    @cached_property
    def reading(self) -> Reading | None:
        return next((r for r in self.step.readings if (r.kind, r.layer) == (self.kind, self.layer)), None)

    @cached_property
    def captured(self) -> LayerCapture | None:
        return None if self.reading is None else self.reading.layer_capture()

    @property
    def layers(self) -> tuple[Kept | None, ...]:
        return self.step.cross_kept if self.kind == "cross" else self.step.kept

    @property
    def kept(self) -> Kept | None:
        """The rows that the last query met, of which a window may have dropped one since; else those that are kept."""
        if self.reading is not None and self.reading.kept is not None:
            return self.reading.kept
        return self.layers[self.layer]

    @property
    def shared(self) -> int:
        """The key-value head that the chosen head reads."""
        if self.kept is None or self.captured is None:
            return 0
        groups = self.kept.tensors[0].shape[0]
        return self.head * groups // self.captured.heads

    @property
    def heads(self) -> int:
        if self.captured is not None:
            return self.captured.heads
        return self.kept.tensors[0].shape[0] if self.kept is not None else 1

    @cached_property
    def tokens(self) -> list[str]:
        """Of all rows that there ever were on this side: the text so far, or the source."""
        facts = self.run.facts
        return facts.names(facts.source) if self.kind == "cross" else row_tokens(self.run, self.step.number)

    @cached_property
    def weights(self) -> np.ndarray:
        """(tokens,) float32: what the token read last gives each one; NaN where it meets no row."""
        found = np.full(len(self.tokens), np.nan, dtype=np.float32)
        if self.reading is not None and self.captured is not None:
            head = slice(self.head, self.head + 1)
            every = slice(None)
            row = self.captured.weights(head, every, every)[0, 0].float().cpu().numpy()
            visible = self.captured.visible(head, every, every)
            if visible is not None:
                row = np.where(visible[0, 0].cpu().numpy(), row, np.nan)
            found[self.reading.positions.start : self.reading.positions.stop] = row
        return found


def find_run_place(run: Run) -> RunPlace:
    """The selection brought into the run's ranges, with a notice for whatever did not fit."""
    state = st.session_state
    kinds = ["decoder", *(["cross"] if run.steps[0].cross_kept else [])]
    problems = [selection.fit_kind(kinds) if state.kind != "encoder" else None]
    problems.append(selection.fit("at", len(run.steps), default=len(run.steps) - 1))
    step, kind = run.steps[state.at], state.kind if state.kind in kinds else "decoder"
    count = len(step.cross_kept if kind == "cross" else step.kept)
    problems.append(selection.fit("layer", count, default=0))
    place = RunPlace(run, step, kind, state.layer, 0)
    problems.append(selection.fit("head", place.heads, default=0))
    for problem in filter(None, problems):
        notice(problem)
    return RunPlace(run, step, kind, state.layer, state.head)
