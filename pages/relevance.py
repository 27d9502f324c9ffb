"""Relevance: which words mattered for what the model says next, by several methods, and which of them to believe."""

import streamlit as st

from attention_core.errors import HeadlightError
from attention_core.jobs import RECORDING
from attention_core.record import Capture
from pages.shared import frame, selection
from pages.shared.coming import Coming, as_it_comes
from pages.shared.messages import notice, sentence, told
from pages.shared.relevance_bars import Answers, asked_about, bars, heard, in_words, marked, shaded_text, target
from pages.shared.relevance_below import below
from pages.shared.relevance_controls import methods_popover, order_and_units, target_and_contrast
from pages.shared.relevance_place import RelevancePlace, find_relevance_place
from pages.shared.save_relevance import save_popover


def show(capture: Capture) -> None:
    if st.session_state.model.startswith(RECORDING):
        told("A recording holds one reading of a text", ["No model is with it that could be asked: choose one above."])
        return
    place = find_relevance_place(capture)
    texts = st.container(key="texts")
    with st.container(key="target_place"):
        frame.target_text(capture)
    try:
        aim = asked_about(place)
    except HeadlightError as problem:
        notice(str(problem))
        return
    asked = (place.about, *st.session_state.method, *map(place.asked, st.session_state.method))
    with as_it_comes(asked) as coming:
        answers = heard(place, aim, coming)
        with texts:
            shaded_text(place, answers)
        controls(place, answers)
        show_answers(place, answers, coming)
    if st.session_state.text_was_read:
        selection.keep_view()


def controls(place: RelevancePlace, answers: Answers) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", key="controls"):
        target_and_contrast(answers.aim)
        st.space("stretch")
        order_and_units(place, answers.aim.words is not None)
        methods_popover(place)
        save_popover(answers)


def show_answers(place: RelevancePlace, answers: Answers, coming: Coming) -> None:
    with st.container(key="said"):
        target(answers)
    with st.container(key="bars"):
        bars(answers)
    with st.container(key="in_words"):
        in_words(answers)
    with st.container(key="marked"):
        if answers.found:
            marked(place, answers)
    if answers.waiting and not coming.stopped:
        sentence("What to believe of the bars is asked when all of them are there.")
        return
    below(place, answers, coming)


frame.needs_app(__file__)
read = frame.read_text()
if read is not None:
    show(read)
