"""Two side by side: two heads, two texts or two models, and their difference where both look at the same tokens."""

from dataclasses import replace

import numpy as np
import streamlit as st

from attention_core.errors import HeadlightError
from attention_core.figures.words import largest_difference
from attention_core.jobs import RECORDING
from attention_core.views import Seen

from . import frame, selection
from .components import head_view
from .messages import sentence
from .other_models import needs_consent, title_of
from .place import CELLS_UP_TO, Place


def side_by_side(place: Place, seen: Seen, scale: dict) -> None:
    """Nothing where nothing was asked for. Raises HeadlightError where the other one cannot be shown."""
    if not st.session_state.against:
        return
    name, other = _other(place, seen)
    if max(len(seen), len(other), len(seen.key_groups), len(other.key_groups)) > CELLS_UP_TO:
        raise HeadlightError(f"Side by side shows texts of up to {CELLS_UP_TO} tokens: shorten the text.")
    same = seen.query_tokens == other.query_tokens and seen.key_tokens == other.key_tokens
    maps = [(place.name, seen, seen.all()), (name, other, other.all())]
    columns = st.columns(3 if same else 2, gap="medium")
    for n, (column, (title, shown, weights)) in enumerate(zip(columns, maps, strict=False)):
        with column:
            _map(weights, shown, title, f"beside-{n}", scale)
    if same:
        difference = maps[0][2] - maps[1][2]
        with columns[2]:
            _map(difference, seen, "The first minus the second", "beside-2", {}, signed=True)
        sentence(largest_difference(maps[0][2], maps[1][2], seen.query_tokens, seen.key_tokens))
    else:
        sentence("The two do not look at the same tokens, so there is no difference to draw.")


def _map(weights: np.ndarray, seen: Seen, title: str, key: str, scale: dict, signed: bool = False) -> None:
    head_view(
        weights,
        seen.query_tokens,
        seen.key_tokens,
        row=min(seen.place_of(st.session_state.token), len(seen) - 1),
        uniform=0.0,
        title=title,
        key=key,
        on_choose=lambda chosen: selection.chose_token(seen.token_of(chosen)),
        scale=scale,
        bars=False,
        signed=signed,
    )


def _other(place: Place, seen: Seen) -> tuple[str, Seen]:
    """What stands beside the chosen head, and its name."""
    state, request = st.session_state, st.session_state.shown
    if state.against == "head":
        entry = _fits(place.entries, state.vs_layer, "layer")
        head = _fits(range(place.capture.layers[entry].heads), state.vs_head, "head")
        return place.head_name(entry, head), Seen(place.capture, replace(seen.view, heads=((entry, head),)))
    if request.model.startswith(RECORDING):
        raise HeadlightError("A recording holds one text and one model: choose another head to stand beside this one.")
    if state.against == "text":
        if not state.vs_text.strip():
            raise HeadlightError("Type the other text under Display, Side by side with.")
        capture = frame.read(replace(request, text=state.vs_text, second="", target=""))
        view = replace(seen.view, heads=seen.view.heads[:1], between="")
        return f"{place.name} on “{state.vs_text}”", Seen(capture, view)
    model = state.vs_model or request.model
    if needs_consent(model):
        raise HeadlightError(f"Load {model} first: choose it as the model, then go back.")
    capture = frame.read(replace(request, model=model))
    entries = [i for i, layer in enumerate(capture.layers) if layer.kind == place.layer.kind]
    if not entries:
        raise HeadlightError(f"{title_of(model)} has no {place.layer.kind} attention: choose another model.")
    entry = _fits(entries, state.vs_layer, "layer")
    head = _fits(range(capture.layers[entry].heads), state.vs_head, "head")
    layer = capture.layers[entry].layer
    return f"{title_of(model)}, layer {layer}, head {head}", Seen(capture, replace(seen.view, heads=((entry, head),)))


def _fits(places, number: int, name: str) -> int:
    if number >= len(places):
        raise HeadlightError(
            f"There is no {name} {number} to stand beside: choose 0 to {len(places) - 1} under Display."
        )
    return places[number]
