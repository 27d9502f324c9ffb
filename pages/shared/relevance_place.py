"""Where the selection is on "Relevance": the row at which a token is asked about, the methods, what they are told."""

from dataclasses import dataclass

import streamlit as st

from attention_core.attribution import Settings
from attention_core.jobs import About, Relevance
from attention_core.record import Capture

from . import selection
from .messages import notice


@dataclass(frozen=True)
class RelevancePlace:
    capture: Capture
    token: int  # the row at which it is asked
    entries: tuple[int, ...]  # of capture.layers, those that look at the tokens
    kind: str  # of their attention

    @property
    def writes(self) -> bool:
        return self.capture.predicts

    @property
    def reads_target(self) -> bool:
        """Whether the row is one of a second text, which the decoder reads."""
        return self.capture.target_tokens is not None

    @property
    def rows(self) -> list[str]:
        """The text whose rows can be asked at."""
        tokens = self.capture.target_tokens if self.reads_target else self.capture.tokens
        return tokens or [str(n) for n in range(self.capture.layers[self.entries[-1]].shape[1])]

    @property
    def about(self) -> About:
        state = st.session_state
        score = state.score if self.writes else "log_probability"
        return About(state.shown, self.token, state.target, state.contrast, score)

    def asked(self, method: str) -> Relevance:
        state = st.session_state
        layer = state.layer if state.attended in ("layer", "head") else None
        head = state.head if state.attended == "head" else None
        settings = Settings(layer, head, state.baseline, state.path, state.samples)
        return Relevance(self.about, method, settings.read_by(method))


def find_relevance_place(capture: Capture) -> RelevancePlace:
    """The selection brought into this Capture's ranges, with a notice for whatever did not fit."""
    state = st.session_state
    kinds = {layer.kind for layer in capture.layers}
    kind = next(kind for kind in ("cross", "decoder", "encoder") if kind in kinds)
    entries = tuple(n for n, layer in enumerate(capture.layers) if layer.kind == kind)
    count = capture.layers[entries[-1]].shape[1]
    last = count - 1 if capture.predicts else max(0, count - 2)  # an encoder's text ends with its separator
    problems = [selection.fit("token", count, default=last), selection.fit("layer", len(entries), default=0)]
    problems.append(selection.fit("head", capture.layers[entries[state.layer]].heads, default=0))
    for problem in filter(None, problems):
        notice(problem)
    return RelevancePlace(capture, state.token, entries, kind)
