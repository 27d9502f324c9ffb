"""Runs of generation asked of the engine: step by step, shared, in turns, stopped, branched, tried with less."""

import threading
import time

import pytest
import torch

from attention_core.engine import LocalEngine
from attention_core.errors import HeadlightError, Stopped
from attention_core.generation import decode
from attention_core.jobs import Request, Writing
from attention_core.keeping import Policy
from attention_core.run import Run
from attention_core.run_file import run_bytes
from attention_core.sampling import Sampling
from tests.slow import finished, until

TEXT = Request("small", "The old king gave the key to the queen")


def test_a_run_is_generates_and_is_written_once(engine, small, slow):
    inputs = small.tokenizer(TEXT.text, return_tensors="pt")
    asked = Writing(TEXT, 6, uncached=False)
    run = finished(engine, engine.write(asked))
    expected = small.model.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert run.tokens == expected.tolist()
    passes = slow.passes
    assert finished(engine, engine.write(asked)) is run and slow.passes == passes


def test_steps_are_there_while_others_are_written(engine, slow):
    finished(engine, engine.write(Writing(TEXT, 1)))  # the model is loaded
    slow.gate.clear()
    job = engine.write(Writing(TEXT, 4, uncached=False))
    assert engine.write(Writing(TEXT, 4, uncached=False)) is job  # who asks for the same waits for the same
    engine.leave(job)
    assert not job.parts
    slow.gate.set()
    assert job.wait_for_more(0, 20) and job.total == 4
    assert [step.number for step in finished(engine, job).steps] == [0, 1, 2, 3] and job.share == 1


def test_two_runs_take_turns(engine, slow):
    finished(engine, engine.write(Writing(TEXT, 1)))
    slow.gate.clear()
    jobs = [
        engine.write(Writing(Request("small", text), 5, uncached=False)) for text in ("The old king", "A small dog")
    ]
    until(lambda: slow.order[-1] != 1)
    seen = []
    threads = [threading.Thread(target=lambda j=job, n=n: [j.wait_for_more(k, 20) and seen.append(n) for k in range(5)])
               for n, job in enumerate(jobs)]  # fmt: skip
    [thread.start() for thread in threads]
    slow.gate.set()
    runs = [finished(engine, job) for job in jobs]
    [thread.join() for thread in threads]
    assert [len(run.steps) for run in runs] == [5, 5]
    first_done = len(seen) - 1 - seen[::-1].index(0 if seen[-1] == 1 else 1)
    assert first_done >= 7  # neither waited for the other's end: both were nearly done when the first one was


def test_stop_keeps_what_is_there(engine, slow):
    finished(engine, engine.write(Writing(TEXT, 1)))
    job = engine.write(Writing(TEXT, 900, uncached=False))
    until(lambda: len(job.parts) >= 3)
    slow.gate.clear()
    kept = engine.stop_writing(job)
    count = kept.new
    run = finished(engine, engine.write(kept))
    assert 3 <= count < 900 and len(run.steps) == count
    assert run.ends == f"It was stopped after {count:,} of 900 tokens."
    job.left_at = 0
    job.watchers = 0  # nobody has waited for long
    slow.gate.set()
    with pytest.raises(Stopped):
        job.wait(20)
        job.result()


def test_a_run_nobody_waits_for_goes_on_for_a_moment_and_then_stops(engine, slow):
    finished(engine, engine.write(Writing(TEXT, 1)))
    asked = Writing(TEXT, 1000, uncached=False)
    job = engine.write(asked)
    until(lambda: job.parts)
    engine.leave(job)
    assert engine.write(asked) is job  # a page that is drawn again comes back to it
    engine.leave(job)
    job.left_at -= 10
    assert job.wait(20) and len(job.parts) < 1000
    with pytest.raises(Stopped):
        job.result()
    passes = slow.passes
    time.sleep(0.2)
    assert slow.passes == passes  # the work has ended
    assert engine.write(asked) is not job


def test_a_branch_uses_the_rows_that_are_there(engine, small, slow):
    before = finished(engine, engine.write(Writing(TEXT, 6, uncached=False)))
    other = before.steps[2].candidates[1].token
    slow.order.clear()
    asked = Writing(TEXT, 6, uncached=False, forced=((2, other),))
    run = finished(engine, engine.write(asked))
    assert run.tokens[:3] == [*before.tokens[:2], other] and slow.order == [1, 1, 1]
    alone = Run.of(decode(small, TEXT.text, 6, uncached=False, forced={2: other}))
    assert run.tokens == alone.tokens
    fresh = LocalEngine(measure=lambda model: None, load=lambda *args, **kwargs: small)
    assert finished(fresh, fresh.write(asked)).tokens == run.tokens  # the same where the first run is not there


def test_problems_are_sentences(engine):
    with pytest.raises(HeadlightError, match="no room for 5,000 new tokens"):
        finished(engine, engine.write(Writing(TEXT, 5000)))
    with pytest.raises(HeadlightError, match="type a sentence"):
        finished(engine, engine.write(Writing(Request("small", " "), 3)))
    with pytest.raises(HeadlightError, match="not open on this server"):
        engine.opened_run("0" * 16)


def test_a_saved_run_is_opened_without_its_model(small):
    run = Run.of(decode(small, TEXT.text, 3))

    def no_model(*args, **kwargs):
        raise AssertionError("the model was asked for")

    engine = LocalEngine(load=no_model)
    opened = engine.opened_run(engine.keep_run(run_bytes(run)))
    assert opened.texts == run.texts and torch.equal(opened.steps[2].cache[3][0], run.steps[2].cache[3][0])


def test_a_trial_is_the_labs(engine):
    asked = Writing(TEXT, 4, Sampling(), False)
    run = finished(engine, engine.write(asked))
    trial = finished(engine, engine.trial(asked, run, Policy("window", window=4)))
    assert len(trial.steps) == 4 and trial.steps[0].divergence == 0 < trial.mean_divergence
    assert trial.steps[-1].positions(0) == list(range(run.steps[-1].read))[-4:]
    assert finished(engine, engine.trial(asked, run, Policy("window", window=4))) is trial
