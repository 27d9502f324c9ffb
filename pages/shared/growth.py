"""The tab "Growth": the rows of K and V that each step of a run writes and reuses, and who looks at them."""

import numpy as np
import streamlit as st

from attention_core.figures.run_words import (
    candidates_in_words,
    forgets_in_words,
    step_in_words,
    steps_in_words,
)
from attention_core.figures.words import percent, row_in_words
from attention_core.run import Run

from . import selection
from .components import token_chips
from .growth_view import full_color, growth_view, player, stack_view
from .messages import sentence, told
from .options import KINDS
from .run_place import RunPlace
from .writing import Written, progress


def growth_tab(place: RunPlace, written: Written) -> None:
    state, step = st.session_state, place.step
    with st.container(key="text_so_far"):
        text_so_far(place)
    playing = st.container(key="playing")
    progress(written)
    with st.container(key="said"):
        told(f"Step {step.number}", step_in_words(step))
    candidates(place, written)
    with st.container(key="rows"):
        if state.stack:
            stack(place)
        else:
            rows(place)
    with playing:  # last: what is drawn before has arrived when it plays on
        player(
            len(place.run.steps),
            step.number,
            "player",
            selection.chose_at,
            "the model is still writing" if written.growing else "",
            steps_in_words(place.run),
            written.growing,
        )


def text_so_far(place: RunPlace) -> None:
    """All that was read so far, shaded by the look of the last token; a click marks a token's row."""
    weights, last = place.weights, place.step.read - 1
    if place.kind == "cross":
        token_chips(place.tokens, None, weights, [], "source", lambda token, add: None, "source")
        weights = None
    tokens = place.tokens if place.kind != "cross" else RunPlace(place.run, place.step, "decoder", 0, 0).tokens
    token_chips(tokens, None, weights, last, "chips", lambda token, add: selection.chose_row(token))


def candidates(place: RunPlace, written: Written) -> None:
    """What could have come next; a click on another one lets the run go on from there."""
    step = place.step
    ids = [c.token for c in step.candidates]

    def chose(index: int, add: bool) -> None:
        own = index == 0 and not step.facts.sampling.do_sample  # what the model takes by itself
        if ids[index] != step.token:
            selection.chose_candidate(step.number, None if own else ids[index])

    with st.container(key="candidates_place"):
        token_chips(
            step.candidate_texts,
            None,
            np.array([c.before for c in step.candidates], dtype=np.float32),
            ids.index(step.token),
            "candidates",
            chose if written.asked is not None else lambda index, add: None,
            "candidates",
            notes=[percent(c.after) for c in step.candidates],
            words=candidates_in_words(step),
            about="What could have come next. Enter on another one lets the run go on from there.",
        )
        if st.session_state.forced and written.asked is not None:
            with st.container(horizontal=True, vertical_alignment="center"):
                set_at = [s.number for s in place.run.steps if s.forced]
                sentence(f"Set by you: the token of step {', '.join(map(str, set_at))}." if set_at else "")
                st.button("Undo all", key="undo-forced", on_click=selection.writing_changed)


def numbers(place: RunPlace) -> None:
    """Layer, head, kind of attention, and whether all layers are shown."""
    for name, count in (("layer", len(place.layers)), ("head", place.heads)):
        st.number_input(
            f"{name.capitalize()} (0–{count - 1})", key=name, step=1, on_change=selection.changed, width=165
        )
    if place.step.cross_kept:
        st.session_state.kind = place.kind
        st.radio(
            "Attention",
            ["decoder", "cross"],
            key="kind",
            format_func=KINDS.get,
            horizontal=True,
            on_change=selection.kind_changed,
        )
    st.toggle("All layers", key="stack", on_change=selection.changed)


