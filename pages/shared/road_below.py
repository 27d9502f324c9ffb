"""The lower part of the page "Road": where the fixed vector breaks, how many steps wait, and the papers."""

from itertools import groupby

import streamlit as st

from attention_core.figures import road_figures as figures
from attention_core.figures import road_words as words
from attention_core.figures.formulas import Formula
from attention_core.figures.road_cells import Cell, can_look
from attention_core.figures.road_equations import of_the_vector, score
from attention_core.figures.road_tables import lengths_table, steps_table
from attention_core.seq2seq.stations import STATIONS, Station

from . import selection
from .drawn import colours, opened, plot
from .messages import sentence, told
from .options import ROADS
from .road_place import RoadPlace, results


def below(place: RoadPlace) -> None:
    st.segmented_control(
        "Look further",
        list(ROADS),
        key="road",
        format_func=ROADS.get,
        required=True,
        label_visibility="collapsed",
        on_change=selection.changed,
    )
    part = st.session_state.road
    with st.container(key=f"road-{part}"):
        {"length": by_length, "steps": in_a_row, "papers": papers}[part](place)


def by_length(place: RoadPlace) -> None:
    found = results()
    told(*words.lengths_in_words(found, place.station))
    plot(figures.lengths_figure(found, place.station, colours()), "lengths", words.lengths_alt(found))
    opened(
        "All numbers, with intervals",
        "length_numbers",
        lambda: lengths_table(found),
        lambda: lengths_table(found, "sound_errors"),
    )


def in_a_row(place: RoadPlace) -> None:
    title, sentences = words.steps_in_words(place.sayings)
    told(title, sentences[:1])
    plot(figures.steps_figure(place.sayings, colours()), "steps_in_a_row", words.steps_alt(place.sayings))
    sentence("\n".join(sentences[1:]))
    opened("The steps in numbers", "step_numbers", lambda: steps_table(place.sayings, results()))


def papers(place: RoadPlace) -> None:
    """Year by year: who, what it brought, and the equation of its score with the numbers of the chosen cell."""
    cell = place.cell or Cell(0, 0)
    told(*words.papers_in_words(place.saying, cell))
    formulas: dict[str, Formula] = {}
    for (year, authors, paper), group in groupby(STATIONS.values(), lambda one: (one.year, one.authors, one.paper)):
        with st.container(key=f"paper-{authors.split()[0].strip(',').lower()}"):
            when, what = st.columns([1, 9], gap="small")
            when.html(f'<p class="when">{year}</p>')
            with what:
                sentence(authors, "heading")
                sentence(paper)
                for station in group:
                    formulas[station.title] = score_of(place, station, cell)
    with st.expander("These equations in words", key="papers_words"):
        sentence("\n".join(f"{title}: {formula.words}" for title, formula in formulas.items()))


def score_of(place: RoadPlace, station: Station, cell: Cell) -> Formula:
    saying, alignment = place.sayings[station.name], place.alignments[station.name]
    with st.container(key=f"score-{station.name}", gap="small"):
        st.html(f'<p class="sentence"><strong>{station.title}.</strong> {station.said}</p>')
        if alignment is None:
            formula = of_the_vector(saying)
            st.latex(formula.letters)
            return formula
        there = cell.sound < len(saying.sounds)
        formula = score(saying, alignment, cell if there else Cell(0, 0))
        st.latex(formula.letters)
        if not there:
            sentence(f"This station says no sound number {cell.sound}.")
        elif not can_look(alignment)[cell.sound, cell.letter]:
            sentence(f"Letter {cell.letter} is outside of the window of sound {cell.sound}.")
        else:
            st.latex(formula.filled)
    return formula
