"""The needle on the page "Positions": a sentence farther and farther back, and whether a model still finds it."""

import streamlit as st

from attention_core.figures import needle_figures as figures
from attention_core.figures.words import percent
from attention_core.jobs import RECORDING, Hunt, Request
from attention_core.needle import LONGEST, Found, Hunted

from . import frame, selection
from .coming import as_it_comes
from .drawn import colours, opened, plot
from .messages import sentence, told
from .other_models import ask_for_consent, needs_consent, title_of

HEADS = 4


def needle() -> None:
    state = st.session_state
    said = st.container(key="said")
    with st.container(horizontal=True, vertical_alignment="bottom", key="reading"):
        st.text_input(
            "Needle: its last word is asked for at the end",
            key="needle",
            max_chars=LONGEST,
            on_change=selection.changed,
            width="stretch",
        )
        frame.choose_model()
    if state.model.startswith(RECORDING):
        told("A recording holds one reading of a text", ["No model is with it that could be asked: choose one above."])
        return
    if needs_consent(state.model):
        ask_for_consent(state.model)
        return
    asked = Hunt(Request(state.model, state.needle, state.dtype))
    with as_it_comes(asked) as coming:
        hunted, why = coming.now(coming.ask(frame.engine().hunt(asked)))
        if hunted is None:
            if why and not coming.stopped:  # that is said beside “Go on”
                with said:
                    told("There is nothing to find", [why])
            return
        with said:
            title, *rest = figures.needle_in_words(hunted, title_of(state.model))
            told(title, rest)
        show(hunted)


def show(hunted: Hunted) -> None:
    heads = hunted.best_heads(HEADS)
    found, looked = st.columns(2, gap="large")
    with found, st.container(key="found"):
        said = " ".join(figures.needle_in_words(hunted, title_of(st.session_state.model)))
        plot(figures.chances_figure(hunted, colours()), "needle_chances", said)
    with looked, st.container(key="looked"):
        title, *rest = figures.heads_of_needle_in_words(hunted, heads)
        plot(figures.needle_heads_figure(hunted, heads, colours()), "needle_heads", " ".join([title, *rest]))
    with st.container(key="needle_heads_said"):
        told(title, rest)
        to_heads(hunted, heads)
    sentence(figures.asked_in_words(hunted))
    opened(
        "All numbers",
        "needle_numbers",
        lambda: figures.needle_table(hunted),
        lambda: figures.needle_heads_table(hunted, hunted.best_heads(12)),
    )


def to_heads(hunted: Hunted, heads: list[tuple[int, int]]) -> None:
    """Links to the heads at the farthest place at which the needle was found, or at the nearest one."""
    hits = [one for one in hunted.found if one.rank == 1]
    at: Found = hits[-1] if hits else hunted.found[0]
    with st.container(horizontal=True, key="needle_links"):
        for row, head in heads:
            layer, share = hunted.entries[row], percent(float(at.weights[row, head]))
            place = {"layer": row, "head": head, "token": at.tokens - 1, "key": at.place}
            changes = selection.current() | {"text": at.text, "heads": "", "tokens": "", "kind": ""} | place
            st.page_link(
                "pages/heads.py",
                label=f"Layer {layer}, head {head}: {share} at {at.distance:,} back",
                query_params=selection.as_parameters(changes),
                width="content",
            )
