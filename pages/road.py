"""Road: how we got from one fixed vector to the Transformer, station by station, with a word of the reader's."""

import streamlit as st

from attention_core.figures.road_words import agreement_in_words
from pages.shared import frame, selection
from pages.shared.messages import told
from pages.shared.road_below import below
from pages.shared.road_cell import all_weights, equations
from pages.shared.road_place import find_road_place, proof
from pages.shared.road_view import road_view

frame.needs_app(__file__)
place = find_road_place()
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
