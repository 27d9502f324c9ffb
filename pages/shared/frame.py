"""The frame of every page: navigation, the text and the model in one line, and the Capture of that text."""

import html

import streamlit as st

from attention_core.engine import Engine, LocalEngine
from attention_core.errors import HeadlightError
from attention_core.models import CATALOGUE, LanguageModel
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
        st.text_input("Text", key="text", on_change=selection.text_changed, width="stretch")
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
    try:
        capture = _wait_for(chosen.model, chosen.text)
    except HeadlightError as problem:
        notice(str(problem))
        last = st.session_state.get("last_read", (examples()[0].model, examples()[0].text))
        try:
            capture, chosen_model = _wait_for(*last), last[0]
        except HeadlightError as second:
            notice(str(second))
            return None
    else:
        chosen_model = chosen.model
        st.session_state.last_read = (chosen.model, chosen.text)
        if capture.left_out:
            notice(
                f"This text is longer than the model can read: it was cut after {len(capture.tokens or [])} tokens "
                f"({capture.characters} characters), {capture.left_out} tokens are left out."
            )
    model = engine().model(chosen_model)
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
                st.button("Stop", key="stop", on_click=_stop)
                while not job.wait(0.15):
                    bar.progress(job.share, f"{job.stage} …")
            place.empty()
        return job.result()
    finally:
        engine().leave(job)  # also when the browser went away or the user asked for something else


def _stop() -> None:
    model, text = st.session_state.get("last_read", (examples()[0].model, examples()[0].text))
    selection.write_url(model=model, text=text, layer=None, head=None, token=None)


def proof(capture: Capture, model: LanguageModel) -> None:
    """How it is known that the numbers are the model's own."""
    check = capture.check
    with st.popover("Proof ✓", type="tertiary"):
        st.html(
            f"<p>Every weight on this page is computed from the queries and keys that "
            f"{html.escape(CATALOGUE[model.name].title)} itself used for this text.</p>"
            f"<p>When it was loaded, the same recomputation was compared with the model’s own eager attention on a "
            f"test input: the largest difference of a weight was <b>{check.weights:.1e}</b>, of the output "
            f"<b>{check.output:.1e}</b> of its largest value.</p>"
            "<p>Layers, heads and tokens count from 0, as in the literature.</p>"
        )
