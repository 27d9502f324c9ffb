"""What is asked on "Relevance": the target, what it is held against, the methods and what they are told."""

import streamlit as st

from attention_core.attribution import METHODS
from attention_core.figures.words import percent
from attention_core.scorer import Aim, Candidate

from . import selection
from .options import ATTENDED, BASELINES, BY, LONGEST, SCORED
from .relevance_place import RelevancePlace

CHIPS_UP_TO = 160  # tokens that can be clicked


def target_and_contrast(aim: Aim) -> None:
    """Why this one, and rather than which."""
    if aim.kind == "next":
        own = aim.likely[0]
        _pick("Why this next token?", "target", aim, f"{_named(own)}, the model’s own")
        _pick("Rather than", "contrast", aim, "any other")
        return
    changed = selection.changed
    st.text_input("Why is it near to this text?", key="target", max_chars=LONGEST, on_change=changed, width=420)
    if aim.texts:
        st.text_input("Rather than to this one", key="contrast", max_chars=LONGEST, on_change=changed, width=420)


def _pick(label: str, name: str, aim: Aim, empty: str) -> None:
    """One of the likely tokens, or whatever is typed."""
    candidates = [*aim.likely, *([aim.follows] if aim.follows is not None else [])]
    names = {f"#{candidate.id}": _named(candidate) for candidate in candidates}
    names |= {"": empty}
    chosen: Candidate | None = getattr(aim, name)
    here = st.session_state[name]
    if chosen is not None and here not in names:
        names[here] = _named(chosen)
    options = list(dict.fromkeys(["", *names]))
    st.selectbox(
        label,
        options,
        key=name,
        format_func=lambda option: names.get(option, option),
        accept_new_options=True,
        on_change=selection.chose_target,
        args=(name,),
        width=300,
    )


def _named(candidate: Candidate) -> str:
    return f"{candidate.token}   {percent(candidate.share)}"


def methods_popover(place: RelevancePlace) -> None:
    """Which methods are shown, and what they are told."""
    with st.popover("Methods", key="methods", on_change="rerun") as opened:
        if not opened.open:
            return
        changed = selection.changed
        st.pills(
            "Methods: the first one shades the text",
            list(METHODS),
            selection_mode="multi",
            key="method",
            format_func=lambda name: METHODS[name].title,
            on_change=changed,
        )
        st.selectbox("Attention of", list(ATTENDED), key="attended", format_func=ATTENDED.get, on_change=changed)
        if st.session_state.attended != "all":
            heads = place.capture.layers[place.entries[st.session_state.layer]].heads
            for column, name, count in zip(st.columns(2), ("layer", "head"), (len(place.entries), heads), strict=True):
                column.number_input(f"{name.capitalize()} (0–{count - 1})", key=name, step=1, on_change=changed)
        if place.writes:
            st.selectbox("What is explained", list(SCORED), key="score", format_func=SCORED.get, on_change=changed)
        st.selectbox(
            "A token is left out by putting in its place",
            list(BASELINES),
            key="baseline",
            format_func=BASELINES.get,
            on_change=changed,
        )
        steps, samples = st.columns(2)
        steps.number_input("Steps of integrated gradients", key="path", step=1, on_change=changed)
        samples.number_input("Samples of Shapley values", key="samples", step=1, on_change=changed)


def order_and_units(place: RelevancePlace, has_words: bool) -> None:
    if len(place.rows) > CHIPS_UP_TO:
        st.number_input("Asked at token", key="token", step=1, on_change=selection.token_changed, width=130)
    st.segmented_control(
        "Sorted by", list(BY), key="by", format_func=BY.get, required=True, on_change=selection.changed
    )
    if has_words:
        st.toggle("Whole words", key="words", on_change=selection.changed)
