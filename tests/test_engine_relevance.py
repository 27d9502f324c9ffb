"""Relevance asked of the engine: once, shared, part by part, with progress, stopped, and in turns with others."""

import time

import pytest
import torch

from attention_core import explain
from attention_core.attribution import METHODS, Settings
from attention_core.credibility import method_curves, random_curves
from attention_core.errors import HeadlightError, Stopped
from attention_core.jobs import RECORDING, About, Apart, Ordered, Relevance, Request
from tests.slow import finished, until

TEXT = Request("small", "The old king gave the key to the queen, and the next day the old")
ABOUT = About(TEXT, 15)


@pytest.fixture
def capture(engine):
    return finished(engine, engine.request(TEXT))


def test_what_is_found_is_explains_and_is_found_once(engine, small, slow, capture):
    for method in METHODS:
        asked = Relevance(ABOUT, method, Settings(samples=3).read_by(method))
        found = finished(engine, engine.relevance(asked, capture))
        expected = explain(small, TEXT.text, method, score="log_probability", samples=3)
        torch.testing.assert_close(found.scores, expected.scores)
        passes = slow.passes
        assert finished(engine, engine.relevance(asked, capture)) is found
        assert slow.passes == passes


def test_a_target_that_was_typed(engine, capture):
    aim = finished(engine, engine.aim(About(TEXT, 15, " queen", "the")))
    assert (aim.target.token, aim.contrast.token) == ("·queen", "·the")
    with pytest.raises(HeadlightError, match="same token"):
        finished(engine, engine.aim(About(TEXT, 15, "queen", "queen")))
    with pytest.raises(HeadlightError, match="There is no token 99"):
        finished(engine, engine.aim(About(TEXT, 99)))


def test_samples_come_part_by_part(engine, capture):
    job = engine.relevance(Relevance(ABOUT, "shapley", Settings(samples=10)), capture)
    found = finished(engine, job)
    assert len(job.parts) == 5 and job.parts[-1] is found
    assert job.parts[0].spread is None and bool((found.spread >= 0).all()) and float(found.spread.max()) > 0


def test_progress_and_a_stop(engine, slow, capture):
    finished(engine, engine.aim(ABOUT))
    slow.gate.clear()
    job = engine.relevance(Relevance(ABOUT, "integrated_gradients", Settings(steps=200)), capture)
    until(lambda: job.total == 200)
    engine.leave(job)
    job.left_at = time.monotonic() - 10  # nobody came back
    slow.gate.set()
    assert job.wait(20)
    with pytest.raises(Stopped):
        job.result()
    passes = slow.passes
    time.sleep(0.2)
    assert slow.passes == passes
    again = engine.relevance(Relevance(ABOUT, "integrated_gradients", Settings(steps=200)), capture)
    assert again is not job and finished(engine, again).converged


def test_a_page_that_is_drawn_again_joins(engine, slow, capture):
    slow.gate.clear()
    asked = Relevance(ABOUT, "occlusion")
    job = engine.relevance(asked, capture)
    engine.leave(job)
    assert engine.relevance(asked, capture) is job
    slow.gate.set()
    finished(engine, job)


def test_a_text_is_read_while_samples_are_drawn(engine, slow, capture):
    job = engine.relevance(Relevance(ABOUT, "shapley", Settings(samples=500)), capture)
    other = finished(engine, engine.request(Request("small", "The queen went home")))
    assert other.tokens[0] == "·The" and not job.finished
    engine.leave(job)


def test_orders_beside_random_ones(engine, small, capture):
    asked = Relevance(ABOUT, "occlusion")
    explanation = finished(engine, engine.relevance(asked, capture))
    curves = finished(engine, engine.ordered(Ordered(asked), explanation))
    random = finished(engine, engine.ordered(Ordered(ABOUT), None))
    scorer = engine.relevances._scorers[ABOUT]
    assert curves.gains[0] == pytest.approx(method_curves(scorer, explanation.scores, "mean").gains[0], abs=1e-6)
    assert random.gains == pytest.approx(random_curves(scorer, "mean").gains, abs=1e-6)


def test_the_logit_taken_apart(engine, capture):
    found = finished(engine, engine.apart(Apart(ABOUT), capture))
    assert found.sum == pytest.approx(found.logit, abs=1e-4)


def test_a_recording_has_no_model_to_ask(engine, capture):
    about = About(Request(f"{RECORDING}0123", ""), 3)
    with pytest.raises(HeadlightError, match="not the model"):
        finished(engine, engine.aim(about))


def test_a_model_that_is_dropped_is_let_go(engine, capture):
    finished(engine, engine.aim(ABOUT))
    assert engine.relevances._scorers
    engine._forget_model(("small", "float32"))
    assert not engine.relevances._scorers
