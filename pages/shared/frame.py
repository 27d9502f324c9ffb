"""The frame of every page: navigation, the text and the model in one line, and the Capture of that text."""

import html

import streamlit as st

from attention_core.engine import Engine, LocalEngine
from attention_core.errors import HeadlightError
from attention_core.language import LanguageModel
from attention_core.models import CATALOGUE
from attention_core.record import Capture

from . import selection
from .examples import examples
from .messages import notice
from .share import share_button


@st.cache_resource
def engine() -> Engine:
    """The one engine of this server."""
    return LocalEngine()


def header(pages: list) -> None:
    """Navigation, the proof and the share button. The proof is filled in when there is a capture."""
    with st.container(horizontal=True, vertical_alignment="center", key="header"):
        st.html('<span class="brand">Headlight</span>')
        for page in pages:
            st.page_link(page, query_params=dict(st.query_params), width="content")
        st.space("stretch")
        st.session_state.proof_place = st.container(width="content")
        share_button()


def text_and_model() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", key="reading"):
        # A text with line breaks needs a box that can hold them.
        box = st.text_area if "\n" in st.session_state.text else st.text_input
        box("Text", key="text", on_change=selection.text_changed, width="stretch")
        st.selectbox(
            "Model",
            list(CATALOGUE),
            key="model",
            format_func=lambda name: CATALOGUE[name].title,
            on_change=selection.model_changed,
            width=250,
        )
        with st.popover("Examples"):
            for number, example in enumerate(examples()):
                st.button(
                    example.title,
                    key=f"example-{number}",
                    on_click=selection.chose_example,
                    args=(number,),
                    width="stretch",
                )


def read_text() -> tuple[Capture, LanguageModel] | None:
    """The capture of the selected text, or of the last one that could be read, with a sentence on why."""
    chosen = selection.current()
    st.session_state.text_was_read = False
    try:
        capture = _wait_for(chosen.model, chosen.text)
    except HeadlightError as problem:
        notice(str(problem))
        last = selection.last_view()
        try:
            capture = _wait_for(last.model, last.text)
        except HeadlightError as second:
            notice(str(second))
            return None
        chosen = last
        for name in selection.NUMBERS:
            st.session_state[name] = getattr(last, name)
    else:
        st.session_state.text_was_read = True
        if capture.left_out:
            notice(
                f"This text is longer than the model can read: it was cut after {len(capture.tokens or [])} tokens "
                f"({capture.characters} characters), {capture.left_out} tokens are left out."
            )
    model = engine().model(chosen.model)
    if model is None:
        return None
    with st.session_state.proof_place:
        proof(capture, model)
    return capture, model


def _wait_for(model: str, text: str) -> Capture:
    """Ask the engine; while it works, say at what, and let the user stop it."""
    place = st.empty()  # made even if it stays empty: what comes after keeps its place
    job = engine().request(model, text)
    try:
        if not job.wait(0.4):
            with place.container():
                bar = st.progress(0.0, job.stage)
                st.button("Stop", key="stop", on_click=selection.stop)
                while not job.wait(0.15):
                    bar.progress(job.share, f"{job.stage} …")
            place.empty()
        return job.result()
    finally:
        engine().leave(job)  # also when the browser went away or the user asked for something else


def proof(capture: Capture, model: LanguageModel) -> None:
    """How it is known that the numbers are the model's own."""
    check = capture.check
    with st.popover("Proof ✓", type="tertiary"):
        st.html(
            f"<p>Every weight on this page is computed from the queries and keys that "
            f"{html.escape(CATALOGUE[model.name].title)} itself used for this text.</p>"
            f"<p>When it was loaded, the weights computed so were compared with those that the model itself returns "
            f"for a test text. The largest difference of a weight was "
            f"<b>{check.weights:.8f}</b> (a weight lies between "
            f"0 and 1), of the output <b>{check.output:.8f}</b> of its largest value.</p>"
            "<p>Layers, heads and tokens count from 0, as in the literature.</p>"
        )
