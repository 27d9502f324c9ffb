"""Models that are not in the list: a folder, a .gguf file, a Hub id, and saved recordings."""

import html
from pathlib import Path

import streamlit as st

from attention_core.errors import HeadlightError
from attention_core.hub import hub_size, is_hub_id
from attention_core.jobs import RECORDING, Engine
from attention_core.models import CATALOGUE

from . import selection
from .allowed import any_model_allowed
from .options import DTYPES


def title_of(model: str) -> str:
    """What people call a model."""
    if model in CATALOGUE:
        return CATALOGUE[model].title
    if model.startswith(RECORDING):
        return "A recording"
    return model if is_hub_id(model) else Path(model).name or model


def choices(chosen: str) -> list[str]:
    """The list, and the chosen model where it is not in it."""
    return [*CATALOGUE, *([chosen] if chosen not in CATALOGUE else [])]


def open_popover(engine: Engine) -> None:
    """The place to open another model or a recording."""
    with st.popover("More models", key="open", on_change="rerun") as opened:
        if not opened.open:
            return
        if any_model_allowed():
            st.text_input(
                "Another model: a folder, a .gguf file, or a Hub id such as owner/name",
                key="other_model",
                on_change=_typed_model,
            )
            st.selectbox("Numbers in", list(DTYPES), key="dtype", format_func=DTYPES.get, on_change=selection.changed)
        else:
            st.markdown(
                "Other models open only where the server listens on this machine alone "
                "(`--server.address localhost`) or is started with `HEADLIGHT_ANY_MODEL=1`."
            )
        st.file_uploader("A saved recording", type=["safetensors"], key="recording", on_change=_open, args=(engine,))


def _open(engine: Engine) -> None:
    file = st.session_state.recording
    if file is None:
        return
    try:
        selection.open_model(engine.open_recording(file.getvalue()).model)
    except HeadlightError as problem:
        st.session_state.recording_problem = str(problem)


def _typed_model() -> None:
    given = st.session_state.other_model.strip()
    if given:
        st.session_state.other_model = ""
        selection.open_model(given)


def needs_consent(model: str) -> bool:
    """Whether a model must not be loaded before somebody has agreed to what it takes."""
    on_the_hub = model not in CATALOGUE and is_hub_id(model) and not Path(model).exists()
    return on_the_hub and model not in st.session_state.setdefault("agreed", set())


def ask_for_consent(model: str) -> None:
    """Names the size of a Hub model, and a button that loads it. Raises HeadlightError where there is no such model."""
    size = _size(model)
    if size is None:
        raise HeadlightError(
            f"{model} is not on this machine and the Hub cannot be reached: connect, or open a folder."
        )
    with st.session_state.messages:
        what = f"{size / 1e9:.2f} GB will be downloaded." if size else "It is already on this machine."
        st.html(f'<p class="notice" role="status">The link names the Hub model {html.escape(model)}. {what}</p>')
        st.button(f"Load {model}", key="agree", on_click=_agree, args=(model,))


@st.cache_data(ttl=60, show_spinner="Asking the Hub for the model’s size")
def _size(model: str) -> int | None:
    return hub_size(model)


def _agree(model: str) -> None:
    st.session_state.agreed.add(model)
