"""The page's script without a browser: its widgets, and that looking around never runs the model again."""

from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from attention_core import language
from attention_core.heads import COPY
from attention_core.jobs import Request
from pages.shared import selection
from pages.shared.options import OPTIONS

APP = str(Path(__file__).parents[1] / "app.py")
TEXT = "The old king met the queen, and the old king smiled."


@pytest.fixture
def passes(monkeypatch):
    """The forward passes that were run, by number of tokens."""
    counted, capture = [], language.capture

    def counting(model, **inputs):
        if inputs["input_ids"].shape[1] != 2 * COPY:  # the control, once for each model
            counted.append(inputs["input_ids"].shape[1])
        return capture(model, **inputs)

    monkeypatch.setattr(language, "capture", counting)
    st.cache_resource.clear()
    return counted


def finding(app: AppTest) -> str:
    assert not app.exception
    return next(part.proto.body for part in app.get("html") if 'class="finding"' in part.proto.body)


def test_looking_around_never_runs_the_model_again(passes):
    app = AppTest.from_file(APP, default_timeout=60).run()
    assert len(passes) == 1
    app.text_input(key="text").set_value(TEXT).run()
    assert len(passes) == 2
    for layer, head, token in ((1, 2, 3), (3, 0, 7), (0, 3, 12)):
        app.number_input(key="layer").set_value(layer).run()
        app.number_input(key="head").set_value(head).run()
        app.number_input(key="token").set_value(token).run()
        assert finding(app).startswith(f'<p class="finding">Layer {layer}, head {head}: ')
        assert f"(token {token}) looks" in finding(app)
    app.query_params["ids"] = "1"
    app.run()
    app.text_input(key="text").set_value("Another text.").run()
    app.text_input(key="text").set_value(TEXT).run()  # read before: it comes from the store
    assert len(passes) == 3


def test_the_url_carries_the_selection():
    app = AppTest.from_file(APP, default_timeout=60).run()
    app.text_input(key="text").set_value(TEXT).run()
    app.number_input(key="layer").set_value(2).run()
    asked = {name: value if isinstance(value, str) else value[0] for name, value in app.query_params.items()}
    assert asked["model"] == "small" and asked["text"] == TEXT and asked["layer"] == "2"


def test_a_head_is_named_by_the_model_that_is_shown():
    """What is asked for cannot be read, so the last view stays: its heads are not called after the other model's."""
    app = AppTest.from_file(APP, default_timeout=120)
    app.query_params["model"] = "minilm-l6"
    app.run()
    app.query_params["model"] = "small"
    app.query_params["text"] = TEXT
    app.query_params["layer"], app.query_params["head"] = "3", "1"
    app.run()
    app.query_params["model"], app.query_params["text"] = "minilm-l6", " "
    app.run()
    assert finding(app).startswith('<p class="finding">Layer 3, head 1: ')
    assert app.session_state.shown == Request("small", TEXT)
    assert "first-token sink" not in str(app.get("bidi_component"))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("·farmer   37.8%, the model’s own", "#12"), ("·a   less 0.1%", "·a   less 0.1%"), ("queen", "queen"), ("", "")],
)
def test_what_a_browser_still_shows_of_an_old_choice_is_nobodys_choice(monkeypatch, sent, kept):
    state = {"target": sent}
    monkeypatch.setattr(selection.st, "session_state", state)
    monkeypatch.setattr(selection.st, "query_params", {"target": "#12"})
    monkeypatch.setattr(selection, "write_url", lambda: None)
    selection.chose_target("target")
    assert state["target"] == kept


def test_quick_changes_are_kept_until_a_run_has_told_the_browser_of_them(monkeypatch):
    """A callback that sends something may meet a newer press in Streamlit, and that press was lost."""
    sent = []
    at_first = {name: option.default for name, option in OPTIONS.items()}
    state = at_first | {"model": "small", "text": TEXT, "layer": 3, "head": 1, "token": 5, "left_open": {}}
    monkeypatch.setattr(selection.st, "session_state", State(state))
    monkeypatch.setattr(selection.st, "query_params", Address(sent))
    selection.chose_head(2, 0)
    selection.chose_key(4)
    selection.chose_step(7)
    assert not sent
    assert selection.read_url() == []
    changed = {"model": "small", "text": TEXT, "layer": "2", "head": "0", "token": "5", "key": "4", "step": "7"}
    assert sent == [changed]
    assert selection.st.session_state["step"] == 7
    selection.read_url()
    assert len(sent) == 1


class Address(dict):
    """A browser's address, that hears what it is to become."""

    def __init__(self, sent: list):
        self.from_dict = sent.append


class State(dict):
    """A session's state, as Streamlit has it: a dictionary with attributes."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__
