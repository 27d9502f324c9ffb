"""The lower part of the page "Road": where the fixed vector breaks, how many steps wait, and the papers."""

from itertools import groupby

import streamlit as st

from attention_core.figures import road_figures as figures
from attention_core.figures import road_words as words
from attention_core.figures.formulas import Formula
from attention_core.figures.road_cells import Cell, can_look
from attention_core.figures.road_equations import bell, of_the_vector, place, score
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
    formulas: dict[str, list[Formula]] = {}
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
        sentence("\n".join(f"{title}: {' '.join(one.words for one in parts)}" for title, parts in formulas.items()))


def score_of(shown: RoadPlace, station: Station, cell: Cell) -> list[Formula]:
    """A station's equations in letters, and with the numbers of a cell where it looks there; → all of them."""
    saying, alignment = shown.sayings[station.name], shown.alignments[station.name]
    with st.container(key=f"score-{station.name}", gap="small"):
        st.html(f'<p class="sentence"><strong>{station.title}.</strong> {station.said}</p>')
        if alignment is None:
            formulas = [of_the_vector(saying)]
            st.latex(formulas[0].letters)
            return formulas
        there = cell.sound < len(saying.sounds)
        at = cell if there else Cell(0, 0)
        made = [place] if alignment.centres is not None else []
        made += [score, bell] if alignment.before is not None else [score]
        formulas = [one(saying, alignment, at) for one in made]
        seen = there and can_look(alignment)[cell.sound, cell.letter]
        for formula in formulas:
            st.latex(formula.letters)
            if seen or (there and formula is formulas[0] and alignment.centres is not None):
                st.latex(formula.filled)
        if not there:
            sentence(f"This station says no sound number {cell.sound}.")
        elif not seen:
            sentence(f"Letter {cell.letter} is outside of the window of sound {cell.sound}.")
    return formulas