def rows(place: RunPlace) -> None:
    """The rows of one key-value head."""
    kept, step, facts = place.kept, place.step, place.run.facts
    if kept is None:
        sentence(f"Layer {place.layer} {facts.layers[place.layer]}.")
        return
    key, value = (tensor[place.shared].float().cpu().numpy() for tensor in kept.tensors)
    every_key, every_value = _last_rows(place.run, place)
    key_heads = kept.tensors[0].shape[0]
    query, reading = None, place.reading
    if reading is not None and reading.query is not None and reading.query.shape[2] == key.shape[1]:
        query = reading.query[place.head, 0].float().cpu().numpy()
    named, places = place.tokens, list(kept.positions)
    last = f"“{named[-1]}” ({step.read - 1})" if place.kind == "decoder" else "the token read last"
    if reading is not None:
        seen = place.weights[kept.start : kept.stop]
        spoken = [named[p] for p in places]
        name = f"{'Cross-attention l' if place.kind == 'cross' else 'L'}ayer {place.layer}, head {place.head}"
        query_token = step.input_texts[-1]
        words = row_in_words(name, [(step.read - 1, query_token)], spoken, seen, places)
        each = place.heads // key_heads
        if each > 1:
            first = place.shared * each
            words += f" Heads {first} to {first + each - 1} read the same rows, those of key-value head {place.shared}."
        sentence(words, "look")
    forgotten = place.layers[place.layer]
    if forgotten is not None and forgotten.start > kept.start:
        sentence(forgets_in_words(named[kept.start : forgotten.start], kept.start))
    new = step.computed if place.kind == "decoder" else range(0, len(places) if step.number == 0 else 0)
    final = place.run.steps[-1]
    most = (final.cross_kept if place.kind == "cross" else final.kept)[place.layer]
    growth_view(
        [named[p] for p in places],
        places,
        key,
        value,
        place.weights[kept.start : kept.stop] if reading is not None else None,
        new,
        "growth",
        selection.chose_row,
        scale_key=full_color(every_key),
        scale_value=full_color(every_value),
        key_title=f"K, the keys · key-value head {place.shared}",
        value_title="V, the values",
        weight_title=f"weight · head {place.head}",
        query=query,
        query_label=f"query of {last}, head {place.head}",
        chosen=st.session_state.row if st.session_state.row in places else None,
        forgotten=kept.start,
        pending=step.text if place.kind == "decoder" else "",
        most=most.stop - most.start if most is not None else 0,
        label=f"The rows of layer {place.layer}, key-value head {place.shared}",
    )


def _last_rows(run: Run, place: RunPlace) -> tuple[np.ndarray, np.ndarray]:
    """All rows that the run ends with: colours mean the same at every step."""
    last = run.steps[-1]
    kept = (last.cross_kept if place.kind == "cross" else last.kept)[place.layer] or place.kept
    assert kept is not None
    key, value = (tensor[place.shared].float().cpu().numpy() for tensor in kept.tensors)
    return key, value


def stack(place: RunPlace) -> None:
    """All layers at once."""
    final = place.run.steps[-1]
    finals = final.cross_kept if place.kind == "cross" else final.kept
    keys, values, scales = [], [], []
    for kept, last in zip(place.layers, finals, strict=True):
        if kept is None or last is None:
            keys.append(None), values.append(None), scales.append(None)
            continue
        key, value = (tensor.float().cpu().numpy() for tensor in kept.tensors)
        keys.append(key), values.append(value)
        scales.append(tuple(full_color(tensor.float().cpu().numpy()) for tensor in last.tensors))

    def chose(layer: int, shared: int) -> None:
        each = max(1, place.heads // max(1, keys[layer].shape[0] if keys[layer] is not None else 1))
        selection.chose_head(layer, shared * each)

    stack_view(
        keys,
        values,
        (place.layer, place.shared),
        "stack_picture",
        chose,
        scales=scales,
        new=len(place.step.computed) if place.kind == "decoder" else 0,
        most=max((last.stop - last.start for last in finals if last is not None), default=0),
        notes=list(place.run.facts.layers) if place.kind == "decoder" else (),
        label="The rows of all layers",
    )
