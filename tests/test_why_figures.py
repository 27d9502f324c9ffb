"""The tab Why: its curves, sentences and tables say what the run holds; the tabs' scripts run for every kind of run."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from streamlit.testing.v1 import AppTest

from attention_core.figures import why_figures as figures
from attention_core.generation import decode
from attention_core.run import Run
from attention_core.work import run_work
from pages.shared.options import OPTIONS
from tests.architectures import some_ids
from tests.test_generation import GEMMA, model_of, run_of

LLAMA = "Llama: grouped"


def changed(run: Run, **by_step: dict) -> Run:
    """s3={"seconds": 1.0}: the run with another value in step 3."""
    return Run(tuple(replace(step, **by_step.get(f"s{step.number}", {})) for step in run.steps))


def timed(cached: list[float], uncached: list[float | None]) -> Run:
    """A real run with these seconds."""
    steps = run_of(LLAMA).steps[: len(cached)]
    pairs = zip(steps, cached, uncached, strict=True)
    return Run(tuple(replace(step, seconds=one, seconds_uncached=other) for step, one, other in pairs))


def same(curve, values) -> None:
    np.testing.assert_allclose(np.asarray(curve.y, dtype=float), values, rtol=1e-6)


def test_numbers_as_people_read_them():
    assert [figures.operations(n) for n in (7, 3_051_776, 110_400_000, 5_823_111_000, 1.5e13)] == [
        "7 operations",
        "3.05 million operations",
        "110 million operations",
        "5.82 billion operations",
        "15.0 trillion operations",
    ]
    assert [figures.duration(s) for s in (0.00061, 0.0061, 0.0411, 0.3, 1.239)] == [
        "0.61 ms",
        "6.10 ms",
        "41.1 ms",
        "300 ms",
        "1.24 s",
    ]


def test_curves_of_work_are_the_steps_and_their_sums():
    run = run_of(LLAMA)
    work = run_work(run)
    figure = figures.costs_figure(figures.work_costs(work), 7)
    cached, uncached = ([getattr(step, part).total for step in work.steps] for part in ("cached", "uncached"))
    assert [trace.name for trace in figure.data] == 2 * ["with the cache", "without the cache"]
    same(figure.data[0], np.array(cached) / 1e6)
    same(figure.data[1], np.array(uncached) / 1e6)
    same(figure.data[2], np.cumsum(cached) / 1e6)
    same(figure.data[3], np.cumsum(uncached) / 1e6)
    assert figure.layout.yaxis.title.text == figure.layout.yaxis2.title.text == "million operations"
    assert figure.data[1].customdata[7] == figures.operations(uncached[7])
    assert [int(np.argmax(trace.marker.size)) for trace in figure.data] == [7] * 4
    assert {shape.x0 for shape in figure.layout.shapes} == {7}
    names = [note.text for note in figure.layout.annotations]
    assert names.count("<b>with the cache</b>") == names.count("without the cache") == 2


def test_times_that_were_not_measured_are_gaps():
    """Sums are of the same steps on both sides."""
    costs = figures.time_costs(timed([0.4, 0.1, 0.1, 0.2], [0.5, 0.6, None, 0.7]))
    figure = figures.costs_figure(costs, 3)
    same(figure.data[0], [400, 100, 100, 200])
    same(figure.data[1], [500, 600, np.nan, 700])
    same(figure.data[2], [0.4, 0.5, np.nan, 0.7])  # reaches a second: in seconds
    same(figure.data[3], [0.5, 1.1, np.nan, 1.8])
    assert (figure.layout.yaxis.title.text, figure.layout.yaxis2.title.text) == ("milliseconds", "seconds")
    assert figures.costs_in_words(costs, 3) == (
        "Steps 0 to 3 together, those that were compared, took 700 ms with the cache and 1.80 s without it, 2.6 times "
        "as much."
    )
    assert figures.costs_in_words(costs, 2).startswith("Steps 0 to 1 together, those that were compared, took 500 ms")


def test_times_without_any_comparison():
    costs = figures.time_costs(timed([0.04, 0.01, 0.01], [None] * 3))
    figure = figures.costs_figure(costs, 1)
    assert len(figure.data) == 2
    same(figure.data[1], [40, 50, 60])
    assert figures.costs_in_words(costs, 1) == (
        "Steps 0 to 1 together took 50.0 ms with the cache. Steps 0 to 2 together took 60.0 ms with the cache."
    )


def test_one_step_that_costs_the_same():
    """The names of two equal points do not lie on each other."""
    run = Run(run_of(LLAMA).steps[:1])
    costs = figures.work_costs(run_work(run))
    figure = figures.costs_figure(costs, 0)
    shifts = [note.yshift for note in figure.layout.annotations if "cache" in note.text]
    assert sorted(shifts) == [-9, -9, 9, 9]
    assert figures.costs_in_words(costs, 0).startswith("Step 0 took") and "times" not in figures.costs_in_words(
        costs, 0
    )


def test_a_step_in_words():
    run = changed(run_of(LLAMA), s5={"seconds": 0.006, "seconds_uncached": 0.041})
    step, work = run.steps[5], run_work(run).steps[5]
    title, said = figures.step_in_words(step, work)
    assert title == f"{work.times:.1f} times the work without the cache"
    assert said[0] == "Step 5 read 1 token and reused the rows of 15."
    assert said[1] == (
        f"Without the cache it would have read all 16 again: {figures.operations(work.uncached.total)} instead of "
        f"{figures.operations(work.cached.total).removesuffix(' operations')}. That took 41.0 ms; with the cache it "
        "took 6.00 ms."
    )
    assert ("Time grows less than work" in " ".join(said)) == (work.times > 2 * 41 / 6)
    assert figures.step_in_words(replace(step, seconds_uncached=0.005), work)[1][2].startswith("It was not faster")
    title, said = figures.step_in_words(replace(step, seconds_uncached=None), None)
    assert (title, said[1]) == (
        "16 tokens again",
        "Without the cache it would have read all 16 again. With the cache it took 6.00 ms; without it nothing was "
        "measured.",
    )
    assert "nothing to reuse yet" in figures.step_in_words(run.steps[0], run_work(run).steps[0])[1][0]
    gemma = run_of(GEMMA)
    assert "window" in figures.step_in_words(gemma.steps[-1], run_work(gemma).steps[-1])[1][1]


def test_the_proof_figure():
    run = changed(
        run_of(LLAMA),
        s0={"max_logit_difference": 0.0},
        s2={"max_logit_difference": 3e-6, "same_token": False},
        s4={"max_logit_difference": None, "same_token": None},
    )
    figure = figures.proof_figure(run, 6)
    found = [step.max_logit_difference for step in run.steps]
    same(figure.data[0], [figures.NOTHING if d == 0 else np.nan if d is None else d for d in found])
    assert figure.data[0].customdata[0] == "0" and figure.data[0].customdata[2] == "3.0 × 10⁻⁶"
    assert [symbol == "x" for symbol in figure.data[0].marker.symbol] == [n == 2 for n in range(12)]
    best = torch.stack([step.logits.double().topk(2).values for step in run.steps])
    leads = ((best[:, 0] - best[:, 1]) / 2).numpy()
    leads[4] = np.nan
    np.testing.assert_allclose(np.asarray(figure.data[1].y, dtype=float), leads, rtol=1e-3)


def test_the_proof_in_words():
    run = run_of(LLAMA)
    largest = max(run.steps, key=lambda step: step.max_logit_difference)
    said = figures.proof_in_words(run)
    assert said[0].startswith("At every one of the 12 steps both chose the same token; the largest difference of a")
    assert said[0].endswith(f"(step {largest.number}).") and len(said) == 3
    other = changed(run, s2={"same_token": False}, s7={"max_logit_difference": 0.25})
    assert figures.proof_in_words(other)[0] == (
        "At 11 of 12 steps both chose the same token, but not at step 2; the largest difference of a score was 0.25 "
        "(step 7)."
    )
    assert "the same token was the likeliest" in figures.proof_in_words(changed(run, s3={"forced": True}))[0]
    part = changed(run, s9={"max_logit_difference": None, "same_token": None})
    assert "At every one of the 11 steps that were compared" in figures.proof_in_words(part)[0]
    alone = Run(part.steps[:1])
    assert figures.proof_in_words(alone)[0].startswith("At the one step that was compared")
    none = Run(tuple(replace(step, max_logit_difference=None, same_token=None) for step in run.steps))
    assert figures.proof_in_words(none) == []


def test_tables_hold_all_numbers():
    run = changed(run_of(LLAMA), s3={"seconds_uncached": None, "max_logit_difference": None, "same_token": None})
    work = run_work(run)
    table = figures.steps_table(run, work)
    frame = pd.DataFrame(list(table.rows), columns=list(table.header))
    assert frame["reads"].tolist() == ["11 tokens", *(step.input_texts[0] for step in run.steps[1:])]
    assert [int(n.replace(",", "")) for n in frame["operations without the cache"]] == [
        step.uncached.total for step in work.steps
    ]
    assert frame.iloc[3, -3:].tolist() == ["—", "—", "—"] and frame["same token"][2] == "yes"
    assert len(figures.steps_table(run, None).header) == len(table.header) - 2
    parts = figures.parts_table(work.steps[5])
    numbers = [[int(cell.replace(",", "")) for cell in row[1:]] for row in parts.rows]
    assert np.array_equal(np.add(numbers[1], numbers[2]), numbers[-1]) and len(numbers) == 4  # nothing is unpacked


# ── the scripts of the pages ────────────────────────────────────────────────────────────────────────────────────────


def script(run, at, other, tab, options):
    import streamlit as st

    from pages.shared.pages_of_rows import pages_part
    from pages.shared.why import why_tab

    for name, value in options.items():
        st.session_state.setdefault(name, value)
    if tab == "why":
        why_tab(run, at)
    else:
        pages_part(run, run.steps[at], other)


def shown(run: Run, at: int, other: Run | None = None, tab: str = "why", /, **options) -> AppTest:
    places = {"model": "small", "text": "", "layer": 0, "head": 0, "token": 0}
    options = {name: option.default for name, option in OPTIONS.items()} | places | options
    app = AppTest.from_function(script, default_timeout=30, args=(run, at, other, tab, options)).run()
    assert not app.exception
    return app


def said(app: AppTest) -> str:
    return " ".join(part.proto.body for part in app.get("html"))


def test_the_tab_of_a_finished_run():
    app = shown(run_of(LLAMA), 5)
    assert "Step 5 read 1 token and reused the rows of 15." in said(app)
    assert "both chose the same token" in said(app) and not app.button
    app.segmented_control(key="cost").set_value("time").run()
    assert app.slider(key="at").value == 5 and app.slider(key="at").max == 11
    assert not app.exception and "timed once" in said(app)


def test_the_tab_of_a_run_that_was_not_compared():
    """The first steps of a run that is still written; then one that comes from a file without its model's sizes."""
    steps = list(decode(model_of(LLAMA), some_ids(255), 4))
    app = shown(Run.of(steps), 3)
    assert "Steps 2 to 3 were not compared: beyond 256 tokens" in said(app) and app.button(key="compare_all")
    facts = replace(steps[0].facts, config=None)
    bare = Run(tuple(replace(step, facts=facts, max_logit_difference=None, same_token=None) for step in steps[:1]))
    app = shown(bare, 3, run="0123456789abcdef")
    assert "the work cannot be counted" in said(app) and "comes from a file" in said(app) and not app.button


def test_the_pages_of_two_requests():
    run, lm = run_of(LLAMA), model_of(LLAMA)
    beginning = torch.tensor([[*run.facts.prompt, *run.tokens[:8], 5]])
    app = shown(run, 11, None, "pages")
    assert "fill 1 page and 6 of the 16 rows of another. 10 rows are still free." in said(app)
    app = shown(run, 11, Run.of(decode(lm, beginning, 1, uncached=False)), "pages", layer=2, head=4)
    text = said(app)
    assert "begin with the same 19 tokens. 1 whole page of these is held once for both: 3 pages instead of 4" in text
    assert "The page with the other 3 tokens goes on differently" in text and "key-value head 1" in text
    assert text.count("<img") == 3 and "Measured on the real rows of both runs, over these 19 tokens" in text


@pytest.mark.parametrize(
    ("name", "words"), [(GEMMA, "Not in pages: layers 0, 2"), ("Mistral: sliding window", "No layer")]
)
def test_pages_of_models_with_windows(name, words):
    assert words in said(shown(run_of(name), 11, None, "pages"))
