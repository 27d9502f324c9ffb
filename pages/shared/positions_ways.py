"""The five ways on the page "Positions": what each encoding adds, turns or takes off, and how two places compare."""

import streamlit as st

from attention_core.encodings import alibi_slopes, rope_angles
from attention_core.figures import position_figures as figures
from attention_core.figures import position_tables as tables
from attention_core.figures import position_words as words
from attention_core.ordering import alibi_penalties, encoded_places, learned_table, products_by_distance, variant
from attention_core.variants import results

from . import selection
from .drawn import colours, opened, plot
from .messages import sentence, told

POSITIONS = 128  # that are drawn
DISTANCES = 96


def ways() -> None:
    encoding = st.session_state.encoding
    about = words.TOLD[encoding]
    with st.container(key="said"):
        told(about.title, [about.what, about.why])
    seen, compared = st.columns([1, 1], gap="large")
    with seen, st.container(key=f"seen-{encoding}"):
        {"sinusoidal": matrix, "learned": matrix, "rope": dials, "alibi": slopes, "none": nothing}[encoding](encoding)
    with compared, st.container(key=f"compared-{encoding}"):
        products(encoding) if encoding != "alibi" else penalties()
        with st.container(key="formula"):
            st.latex(about.formula)
        sentence(f"{about.letters} Source: {about.paper}.")


def matrix(encoding: str) -> None:
    """The vectors that are added."""
    config = variant(encoding, True).model.config
    trained = results()["learned"].trained_length if encoding == "learned" else None
    table = encoded_places(
        encoding,
        POSITIONS if trained is None else 2 * trained,
        config.hidden_size,
        config.rope_theta,
        learned_table() if encoding == "learned" else None,
    ).numpy()
    heading("What is added to each token’s vector, a row for each position")
    said = words.map_in_words(table, encoding, trained)
    plot(figures.encoding_map(table, trained, colours()), "encoding_map", said)
    sentence(said)
    opened("Some rows in numbers", "matrix_numbers", lambda: tables.matrix_table(table))


def dials(encoding: str) -> None:
    """The pairs of a query as hands, turned by the position that a slider says."""
    config = variant(encoding, True).model.config
    angles = rope_angles(POSITIONS, config.head_dim, config.rope_theta).numpy()
    heading("How far each pair of a query is turned")
    st.slider("Position", 0, POSITIONS - 1, key="turned", on_change=selection.changed)
    at = st.session_state.turned
    said = words.dials_in_words(angles, at)
    plot(figures.dials_figure(angles, at, colours()), "dials", said)
    sentence(said)
    plot(figures.angles_figure(angles, at, colours()), "angles", f"The angle of some pairs by position. {said}")
    opened("Every pair in numbers", "angle_numbers", lambda: tables.angles_table(angles, at))


def slopes(encoding: str) -> None:
    found = alibi_slopes(variant(encoding, True).model.config.num_attention_heads).numpy()
    heading("The slope of each head")
    said = words.slopes_in_words(found)
    plot(figures.slopes_figure(found, colours()), "slopes", said)
    sentence(said)


def penalties() -> None:
    heads = variant("alibi", True).model.config.num_attention_heads
    found, slope = alibi_penalties(heads, DISTANCES + 1).numpy(), alibi_slopes(heads).numpy()
    heading("What is added to a score, by distance")
    title, said = words.penalties_in_words(found)
    plot(figures.penalties_figure(found, slope, colours()), "penalties", f"{title} {said}")
    sentence(f"{title} {said}")
    opened("All numbers", "penalty_numbers", lambda: tables.penalties_table(found), lambda: tables.left_table(found))


def nothing(encoding: str) -> None:
    """The honest picture of no encoding."""
    heading("What is added to each token’s vector")
    st.html('<p class="nothing">Nothing.</p>')
    sentence(
        "The word “dog” has the same vector at the beginning and at the end of a text. The part “Shuffle” shows what "
        "follows: an encoder then gives every word the same vector in any order."
    )


def products(encoding: str) -> None:
    """The dot product of two places."""
    config = variant(encoding, True).model.config
    size = config.head_dim if encoding in ("rope", "none") else config.hidden_size
    learned, places = None, 4 * POSITIONS
    if encoding == "learned":
        learned, places = learned_table(), results()["learned"].trained_length
    table = encoded_places(encoding, places, size, config.rope_theta, learned)
    found = products_by_distance(table, pairs=max(32, places - DISTANCES))
    heading(
        {
            "rope": "The dot product of a query and a key of ones, by distance",
            "none": "The dot product of a query and a key of ones, by distance",
            "learned": "The dot product of two trained rows, by distance",
        }.get(encoding, "The dot product of two rows, by distance")
    )
    title, said = words.products_in_words(found, encoding)
    plot(figures.products_figure(found, colours()), "products", f"{title} {said}")
    sentence(f"{title} {said}")
    opened("All numbers", "product_numbers", lambda: tables.products_table(found))


def heading(text: str) -> None:
    sentence(text, "heading")
