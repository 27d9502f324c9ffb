"""Where the selection is in a Capture, and the View that it asks for."""

from dataclasses import dataclass, replace

import streamlit as st

from attention_core.errors import HeadlightError
from attention_core.figures.words import layer_name
from attention_core.record import Capture, LayerCapture
from attention_core.views import Seen, View

from . import selection
from .messages import notice
from .options import heads_in, numbers_in

CELLS_UP_TO = 256  # tokens; beyond, a cell of a picture stands for several


@dataclass(frozen=True)
class Place:
    """The chosen layer, head and query token, and what is looked at together with them."""

    capture: Capture
    kinds: list[str]
    entries: list[int]  # of capture.layers, those of the chosen kind: "layer" counts among them
    entry: int
    head: int
    token: int
    tokens: list[int]  # the chosen token first
    heads: tuple[tuple[int, int], ...]  # (entry, head), the chosen one first

    @property
    def layer(self) -> LayerCapture:
        return self.capture.layers[self.entry]

    @property
    def name(self) -> str:
        """What the chosen head is called."""
        return f"{layer_name(self.layer, len(self.kinds) > 1)}, head {self.head}"

    def head_name(self, entry: int, head: int) -> str:
        return f"{layer_name(self.capture.layers[entry], len(self.kinds) > 1)}, head {head}"


def find_place(capture: Capture) -> Place:
    """The selection brought into this Capture's ranges, with a notice for whatever did not fit."""
    state, layers = st.session_state, capture.layers
    kinds = list(dict.fromkeys(layer.kind for layer in layers))
    problems = [selection.fit_kind(kinds)]
    kind = state.kind or kinds[0]
    entries = [i for i, layer in enumerate(layers) if layer.kind == kind]
    problems.append(selection.fit("layer", len(entries), default=0))
    entry = entries[state.layer]
    heads, tokens, _ = layers[entry].shape
    problems.append(selection.fit("head", heads, default=0))
    # an encoder's text ends with its separator
    last = tokens - 1 if capture.predicts or kind != "encoder" else max(0, tokens - 2)
    problems.append(selection.fit("token", tokens, default=last))
    several, problem = _combined(capture, entries)
    problems.append(problem)
    together = [token for token in numbers_in(state.tokens) if token < tokens]
    if len(together) < len(numbers_in(state.tokens)):
        problems.append(f"Of the tokens {state.tokens} some are not here: they count from 0 to {tokens - 1}.")
    for problem in filter(None, problems):
        notice(problem)
    return Place(
        capture,
        kinds,
        entries,
        entry,
        state.head,
        state.token,
        list(dict.fromkeys([state.token, *together])),
        tuple(dict.fromkeys([(entry, state.head), *several])),
    )


def _combined(capture: Capture, entries: list[int]) -> tuple[list[tuple[int, int]], str | None]:
    """The further heads that are named, and a sentence on those that are not there."""
    found, missing = [], []
    for layer, head in heads_in(st.session_state.heads):
        count = capture.layers[entries[layer]].heads if layer < len(entries) else 0
        if not count or (head is not None and head >= count):
            missing.append(f"{layer}.{'*' if head is None else head}")
        else:
            found += [(entries[layer], h) for h in (range(count) if head is None else [head])]
    return found, f"There is no head {', '.join(missing)} here: name them as layer.head." if missing else None


def view_of(place: Place) -> View:
    state = st.session_state
    heads = place.heads[:1] if state.view == "lines" else place.heads  # lines are drawn for each head on its own
    return View(heads, state.how, frozenset(state.drop), state.words, state.between)


def look(place: Place) -> Seen:
    """The Capture as the selection wants it; where that cannot be, without what cannot, and a notice."""
    wanted = view_of(place)
    for view in (wanted, replace(wanted, words=False, between=""), View(place.heads[:1])):
        try:
            return Seen(place.capture, view)
        except HeadlightError as problem:
            notice(str(problem))
    raise HeadlightError("This head cannot be shown: choose another one.")


def by_token(place: Place, seen: Seen) -> Seen:
    """The same, but token by token: what the chips are shaded by."""
    if not (seen.view.words or seen.view.between):
        return seen
    return Seen(place.capture, replace(seen.view, words=False, between=""))
