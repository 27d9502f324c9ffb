"""Work whose results a page shows as they come: what is there is drawn, and the page is drawn again with more."""

import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

import streamlit as st

from attention_core.errors import HeadlightError
from attention_core.jobs import Job, Result

from . import frame
from .messages import sentence

AT_ONCE = 0.6  # seconds that a page waits before it draws without what is missing


class Coming:
    """The jobs of one run of a page. about: what they are asked about."""

    def __init__(self, about: Hashable):
        self.about = about
        self.jobs: list[Job] = []
        self._unheard: list[tuple[Job, int]] = []  # those of which the page shows nothing, or so many parts
        self.place = st.container(key="coming")
        self._until = time.monotonic() + AT_ONCE

    def ask(self, job: Job[Result]) -> Job[Result]:
        self.jobs.append(job)
        return job

    def now(self, job: Job[Result]) -> tuple[Result | None, str]:
        """What was found, or so far (None: nothing yet); and why there is nothing, where it failed or was stopped."""
        seen = len(job.parts)
        try:
            if job.wait(max(0.0, self._until - time.monotonic())):
                return job.result(), ""
        except HeadlightError as problem:
            return None, str(problem)
        self._unheard.append((job, seen))  # it may well be finished when the page ends
        if seen:
            return job.parts[seen - 1], ""
        return None, "It was stopped." if self.stopped else ""

    def whole(self, job: Job) -> bool:
        """Whether the page shows all that a job finds."""
        return all(job is not other for other, _ in self._unheard)

    @property
    def stopped(self) -> bool:
        """Whether the reader stopped what is asked here: then the page waits for nothing."""
        return st.session_state.get("stopped_asking") == self.about

    def end(self) -> None:
        """Wait for news of what is missing, then draw the page again."""
        if not self._unheard:
            return
        job = next((job for job, _ in self._unheard if not job.finished), self._unheard[0][0])
        with self.place, st.container(horizontal=True, vertical_alignment="center"):
            if self.stopped:
                sentence("Stopped: what was not found yet is left out.")
                st.button("Go on", key="go-on-asking", on_click=_stop, args=(None,))
                return
            bar = st.progress(0.0, job.stage)
            st.button("Stop", key="stop-asking", on_click=_stop, args=(self.about,))
        while not any(job.finished or len(job.parts) > seen for job, seen in self._unheard):
            job.wait(0.15)
            bar.progress(job.share, f"{job.stage} …")
        st.rerun()


def _stop(about: Hashable) -> None:
    st.session_state.stopped_asking = about


@contextmanager
def as_it_comes(about: Hashable) -> Iterator[Coming]:
    coming = Coming(about)
    try:
        yield coming
        coming.end()
    finally:
        for job in coming.jobs:
            frame.engine().leave(job)  # also when the browser went away; a page that is drawn again joins it in time
