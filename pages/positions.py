"""Positions: how order gets into a Transformer, seen encoding by encoding, and felt with small models."""

import streamlit as st

from attention_core.errors import HeadlightError
from attention_core.variants import ENCODINGS
from pages.shared import frame, selection
from pages.shared.messages import notice
from pages.shared.options import ORDERS
from pages.shared.positions_longer import longer
from pages.shared.positions_needle import needle
from pages.shared.positions_shuffle import shuffle, shuffle_controls
from pages.shared.positions_ways import ways

PARTS = {"ways": ways, "shuffle": shuffle, "longer": longer, "needle": needle}

frame.needs_app(__file__)
with st.container(horizontal=True, vertical_alignment="bottom", key="controls"):
    st.segmented_control(
        "How order gets in",
        list(ORDERS),
        key="order",
        format_func=ORDERS.get,
        required=True,
        on_change=selection.changed,
    )
    if st.session_state.order in ("ways", "shuffle"):
        st.segmented_control(
            "Encoding",
            list(ENCODINGS),
            key="encoding",
            format_func=ENCODINGS.get,
            required=True,
            on_change=selection.changed,
        )
    if st.session_state.order == "shuffle":
        shuffle_controls()
with st.container(key=f"part-{st.session_state.order}"):
    try:
        PARTS[st.session_state.order]()
    except HeadlightError as problem:  # here: what stands above is drawn already
        notice(str(problem))
