"""The section "Run": the run as files, and a saved run opened again without its model."""

import streamlit as st

from attention_core.errors import HeadlightError
from attention_core.jobs import Engine
from attention_core.run_file import run_bytes, run_json

from . import selection
from .messages import notice, sentence
from .writing import Written


def run_popover(engine: Engine, written: Written | None) -> None:
    with st.popover("Run", key="save", on_change="rerun") as opened:
        if not opened.open:
            return
        if written is not None:
            run = written.run
            with st.container(horizontal=True, vertical_alignment="center"):
                st.download_button(
                    "Everything as npz",
                    lambda: run_bytes(run, attention=True),
                    "headlight-run.npz",
                    "application/octet-stream",
                    key="save-run",
                    on_click="ignore",
                )
                st.download_button(
                    "Facts as JSON",
                    lambda: run_json(run),
                    "headlight-run.json",
                    "application/json",
                    key="save-run-json",
                    on_click="ignore",
                )
            sentence(
                "The npz holds every row of K and V, every query and weight; it opens here again without the model."
            )
        st.file_uploader("Open a saved run", type=["npz"], key="run_file", on_change=_open, args=(engine,))
    problem = st.session_state.pop("run_problem", None)
    if problem:
        notice(problem)


def _open(engine: Engine) -> None:
    file = st.session_state.run_file
    if file is None:
        return
    try:
        selection.opened_run(engine.keep_run(file.getvalue()))
    except HeadlightError as problem:
        st.session_state.run_problem = str(problem)
