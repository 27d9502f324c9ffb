"""Road: how we got from one fixed vector to the Transformer, station by station, with a word of the reader's."""

import streamlit as st

from attention_core.errors import HeadlightError
from attention_core.figures.road_words import agreement_in_words
from pages.shared import frame, selection
from pages.shared.messages import notice, told
from pages.shared.road_below import below
from pages.shared.road_cell import all_weights, equations
from pages.shared.road_place import RoadPlace, find_road_place, proof
from pages.shared.road_view import road_view


def show(place: RoadPlace) -> None:
    proof(place)
    with st.container(key="said"):
        told(*agreement_in_words(place.sayings))
    road_view(
        place.sayings,
        place.alignments,
        place.station,
        place.cell,
        "road_cards",
        selection.chose_cell,
        selection.chose_cross,
    )
    all_weights(place)
    equations(place)
    below(place)


frame.needs_app(__file__)
try:
    show(find_road_place())
except HeadlightError as problem:  # files that are missing
    notice(str(problem))
