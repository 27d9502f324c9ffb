"""KV cache: what is remembered while a model writes, step by step, and what it costs to keep it or not."""

import streamlit as st

from attention_core.errors import HeadlightError
from attention_core.jobs import RECORDING
from attention_core.record import Capture
from attention_core.run import Run
from pages.shared import frame, selection
from pages.shared.cache_bytes import bytes_tab
from pages.shared.growth import growth_tab, numbers
from pages.shared.lab_tab import lab_tab
from pages.shared.messages import notice, told
from pages.shared.options import TABS
from pages.shared.other_models import title_of
from pages.shared.run_place import RunPlace, find_run_place
from pages.shared.save_run import run_popover
from pages.shared.why import why_tab
from pages.shared.writing import Written, being_written, settings, wanted


def show(capture: Capture) -> None:
    """Let the model write behind the text, and look at what it keeps."""
    with st.container(key="encoder"):
        if st.session_state.model.startswith(RECORDING):
            told("A recording holds one reading of a text", ["No model is with it that could write: choose one above."])
            return
        if not capture.predicts:
            told(
                f"{title_of(capture.name)} is an encoder",
                [
                    "It reads the whole text at once and writes nothing, so no step could use the keys and values of "
                    "an earlier one again. It has no KV cache."
                ],
            )
            st.button(
                "Show it with our small decoder", on_click=selection.open_model, args=("small",), key="to-decoder"
            )
            return
    if capture.left_out:
        told("There is no room to write", [f"The text fills all places of {title_of(capture.name)}: shorten it."])
        return
    try:
        write_and_look()
    except HeadlightError as problem:
        notice(str(problem))
        if not st.session_state.forced:
            controls(None)
            return
        st.session_state.forced = ""  # a token that was set may be what cannot be
        try:
            write_and_look()
        except HeadlightError:
            controls(None)


def write_and_look() -> None:
    with being_written(wanted()) as written:
        look(written)


def controls(written: Written | None, place: RunPlace | None = None) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", key="controls"):
        st.segmented_control(
            "What to look at", list(TABS), key="tab", format_func=TABS.get, required=True, on_change=selection.changed
        )
        if place is not None and st.session_state.tab == "growth":
            numbers(place)
        st.space("stretch")
        if written is None or written.asked is not None:
            settings()
        run_popover(frame.engine(), written)


def look(written: Written) -> None:
    place = find_run_place(written.run)
    with st.container(key="from_file"):
        if written.asked is None:
            from_file(written.run)
    controls(written, place)
    try:
        tab(place, written)
    except HeadlightError as problem:  # here: what stands above is drawn already
        notice(str(problem))
    if written.asked is None or st.session_state.text_was_read:
        selection.keep_view()


def tab(place: RunPlace, written: Written) -> None:
    with st.container(key=f"tab-{st.session_state.tab}"):
        match st.session_state.tab:
            case "growth":
                growth_tab(place, written)
            case "why":
                why_tab(written.run, place.step.number)
            case "bytes":
                bytes_tab(written.run, place.step)
            case "lab":
                lab_tab(place, written)


def from_file(run: Run) -> None:
    """Whose run this is: not of the text and the model above."""
    text = run.facts.text if len(run.facts.text) <= 80 else f"{run.facts.text[:80]}…"
    told("A run from a file", [f"{title_of(run.facts.model)} wrote it behind “{text}”."])
    st.button("Back to the text above", on_click=selection.opened_run, args=(None,), key="close-run")


frame.needs_app(__file__)
if st.session_state.run:
    try:
        look(Written(frame.engine().opened_run(st.session_state.run), None))
    except HeadlightError as problem:
        notice(str(problem))
        controls(None)
else:
    read = frame.read_text()
    if read is not None:
        show(read)
