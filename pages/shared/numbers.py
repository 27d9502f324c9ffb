"""The Numbers section: the chosen head's queries, keys and values, and how it scores as each kind of head."""

import pandas as pd
import streamlit as st

from attention_core.figures.heatmaps import vectors_heatmap
from attention_core.heads import SCORES

from . import frame
from .messages import sentence
from .place import Place

VECTORS_UP_TO = 256


def numbers_section(place: Place) -> None:
    """Drawn when somebody opens it."""
    with st.expander("Numbers: queries, keys, values, kind of head", key="numbers", on_change="rerun") as section:
        if not section.open:
            return
        _vectors(place)
        _scores(place)


def _vectors(place: Place) -> None:
    capture, layer, head = place.capture, place.layer, place.head
    if layer.query is None or layer.key is None or layer.value is None:
        sentence(f"Queries, keys and values are unavailable: {capture.check.reason}")
        return
    shared = layer.key_value_head(head)
    if layer.key.shape[0] < layer.heads:
        sentence(f"This head reads key-value head {shared}, which it shares with its neighbours.")
    keys = layer.shape[2]
    start = max(0, min(place.token - VECTORS_UP_TO // 2, keys - VECTORS_UP_TO))
    shown = slice(start, start + VECTORS_UP_TO)
    if keys > VECTORS_UP_TO:
        sentence(f"Tokens {start} to {start + VECTORS_UP_TO - 1} are shown, around the chosen one.")
    parts = {
        "queries": (layer.query[head], capture.query_tokens(place.entry)),
        "keys": (layer.key[shared], capture.key_tokens(place.entry)),
        "values": (layer.value[shared], capture.key_tokens(place.entry)),
    }
    for column, (name, (tensor, tokens)) in zip(st.columns(3), parts.items(), strict=True):
        figure = vectors_heatmap(tensor[shown].float().cpu().numpy(), tokens[shown], start, name)
        column.plotly_chart(figure, key=f"vectors-{name}", config={"displayModeBar": False})


def _scores(place: Place) -> None:
    engine = frame.engine()
    control, here = frame.control(), engine.scores(place.capture)[place.entry]
    sentence(
        "What kind of head this is: means over the rows, on this text and on random tokens that are repeated.",
        "heading",
    )
    table = pd.DataFrame(
        {
            "measure": [score.title for score in SCORES.values()],
            "what it is": [score.about for score in SCORES.values()],
            "this text": [float(here[name][place.head]) for name in SCORES],
        }
    )
    if control is not None:
        table["random tokens, repeated"] = [float(control[place.entry][name][place.head]) for name in SCORES]
    st.dataframe(table, hide_index=True, key="scores", height="content")
