"""The engine: equal requests once, captures bounded by bytes, progress, stop, errors in words."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from attention_core.engine import LocalEngine
from attention_core.errors import HeadlightError, Stopped
from attention_core.jobs import Request, Store
from attention_core.language import LanguageModel
from tests import slow


class Gate:
    """A loader that gives one model, counts what is asked of it and can hold the forward pass at a layer."""

    def __init__(self, model: LanguageModel):
        self.loads = self.captures = 0
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()
        self.layers_run = 0
        outer = self

        class Counting(LanguageModel):
            def __init__(self):
                self.__dict__ |= model.__dict__

            def capture(self, text, *, on_layer, **inputs):
                outer.captures += 1

                def held(done):
                    outer.layers_run = done
                    outer.reached.set()
                    outer.open.wait(10)
                    on_layer(done)

                return super().capture(text, on_layer=held, **inputs)

        self.model = Counting()

    def __call__(self, name, say, dtype):
        self.loads += 1
        say(f"Reading {name}")
        if name == "broken":
            raise HeadlightError("broken is not installed: pip install broken")
        if name == "bug":
            raise RuntimeError("a bug")
        return self.model


def no_control(model):
    return None


@pytest.fixture
def gate(small):
    return Gate(small)


def finished(engine, model, text):
    return slow.finished(engine, engine.request(Request(model, text)))


def test_equal_requests_are_computed_once(gate):
    engine = LocalEngine(measure=no_control, load=gate)
    gate.open.clear()
    jobs = [engine.request(Request("small", "The cat sat.")) for _ in range(20)]
    gate.open.set()
    captures = {id(job.result()) for job in jobs}
    assert len(captures) == 1 and gate.captures == 1 and gate.loads == 1
    assert finished(engine, "small", "The cat sat.") is jobs[0].result()
    assert gate.captures == 1


def test_many_sessions_get_their_own_numbers(gate, small):
    engine = LocalEngine(measure=no_control, load=gate, long_tokens=12)
    texts = [
        f"The {word} sat on the mat" + " and then it left" * (n % 3) for n, word in enumerate(["cat", "dog", "king"])
    ]
    expected = {text: small.capture(text).attention(1, 2) for text in texts}
    with ThreadPoolExecutor(12) as sessions:
        found = list(sessions.map(lambda text: (text, finished(engine, "small", text)), texts * 8))
    assert all(torch.equal(capture.attention(1, 2), expected[text]) for text, capture in found)


def test_progress_and_stop(gate):
    engine = LocalEngine(measure=no_control, load=gate)
    gate.open.clear()
    job = engine.request(Request("small", "A text nobody waits for."))
    assert gate.reached.wait(10)
    assert job.stage == "Reading the text" and job.total == 4 and not job.finished
    engine.leave(job)
    gate.open.set()
    assert job.wait(10)
    with pytest.raises(Stopped):
        job.result()
    assert gate.layers_run == 1  # the pass ended at the layer it was in
    assert finished(engine, "small", "A text nobody waits for.").tokens  # asking again starts anew


def test_one_of_two_leaving_does_not_stop_the_other(gate):
    engine = LocalEngine(measure=no_control, load=gate)
    gate.open.clear()
    first, second = (engine.request(Request("small", "Two of us wait.")) for _ in range(2))
    assert first is second and gate.reached.wait(10)
    engine.leave(first)
    gate.open.set()
    assert second.wait(10) and second.result().tokens


def test_errors_come_as_sentences_and_can_be_tried_again(gate):
    engine = LocalEngine(measure=no_control, load=gate)
    for model, words in (("broken", "pip install broken"), ("bug", "could not be loaded: a bug")):
        for _ in range(2):
            with pytest.raises(HeadlightError, match=words):
                finished(engine, model, "The cat sat.")
    assert gate.loads == 4
    with pytest.raises(HeadlightError, match="type a sentence"):
        finished(engine, "small", "   ")


@pytest.mark.parametrize("part", ["encode", "capture"])
def test_a_bug_in_a_foreign_model_ends_the_job(gate, monkeypatch, part):
    engine = LocalEngine(measure=no_control, load=gate)
    finished(engine, "small", "warm")

    def broken(*args, **inputs):
        raise IndexError("out of range")

    monkeypatch.setattr(gate.model, part, broken)
    with pytest.raises(HeadlightError, match="could not read this text: out of range"):
        finished(engine, "small", "The cat sat.")


def test_store_is_bounded_by_bytes(small):
    captures = [small.capture(f"number {n} of a few short texts") for n in range(6)]
    store = Store(limit=3 * captures[0].nbytes + captures[0].nbytes // 2)
    for n, capture in enumerate(captures):
        store.put(Request("small", str(n)), capture)
        assert store.held == sum(store._values[key].nbytes for key in store._values)
        store.get(Request("small", "0"))  # used all the time: it stays
    assert store.held <= store.limit and len(store) == 3
    assert store.get(Request("small", "0")) is captures[0] and store.get(Request("small", "1")) is None
    huge = Store(limit=1)
    huge.put(Request("small", "x"), captures[0])
    assert huge.get(Request("small", "x")) is captures[0]  # one is always kept: somebody looks at it


def test_short_texts_do_not_wait_for_long_ones(gate):
    engine = LocalEngine(measure=no_control, load=gate, long_tokens=20)
    finished(engine, "small", "warm")
    gate.reached.clear()
    gate.open.clear()
    long = engine.request(Request("small", "a long text " * 20))
    assert gate.reached.wait(10)
    short = engine.request(Request("small", "a short text"))
    deadline = time.time() + 10
    while gate.captures < 3 and time.time() < deadline:
        time.sleep(0.01)
    assert gate.captures == 3  # the short one runs while the long one is held
    gate.open.set()
    assert long.wait(10) and short.wait(10)
    engine.leave(long)
    engine.leave(short)


def test_thumbnails_are_computed_once(small):
    engine, capture = LocalEngine(), small.capture("The cat sat.")
    assert engine.thumbnails(capture, 8) is engine.thumbnails(capture, 8)
