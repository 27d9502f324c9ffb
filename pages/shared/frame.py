"""The frame of every page: navigation, the text and the model in one line, and the Capture of that text."""

import html

import numpy as np
import streamlit as st

from attention_core.engine import LocalEngine
from attention_core.errors import HeadlightError
from attention_core.jobs import RECORDING, Engine, Job, Request, Result
from attention_core.record import Capture

from . import selection
from .examples import examples
from .messages import notice
from .options import LONGEST, WORDS
from .other_models import ask_for_consent, choices, needs_consent, open_popover, title_of
from .share import share_button

OWN_INPUT = ("positions",)  # pages, by their URL, that ask for what they read in their own place


@st.cache_resource
def engine() -> Engine:
    """The one engine of this server."""
    return LocalEngine()


def begin() -> None:
    """app.py runs: what a page draws stands inside its frame."""
    st.session_state.framed = True


def needs_app(page: str) -> None:
    """For the top of a page that a link may open. The first request of a fresh process finds pages/ before app.py has
    named its pages, and then runs the page alone: have app.py run instead."""
    if "framed" not in st.session_state:
        st.navigation([st.Page(begin, default=True), st.Page(page)], position="hidden")
        st.rerun()


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
    recorded = st.session_state.model.startswith(RECORDING)
    if recorded:
        st.session_state.text = _recorded_text()
    with st.container(horizontal=True, vertical_alignment="bottom", key="reading"):
        # A text with line breaks needs a box that can hold them.
        box = st.text_area if "\n" in st.session_state.text else st.text_input
        box("Text", key="text", on_change=selection.text_changed, width="stretch", disabled=recorded)
        choose_model()
        with st.popover("Examples"):
            for number, example in enumerate(examples()):
                st.button(
                    example.title,
                    key=f"example-{number}",
                    on_click=selection.chose_example,
                    args=(number,),
                    width="stretch",
                )


def word_field() -> None:
    """What the page "Road" reads instead of a text."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="reading"):
        st.text_input("Word", key="word", on_change=selection.word_changed, width="stretch")
        with st.popover("Examples"):
            for word, what in WORDS.items():
                st.button(
                    f"{word}: {what}", key=f"word-{word}", on_click=selection.chose_word, args=(word,), width="stretch"
                )


def choose_model() -> None:
    """The model, and the place to open another one."""
    st.selectbox(
        "Model",
        choices(st.session_state.model),
        key="model",
        format_func=title_of,
        on_change=selection.model_changed,
        width=250,
    )
    open_popover(engine())


def _recorded_text() -> str:
    try:
        return read(selection.request()).text
    except HeadlightError:
        return ""


def read_text() -> Capture | None:
    """The capture of the selected text, or of the last one that could be read, with a sentence on why."""
    state = st.session_state
    state.text_was_read = False
    problem = state.pop("recording_problem", None)
    if problem:
        notice(problem)
    try:
        if needs_consent(state.model):
            ask_for_consent(state.model)
            capture = _last_good()
        else:
            state.shown = selection.request()
            capture = read(state.shown)
            state.text_was_read = True
            _say_what_was_cut(capture)
    except HeadlightError as problem:
        notice(str(problem))
        capture = _last_good()
    if capture is not None:
        with state.proof_place:
            proof(capture)
    return capture


def _last_good() -> Capture | None:
    last = selection.last_view()
    st.session_state.shown = selection.request_of(last)
    try:
        capture = read(st.session_state.shown)
    except HeadlightError as problem:
        notice(str(problem))
        return None
    selection.restore(last)
    return capture


def control() -> list[dict[str, np.ndarray]] | None:
    """How the heads of the model that is shown score on random tokens; it need not be the one that was asked for."""
    return engine().control(st.session_state.shown)


def _say_what_was_cut(capture: Capture) -> None:
    if capture.left_out:
        notice(
            f"This text is longer than the model can read: it was cut after {len(capture.tokens or [])} tokens "
            f"({capture.characters} characters), {capture.left_out} tokens are left out."
        )


def read(request: Request) -> Capture:
    """Ask the engine for a capture."""
    return wait_for(engine().request(request))


def wait_for(job: Job[Result]) -> Result:
    """While the engine works, say at what, and let the user stop it."""
    place = st.empty()  # made even if it stays empty: what comes after keeps its place
    try:
        if not job.wait(0.4):
            with place.container():
                bar = st.progress(0.0, job.stage)
                st.button("Stop", key=f"stop-{hash(job.asked)}", on_click=selection.stop)
                while not job.wait(0.15):
                    bar.progress(job.share, f"{job.stage} …")
            place.empty()
        return job.result()
    finally:
        engine().leave(job)  # also when the browser went away or the user asked for something else


def target_text(capture: Capture) -> None:
    """Where the model reads two texts: the one that its decoder reads."""
    if capture.target_tokens is not None and not st.session_state.model.startswith(RECORDING):
        st.text_input(
            "Target: what the decoder reads (empty: what the model itself writes)",
            key="target_text",
            max_chars=LONGEST,
            on_change=selection.text_changed,
        )


def proof(capture: Capture) -> None:
    """How it is known that the numbers are the model's own."""
    check, name = capture.check, html.escape(title_of(capture.name))
    with st.popover("Proof ✓", type="tertiary"):
        if check.reason:
            st.html(
                f"<p>Every weight on this page was returned by {name} itself for this text.</p>"
                f"<p>Its queries, keys and values are unavailable: {html.escape(check.reason)}</p>"
            )
        else:
            st.html(
                f"<p>Every weight on this page is computed from the queries and keys that {name} itself used for this "
                "text.</p><p>When it was loaded, the weights computed so were compared with those that the model "
                f"itself returns for a test text. The largest difference of a weight was <b>{check.weights:.8f}</b> "
                f"(a weight lies between 0 and 1), of the output <b>{check.output:.8f}</b> of its largest value.</p>"
            )
        st.html("<p>Layers, heads and tokens count from 0, as in the literature.</p>")
