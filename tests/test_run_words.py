"""A run and the lab in sentences: true of the run that they tell of."""

import numpy as np
import pytest

from attention_core.figures.lab_figures import divergence_bars, lab_in_words, lab_table, stays
from attention_core.figures.run_words import (
    candidates_in_words,
    forgets_in_words,
    read_at,
    row_tokens,
    step_in_words,
    steps_in_words,
)
from attention_core.generation import decode
from attention_core.keeping import Policy
from attention_core.lab import LabRun, lab
from attention_core.run import Run
from attention_core.sampling import Sampling

TEXT = "The old king gave the key"


@pytest.fixture(scope="module")
def run(small):
    return Run.of(decode(small, TEXT, 5))


def test_what_a_step_did(run):
    wrote, chose = step_in_words(run.steps[0])
    prefill = "The prefill, the reading of the text, took all 6 tokens at once and wrote "
    assert wrote == f"{prefill}6 rows of K and of V in each of 4 layers."
    assert chose.startswith(f"It chose “{run.texts[0]}” (") and chose.endswith("no row yet. The next step reads it.")
    wrote, chose = step_in_words(run.steps[4])
    assert wrote.startswith(f"It read “{run.texts[3]}” (9) and wrote one row of K and one of V in each of 4 layers; ")
    assert wrote.endswith("the 9 rows before are reused, untouched.")
    assert chose.endswith("no row yet. The 5 tokens asked for are written.")


def test_a_token_that_was_set_is_not_said_to_be_chosen(small, run):
    other = run.steps[1].candidates[3]
    forced = Run.of(decode(small, TEXT, 3, forced={1: other.token}))
    chose = step_in_words(forced.steps[1])[1]
    assert chose.startswith(f"The next token was set to “{forced.texts[1]}” ({100 * other.after:.1f}%)")


def test_tokens_and_the_steps_that_read_them(small, run):
    tokens = row_tokens(run, 2)
    assert tokens == small.capture(TEXT).tokens + run.texts[:2]
    assert [read_at(run, place) for place in (0, 5, 6, 9, 10)] == [0, 0, 1, 4, None]
    told = steps_in_words(run)
    assert told[0] == f"read 6 tokens, chose “{run.texts[0]}”" and len(told) == 5
    assert told[4] == f"read “{run.texts[3]}”, chose “{run.texts[4]}”"


def test_candidates_with_their_chances(small, run):
    words = candidates_in_words(run.steps[2])
    assert sum(": chosen" in word for word in words) == 1
    first = run.steps[2].candidates[0]
    assert words[0].startswith(f"“{run.steps[2].candidate_texts[0]}”, {100 * first.before:.1f}%")
    drawn = Run.of(decode(small, TEXT, 1, sampling=Sampling(True, top_k=2)))
    after = drawn.steps[0].candidates[0].after
    assert f"{100 * after:.1f}%, before temperature, top-k and top-p" in candidates_in_words(drawn.steps[0])[0]


def test_what_a_window_forgot():
    assert forgets_in_words(["·a", "·b"], 3) == "Right after this step the window forgot “·a” (3) and “·b” (4)."


def test_the_lab_in_words_figure_and_table(small, run):
    trial = LabRun.of(small, Policy("window", window=4), lab(small, run, Policy("window", window=4)))
    cost, same, text = lab_in_words(trial)
    assert cost == "The last 4 rows: 16,384 of 40,960 bytes at the end, 60.0% less."
    assert same.startswith(f"The most likely next token is the same at {trial.same} of 5 steps; ")
    assert ("the same text" in text) is (trial.parted is None)
    drawn = {int(x): y for bar in divergence_bars(trial).data for x, y in zip(bar.x, bar.y, strict=True)}
    assert [drawn[n] for n in range(5)] == pytest.approx([step.divergence for step in trial.steps], rel=1e-6)
    table = lab_table(trial)
    assert [row[0] for row in table.rows] == ["0", "1", "2", "3", "4"] and table.rows[4][4:] == ("16,384", "40,960")
    assert stays(trial, 10).tolist() == [0.0] * 6 + [1.0] * 4
    seen = Policy("least", window=4)
    shares = stays(LabRun.of(small, seen, lab(small, run, seen)), 10)
    assert shares.sum() == pytest.approx(4) and np.all(shares <= 1)
