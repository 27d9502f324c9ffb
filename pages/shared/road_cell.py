"""The chosen cell on the page "Road": where its weight comes from, equation by equation, filled with its numbers."""

import streamlit as st

from attention_core.figures import road_words as words
from attention_core.figures.formulas import Formula
from attention_core.figures.road_equations import of_cell, of_the_vector
from attention_core.figures.road_tables import weights_tables

from .drawn import show_table
from .messages import sentence, told
from .road_place import RoadPlace


def equations(place: RoadPlace) -> None:
    """The equations of the chosen cell."""
    alignment, saying = place.alignment, place.saying
    if alignment is None or place.cell is None:
        title, rest = words.vector_in_words(saying)
        formulas = [of_the_vector(saying)]
    else:
        title, rest = words.cell_in_words(saying, alignment, place.cell)
        formulas = of_cell(saying, alignment, place.cell)
    with st.container(key="cell_said"):
        told(title, rest)
    with st.container(key="formulas"):
        for formula in formulas:
            in_letters_and_numbers(formula)
        with st.expander("The equations in words", key="cell_words"):
            for formula in formulas:
                sentence(formula.words)


def in_letters_and_numbers(formula: Formula) -> None:
    st.latex(formula.letters)
    st.latex(formula.filled)


def all_weights(place: RoadPlace) -> None:
    """Every picture in words and as a table, made when it is opened."""
    with st.expander("Every alignment in words and numbers", key="weights", on_change="rerun") as section:
        if not section.open:
            return
        for name, saying in place.sayings.items():
            alignment = place.alignments[name]
            sentence(words.alignment_in_words(saying, alignment))
            if alignment is not None:
                for table in weights_tables(saying, alignment):
                    show_table(table)
