"""The Display section: how the chosen head is shown."""

import streamlit as st

from attention_core.heads import SCORES
from attention_core.views import FIRST, PUNCTUATION, Seen

from . import selection
from .options import AGAINST, LONGEST, MEASURED, PER
from .other_models import choices, title_of
from .place import Place

IN_WORDS = {FIRST: "first token", PUNCTUATION: "punctuation"}
HOW = {"mean": "averaged", "sum": "summed", "max": "the largest"}
PAIR = {
    "": "everything",
    "AB": "first → second",
    "BA": "second → first",
    "AA": "within the first",
    "BB": "within the second",
}


def display_popover(place: Place, seen: Seen) -> None:
    with st.popover("Display", key="display", on_change="rerun", width="content") as opened:
        if not opened.open:
            return
        colours, tokens, heads = st.columns(3, gap="medium", width=900)  # so that it fits a screen without scrolling
        with colours:
            _colours()
        with tokens:
            _tokens(place, seen)
            _combine(place)
        with heads:
            _pair(place)
            _sort()
            _beside(place)


def _colours() -> None:
    st.segmented_control(
        "Colour scale",
        [False, True],
        key="log",
        format_func=lambda log: "log" if log else "linear",
        on_change=selection.changed,
        required=True,
    )
    st.selectbox("Darkest at", list(PER), key="per", format_func=PER.get, on_change=selection.changed)
    st.number_input("Hide under, in %", 0.0, 100.0, step=0.5, key="cut", on_change=selection.changed)
    st.toggle("Whole words", key="words", on_change=selection.changed)
    st.toggle("Token ids", key="ids", on_change=selection.changed)


def _tokens(place: Place, seen: Seen) -> None:
    known = list(dict.fromkeys([*seen.can_leave_out, *st.session_state.drop]))
    st.multiselect(
        "Leave out",
        known,
        key="drop",
        format_func=lambda name: IN_WORDS.get(name, name),
        placeholder="nothing",
        on_change=selection.changed,
    )
    st.text_input("More query tokens", key="tokens", placeholder="3, 5", on_change=selection.changed)


def _combine(place: Place) -> None:
    st.text_input("Combine with heads", key="heads", placeholder="3.1, 2.*", on_change=selection.changed)
    if len(place.heads) > 1:
        st.selectbox("Combined as", list(HOW), key="how", format_func=HOW.get, on_change=selection.changed)


def _sort() -> None:
    titles = {"": "layer and head"} | {name: score.title for name, score in SCORES.items()}
    st.selectbox("Sort all heads by", list(titles), key="sort", format_func=titles.get, on_change=selection.changed)
    if st.session_state.sort:
        least, measured = st.columns([2, 3])
        least.number_input("at least", 0.0, 9999.0, step=0.1, key="least", on_change=selection.changed)
        measured.selectbox(
            "measured on", list(MEASURED), key="measured", format_func=MEASURED.get, on_change=selection.changed
        )


def _beside(place: Place) -> None:
    state = st.session_state
    st.selectbox(
        "Side by side with", list(AGAINST), key="against", format_func=AGAINST.get, on_change=selection.changed
    )
    if state.against in ("head", "model"):
        layer, head = st.columns(2)
        layer.number_input("its layer", 0, step=1, key="vs_layer", on_change=selection.changed)
        head.number_input("its head", 0, step=1, key="vs_head", on_change=selection.changed)
    if state.against == "text":
        st.text_input("The other text", key="vs_text", max_chars=LONGEST, on_change=selection.changed)
    if state.against == "model":
        known = choices(state.vs_model or state.model)
        state.vs_model = state.vs_model or known[0]
        st.selectbox("The other model", known, key="vs_model", format_func=title_of, on_change=selection.changed)


def _pair(place: Place) -> None:
    if "encoder" in place.kinds and len(place.kinds) == 1:
        st.text_input("Second text", key="second", max_chars=LONGEST, on_change=selection.text_changed)
        if place.capture.segments is not None:
            st.selectbox("Look", list(PAIR), key="between", format_func=PAIR.get, on_change=selection.changed)
