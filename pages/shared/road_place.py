"""The word on the page "Road", what all stations made of it, and which cell of which alignment is chosen."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import streamlit as st

from attention_core.errors import HeadlightError
from attention_core.figures.road_cells import Cell, shown, strongest
from attention_core.figures.road_equations import largest_difference
from attention_core.seq2seq import stations
from attention_core.seq2seq.road import Road
from attention_core.seq2seq.saying import Alignment, Saying

from .messages import notice
from .options import NOT_CHOSEN, OPTIONS


@st.cache_resource(show_spinner="Loading the eight stations …")
def road() -> Road:
    """The stations of this server."""
    return Road()


@cache
def results() -> dict[str, Any]:
    return stations.results()


@dataclass(frozen=True)
class RoadPlace:
    word: str
    sayings: Mapping[str, Saying]  # by station
    alignments: Mapping[str, Alignment | None]  # the one of each station that is shown
    station: str
    cell: Cell | None  # None: the station has no alignment

    @property
    def saying(self) -> Saying:
        return self.sayings[self.station]

    @property
    def alignment(self) -> Alignment | None:
        return self.alignments[self.station]


def proof(place: RoadPlace) -> None:
    """How it is known that the numbers are the models' own."""
    apart, largest = largest_difference(one for saying in place.sayings.values() for one in saying.alignments)
    with st.session_state.proof_place, st.popover("Proof ✓", type="tertiary"):
        st.html(
            "<p>Every sound, weight and score on this page was computed by the eight models on this server for this "
            "word.</p><p>A score is the sum of the products in its equation. Added up again here for every cell of "
            f"every station, the largest difference is <b>{apart:.8f}</b>, of scores up to {largest:.1f}.</p>"
            "<p>The project’s tests work a whole pass of each station a second time, by its paper’s equations and "
            "without its code, and compare.</p><p>Letters, sounds, layers and heads count from 0.</p>"
        )


def find_road_place() -> RoadPlace:
    """For what is no word the last one that could be said, with a sentence on why."""
    state = st.session_state
    try:
        sayings = road().say(state.word)
        state.good_word = state.word
    except HeadlightError as problem:
        good = state.get("good_word", OPTIONS["word"].default)
        notice(f"{problem} “{good}” is shown.")
        sayings = road().say(good)
    alignments = {name: shown(saying, state.cross) for name, saying in sayings.items()}
    saying, alignment = sayings[state.station], alignments[state.station]
    cell = None if alignment is None else _cell(saying, alignment)
    return RoadPlace(saying.word, sayings, alignments, state.station, cell)


def _cell(saying: Saying, alignment: Alignment) -> Cell:
    """The chosen cell; what is left open is where the station looks most, and what is outside is told."""
    state, most = st.session_state, strongest(alignment, saying)
    sound, letter = state.sound, state.letter
    if sound == NOT_CHOSEN:
        sound = most.sound
    sound = _fit("sound", sound, len(saying.sounds))
    if letter == NOT_CHOSEN:
        letter = int(alignment.weights[sound].argmax())
    return Cell(sound, _fit("letter", letter, len(saying.letters)))


def _fit(name: str, value: int, count: int) -> int:
    if value < count:
        return value
    notice(f"There is no {name} {value} here: they count from 0 to {count - 1}. Number {count - 1} is shown.")
    return count - 1
