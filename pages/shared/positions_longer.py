"""Longer texts on the page "Positions": the loss by position, far beyond what the models were trained on."""

import streamlit as st

from attention_core.figures import position_figures as figures
from attention_core.figures import position_tables as tables
from attention_core.figures import position_words as words
from attention_core.variants import results

from .drawn import colours, opened, plot
from .messages import sentence, told
from .positions_ways import heading


def longer() -> None:
    measured = results()
    title, *said = words.loss_in_words(measured)
    with st.container(key="said"):
        told(title, said)
    plot(figures.loss_figure(measured, colours()), "loss_by_position", " ".join([title, *said]))
    sentence(words.nats())
    shuffled = words.shuffled_in_words(measured)
    if shuffled:
        with st.container(key="shuffled_texts"):
            heading(shuffled[0])
            sentence(shuffled[1])
    sentence(words.models_in_words(measured))
    opened(
        "All numbers",
        "loss_numbers",
        lambda: tables.variants_table(measured),
        lambda: tables.loss_table(measured),
    )
