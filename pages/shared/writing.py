"""What is written on "KV cache": its settings, and the run while it is being written."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import streamlit as st

from attention_core.generation import COMPARE_UP_TO
from attention_core.jobs import Job, Writing
from attention_core.run import Run
from attention_core.sampling import Sampling

from . import frame, selection
from .messages import sentence
from .options import forced_in

REDRAWN_EVERY = 0.5  # seconds, while steps are still coming


@dataclass(frozen=True)
class Written:
    """A run, or its first steps while the others are being written."""

    run: Run
    asked: Writing | None  # None: it was opened from a file
    job: Job[Run] | None = None  # None: it is over

    @property
    def growing(self) -> bool:
        return self.job is not None


def wanted() -> Writing:
    """What the selection asks for; raises HeadlightError where that cannot be."""
    state = st.session_state
    stop = tuple(word.strip() for word in state.stop.split(",") if word.strip())
    if state.sampled:
        sampling = Sampling(True, state.sampling_temperature, state.top_k, state.top_p, state.seed, stop)
    else:
        sampling = Sampling(stop=stop)
    compares = {"": None, "1": True, "0": False}[state.compare]
    new = min(state.new, state.until) if state.until else state.new
    forced = tuple((step, token) for step, token in forced_in(state.forced) if step < new)
    return Writing(state.shown, new, sampling, compares, forced)


@contextmanager
def being_written(asked: Writing) -> Iterator[Written]:
    """The run, as soon as its first step is there; behind the page's end the page is drawn again with more of it."""
    job = frame.engine().write(asked)
    try:
        run, growing = _first_steps(job)
        yield Written(run, asked, job if growing else None)
        if growing:
            _wait_for_more(job, len(run.steps))
    finally:
        frame.engine().leave(job)  # also when the browser went away; a page that is drawn again joins it in time


def _first_steps(job: Job[Run]) -> tuple[Run, bool]:
    place = st.empty()
    if not job.wait(0.4):
        if not job.parts:
            with place.container():
                bar = st.progress(0.0, job.stage)
                st.button("Stop", key="stop-writing-early", on_click=selection.stop)
            while not job.wait_for_more(0, 0.2):
                bar.progress(0.0, f"{job.stage} …")
            place.empty()
        job.wait(0.2)
    if job.finished:
        return job.result(), False
    return Run.of(list(job.parts)), True


def _wait_for_more(job: Job[Run], shown: int) -> None:
    place = st.empty()  # a call to Streamlit now and then is how a page learns that its browser has gone
    job.wait(REDRAWN_EVERY)
    while not job.wait_for_more(shown, 0.5):
        place.empty()
    st.rerun()


def progress(written: Written) -> None:
    """How far the writing is, and the button that ends it."""
    with st.container(key="progress"):
        job, asked = written.job, written.asked
        if job is None or asked is None:
            if asked is not None and st.session_state.until:
                st.button("Go on writing", key="go-on", on_click=selection.tokens_asked_changed)
            return
        with st.container(horizontal=True, vertical_alignment="center"):
            done = len(written.run.steps)
            st.progress(done / asked.new, f"Writing: {done} of {asked.new} tokens")
            st.button("Stop", key="stop-writing", on_click=_stop, args=(job,))


def _stop(job: Job[Run]) -> None:
    kept = frame.engine().stop_writing(job)
    if kept is not None:
        selection.write_url(until=kept.new, at=None)


def settings() -> None:
    """How many tokens, how the next one is chosen, and whether each step is compared."""
    st.number_input("New tokens", key="new", step=1, on_change=selection.tokens_asked_changed, width=150)
    with st.popover("Choosing", key="choosing", on_change="rerun") as opened:
        if opened.open:
            _choosing()


def _choosing() -> None:
    state, changed = st.session_state, selection.writing_changed
    st.toggle("Draw the next token by chance", key="sampled", on_change=changed)
    if state.sampled:
        st.number_input("Temperature", key="sampling_temperature", step=0.1, on_change=changed)
        st.number_input("Top-k: only the k most likely (0: all)", key="top_k", step=1, on_change=changed)
        st.number_input("Top-p: the most likely, together this share", key="top_p", step=0.05, on_change=changed)
        st.number_input("Seed", key="seed", step=1, on_change=changed)
    else:
        sentence("The most likely token is chosen at every step (greedy).")
    st.text_input("Stop words, with commas between them", key="stop", max_chars=200, on_change=changed)
    st.selectbox(
        "Compute every step without the cache, too, and compare",
        ["", "1", "0"],
        key="compare",
        format_func={"": f"up to {COMPARE_UP_TO} tokens", "1": "always", "0": "never"}.get,
        on_change=changed,
    )
