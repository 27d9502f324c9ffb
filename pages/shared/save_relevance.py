"""The section "Save" of "Relevance": every score as CSV."""

import streamlit as st

from attention_core.export import relevance_csv

from .messages import sentence
from .relevance_bars import Answers


def save_popover(answers: Answers) -> None:
    with st.popover("Save", key="save", on_change="rerun") as opened:
        if not opened.open:
            return
        if not answers.found:
            sentence("There is nothing to save yet.")
            return
        st.download_button(
            "Scores as CSV",
            relevance_csv(list(answers.found.values())),
            "headlight-relevance.csv",
            "text/csv",
            key="save-relevance",
            on_click="ignore",
        )
        sentence("One line a token, one column a method, signs kept. What was asked stands in the columns’ names.")
