"""What every page shows of a read text: tokens as chips, what is expected next, the numbers of the chosen place."""

import streamlit as st

from attention_core.figures.words import percent
from attention_core.record import Capture
from attention_core.views import Seen

from . import frame, selection
from .components import token_chips
from .messages import sentence
from .options import KINDS
from .place import Place, by_token


def text_as_read(place: Place, seen: Seen, expected: bool = True, shaded: bool = True) -> None:
    """The tokens (`shaded` by weight), what is `expected` next, and the target of a model that reads two texts."""
    # what comes and goes stands in places that are always there, so that nothing after it is built anew
    with st.container(key="texts"):
        tokens_as_chips(place, seen, shaded)
    with st.container(key="expected"):
        if expected:
            next_tokens(place.capture)
    with st.container(key="target_place"):
        frame.target_text(place.capture)


def tokens_as_chips(place: Place, seen: Seen, shaded: bool) -> None:
    """The text, shaded by what the chosen tokens look at; in cross-attention the text that looks above it."""
    capture, state = place.capture, st.session_state
    plain = by_token(place, seen)
    row = plain.mean_of(place.tokens) if shaded else None
    if place.layer.kind == "cross":
        token_chips(
            capture.query_tokens(place.entry), None, None, place.tokens, "chips", selection.chose_token, "from: target"
        )
        token_chips(capture.key_tokens(place.entry), None, row, [], "source", lambda *chosen: None, "to: source")
        return
    reads_target = capture.target_tokens is not None and place.layer.kind == "decoder"
    ids = capture.inputs["decoder_input_ids" if reads_target else "input_ids"]
    token_chips(
        capture.query_tokens(place.entry),
        ids[0].tolist() if state.ids else None,
        row,
        place.tokens,
        "chips",
        selection.chose_token,
    )


def next_tokens(capture: Capture) -> None:
    if capture.likely:
        listed = "   ".join(f"{token} {percent(share)}" for token, share in capture.likely)
        sentence(f"Expected next:  {listed}      (· is a space)", "next")


def place_numbers(place: Place, columns: int | list[int] = 3) -> list:
    """Kind, layer, head and token to choose from → the columns, of which those after the third are free."""
    state = st.session_state
    kinds = st.container(key="kinds")
    if len(place.kinds) > 1:
        state.kind = place.layer.kind
        kinds.radio(
            "Attention",
            place.kinds,
            key="kind",
            format_func=KINDS.get,
            horizontal=True,
            on_change=selection.kind_changed,
        )
    heads, tokens, _ = place.layer.shape
    counts = (len(place.entries), heads, tokens)
    made = st.columns(columns, gap="small", vertical_alignment="bottom")
    for column, name, count in zip(made, selection.NUMBERS, counts, strict=False):
        changed = selection.token_changed if name == "token" else selection.changed
        column.number_input(f"{name.capitalize()} (0–{count - 1})", key=name, step=1, on_change=changed)
    return made
