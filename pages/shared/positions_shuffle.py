"""Shuffle on the page "Positions": the words of a sentence in another order, and what small models make of it."""

import random

import numpy as np
import streamlit as st

from attention_core.errors import HeadlightError
from attention_core.figures import position_tables as tables
from attention_core.figures import position_words as words
from attention_core.ordering import (
    MOST_WORDS,
    Reading,
    Words,
    compare_orders,
    read_in,
    read_words,
    variant,
    weights_apart,
)
from attention_core.variants import ENCODINGS, results

from . import selection
from .components import chosen_in, head_view, register
from .drawn import opened, show_table
from .messages import notice, sentence, told
from .options import LONGEST, SENTENCE, TURNED, numbers_in
from .positions_ways import heading

_words = register("words")


def shuffle_controls() -> None:
    """Who sees whom."""
    st.toggle("Encoder: every word sees all", key="both_ways", on_change=selection.changed)


def shuffle() -> None:
    state = st.session_state
    said = st.container(key="said")
    model = variant(state.encoding, not state.both_ways)
    read = sentence_box(model)
    order = order_of(read)
    with st.container(key="words_row"):
        movable(read, order)
    with said:
        found = compare_orders(read, order, state.encoding, not state.both_ways)
        title, *rest = words.told_in_words(found, read.words, order != list(range(len(read))))
        told(title, rest)
    before, after = (read_in(model, read, one) for one in (range(len(read)), order))
    side_by_side(before, after)
    every_encoding(read, order)
    opened("The attention in numbers", "attention_numbers", lambda: attention_table(before, after))
    sentence(words.models_in_words(results()))


def sentence_box(model) -> Words:
    """The sentence that is typed, or the first one where it cannot be used."""
    state = st.session_state
    with st.container(key="sentence_row"):
        st.text_input(
            f"Sentence of 2 to {MOST_WORDS} words",
            key="sentence",
            max_chars=LONGEST,
            on_change=selection.sentence_changed,
        )
    try:
        return read_words(model, state.sentence)
    except HeadlightError as problem:
        notice(f"{problem} “{SENTENCE}” is shown.")
        return read_words(model, SENTENCE)


def order_of(read: Words) -> list[int]:
    """The order that is asked for: at first the halves of the first sentence change places."""
    state, start = st.session_state, list(range(len(read)))
    asked = state.words_order or (TURNED if " ".join(read.words) == SENTENCE else "")
    order = numbers_in(asked) or start
    if sorted(order) != start:
        notice(f"This order does not fit {len(read)} words: the original order is shown. Move the words below.")
        return start
    return order


def movable(read: Words, order: list[int]) -> None:
    """The words in their order, and buttons for those who do not drag."""
    data = {
        "words": list(read.words),
        "order": order,
        "about": "The words in their order. Enter picks one up, the arrow keys move it, Enter lets it go.",
    }
    row, buttons = st.columns([5, 1], vertical_alignment="center")
    with row:
        _words(data=data, key="order_words", on_choose_change=_moved)
    with buttons:
        st.button("Shuffle", key="shuffle", on_click=_shuffled, args=(order,), width="stretch")
        start = list(range(len(read)))
        st.button(
            "Original order",
            key="original",
            on_click=selection.chose_order,
            args=(start,),
            disabled=order == start,
            width="stretch",
        )


def _moved() -> None:
    selection.chose_order([int(word) for word in chosen_in("order_words")["order"]])


def _shuffled(order: list[int]) -> None:
    """Another order than the one that is shown."""
    new = order
    while new == order:
        new = random.sample(order, len(order))
    selection.chose_order(new)


def _counts() -> list[tuple[str, str, int]]:
    config = variant(st.session_state.encoding, True).model.config
    return [("Layer", "small_layer", config.num_hidden_layers), ("Head", "small_head", config.num_attention_heads)]


def fit_head() -> None:
    for _, name, count in _counts():
        problem = selection.fit(name, count, default=0)
        if problem:
            notice(problem)


def head_popover() -> None:
    """The head whose attention is drawn."""
    state = st.session_state
    with st.popover(f"Layer {state.small_layer}, head {state.small_head}", key="which_head"):
        for label, name, count in _counts():
            st.number_input(f"{label} (0–{count - 1})", key=name, step=1, on_change=selection.changed)


def side_by_side(before: Reading, after: Reading) -> None:
    """Predictions and one head's attention, as the words stood and in this order."""
    state = st.session_state
    fit_head()
    problem = selection.fit("small_row", len(before.word_of), default=len(before.word_of) - 1)
    if problem:
        notice(problem)
    layer, head, row = state.small_layer, state.small_head, state.small_row
    expected, *maps = st.columns([4, 5, 5], gap="medium")
    with expected, st.container(key="order-likely"):
        heading("Expected next")
        if before.capture.likely:
            show_table(tables.likely_table(before, after))
        sentence(words.predictions_in_words(before, after))
        head_popover()
    for column, reading, title in zip(maps, (before, after), ("As they stood", "In this order"), strict=True):
        key = "before" if reading is before else "after"
        with column, st.container(key=f"order-{key}"):
            heading(f"{title}: who looks at whom")
            weights = reading.capture.attention(layer, head).numpy()
            tokens = reading.capture.tokens
            head_view(
                weights if state.both_ways else visible(weights),
                tokens,
                tokens,
                reading.places()[row],
                0.0,
                "",
                f"attention-{key}",
                lambda place, reading=reading: selection.write_url(small_row=reading.places().index(place)),
                scale={"per": "head"},
                bars=False,
            )
    apart = weights_apart(before, after, layer, head) if state.both_ways else None
    sentence(words.attention_in_words(before, after, layer, head, row, apart))


def every_encoding(read: Words, order: list[int]) -> None:
    """The same question to all five, both ways."""
    heading("Can it tell the two orders apart? The largest difference of a word’s vector")
    found = {
        (name, causal): compare_orders(read, order, name, causal) for name in ENCODINGS for causal in (False, True)
    }
    with st.container(key="every_encoding"):
        show_table(tables.orders_table(found))
    chosen = found[st.session_state.encoding, not st.session_state.both_ways]
    opened("Every word in numbers", "word_numbers", lambda: tables.words_table(chosen, read.words, order))


def attention_table(before: Reading, after: Reading):
    return tables.attention_table(before, after, st.session_state.small_layer, st.session_state.small_head)


def visible(weights: np.ndarray) -> np.ndarray:
    """What a decoder cannot look at as gaps."""
    return np.where(np.tri(len(weights), dtype=bool), weights, np.nan)
