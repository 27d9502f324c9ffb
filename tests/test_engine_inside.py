"""The engine looks into layers: each once, rows from it, the lens, recordings; what it holds is bounded."""

import pytest
import torch

from attention_core import inside as engines
from attention_core.engine import LocalEngine
from attention_core.errors import HeadlightError
from attention_core.filling import fill_worksheet
from attention_core.jobs import Request

TEXT = "The old king gave the key to the queen, and the next day the old"


@pytest.fixture
def made(small, monkeypatch):
    """An engine, a text that it has read, and the entries of which a layer was watched."""
    watched = []
    trace = engines.trace

    def counting(model, inputs, entry, *more):
        watched.append(entry)
        return trace(model, inputs, entry, *more)

    monkeypatch.setattr(engines, "trace", counting)
    engine = LocalEngine(load=lambda *args, **kwargs: small, measure=lambda model: None)
    asked = Request("small", TEXT)
    return engine, asked, finished(engine, engine.request(asked)), watched


def finished(engine, job):
    try:
        return job.result()
    finally:
        engine.leave(job)


def test_a_layer_is_watched_once_for_all_its_rows(made, small):
    engine, asked, capture, watched = made
    for head, token in ((1, 15), (2, 15), (1, 3), (1, 15)):
        sheet = finished(engine, engine.worksheet(asked, capture, 3, head, token))
        own = fill_worksheet(capture, 3, head, token, small.model)
        assert (sheet.head, sheet.token) == (head, token)
        assert torch.equal(sheet.output, own.output) and all(one.agrees for one in sheet.proof)
    assert watched == [3]
    again = engine.worksheet(asked, capture, 3, 1, 15)
    assert again.finished and again.result() is finished(engine, engine.worksheet(asked, capture, 3, 1, 15))
    finished(engine, engine.worksheet(asked, capture, 0, 1, 15))
    assert watched == [3, 0]


def test_what_was_opened_is_bounded_and_goes_with_its_model(small):
    engine = LocalEngine(load=lambda *args, **kwargs: small, measure=lambda model: None, inside_bytes=1, models_kept=1)
    asked = Request("small", TEXT)
    capture = finished(engine, engine.request(asked))
    for entry in (0, 1, 2):
        finished(engine, engine.worksheet(asked, capture, entry, 0, 3))
    assert len(engine.insides.opened) == 1 and engine.insides.opened.held > 0
    finished(engine, engine.request(Request("another", TEXT)))  # it takes the first one's place
    assert len(engine.insides.opened) == 0 and engine.insides.opened.held == 0
    assert finished(engine, engine.worksheet(asked, capture, 2, 0, 3)).token == 3  # loaded again


def test_the_lens_has_the_models_tokens(made, small):
    engine, asked, capture, _ = made
    lens = finished(engine, engine.lens(asked, capture, 3, 15))
    assert list(lens.tokens[-5:]) == [token for token, _ in capture.likely]
    assert lens.chances[-1].tolist() == pytest.approx([share for _, share in capture.likely], abs=1e-6)
    assert engine.lens(asked, capture, 0, 15).result() is lens  # one for all layers and heads
    other = finished(engine, engine.lens(asked, capture, 0, 2))
    assert list(other.tokens[-5:]) == [token for token, _ in small.capture("The old king").likely]


def test_a_recording_is_followed_without_its_model(made):
    engine, asked, capture, watched = made
    opened = engine.open_recording(capture.to_bytes())
    recorded = finished(engine, engine.request(opened))
    sheet = finished(engine, engine.worksheet(opened, recorded, 3, 1, 15))
    own = finished(engine, engine.worksheet(asked, capture, 3, 1, 15))
    assert torch.equal(sheet.weights, own.weights) and torch.equal(sheet.output, own.output)
    assert sheet.around is None and "recording" in sheet.missing["around"] and not sheet.proof
    with pytest.raises(HeadlightError, match="A recording"):
        finished(engine, engine.lens(opened, recorded, 3, 15))
    assert watched == [3]


def test_a_row_that_is_not_there(made):
    engine, asked, capture, _ = made
    with pytest.raises(HeadlightError, match="no layer entry 3 with a head 9"):
        finished(engine, engine.worksheet(asked, capture, 3, 9, 15))
