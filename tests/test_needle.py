"""A needle farther and farther back: every number against passes that the test makes with transformers alone."""

import time

import pytest
import torch

from attention_core import load_model
from attention_core.errors import HeadlightError, Stopped
from attention_core.jobs import RECORDING, Hunt, Request
from attention_core.language import LanguageModel
from attention_core.needle import DISTANCES, Needle, as_needle, hunting, plain_sentences
from tests.slow import finished, until
from tests.tiny import letters, needs_minilm, tiny

NEEDLE = "My friend is called Anna."
ASKED = Hunt(Request("small", NEEDLE))


@pytest.fixture(scope="module")
def hunted(small):
    return list(hunting(small, NEEDLE))[-1]


@pytest.fixture(scope="module")
def eager():
    lm = load_model("small")
    lm.model.set_attn_implementation("eager")
    return lm


def test_a_needle_and_its_question():
    assert as_needle(" My friend  is called Anna! ") == Needle("My friend is called", "Anna")
    assert as_needle("The word is moon").said == "The word is moon."
    for sentence in ("", "Two words", "a " * 200):
        with pytest.raises(HeadlightError, match="type one such as"):
            as_needle(sentence)


def test_plain_sentences_are_all_different_and_always_the_same():
    sentences = plain_sentences()
    assert len(set(sentences)) == len(sentences) == 384 and sentences == plain_sentences()


def test_the_text_is_what_it_is_said_to_be(hunted, small):
    assert [one.distance for one in hunted.found] == sorted({one.distance for one in hunted.found})
    for one, wanted in zip(hunted.found, DISTANCES, strict=True):
        ids = small.tokenizer(one.text)["input_ids"]
        assert one.text.count(NEEDLE) == 1 and one.text.endswith("My friend is called")
        assert len(ids) == one.tokens and small.tokenizer.decode(ids[one.place]) == " Anna"
        assert one.distance == one.tokens - 1 - one.place and wanted - 12 < one.distance <= wanted


@pytest.mark.parametrize("at", [0, 3])
def test_chance_rank_and_heads_are_the_models_own(hunted, eager, at: int):
    one = hunted.found[at]
    answer = eager.tokenizer(" Anna")["input_ids"]
    assert len(answer) == 1 and hunted.answer_tokens == ("·Anna",)
    ids = torch.tensor([eager.tokenizer(one.text)["input_ids"]])
    without = torch.tensor([eager.tokenizer(one.text.replace(f" {NEEDLE}", ""))["input_ids"]])
    with torch.no_grad():
        output = eager.model(ids, output_attentions=True)
        chances = output.logits[0, -1].softmax(-1)
        baseline = eager.model(without).logits[0, -1].softmax(-1)
    assert one.chance == pytest.approx(float(chances[answer[0]]), abs=1e-5)
    assert one.without == pytest.approx(float(baseline[answer[0]]), abs=1e-5)
    assert one.rank == 1 + int((chances > chances[answer[0]]).sum())
    expected = torch.stack([weights[0, :, -1, one.place] for weights in output.attentions])
    torch.testing.assert_close(one.weights, expected, atol=1e-5, rtol=1e-4)
    assert one.likely[0][1] == pytest.approx(float(chances.max()), abs=1e-5)


def test_the_small_model_finds_it_near_and_by_an_induction_head(hunted):
    assert hunted.found[0].rank == 1 and hunted.found[0].chance > 10 * hunted.found[0].without
    assert hunted.found[-1].rank > 1
    assert hunted.best_heads(1) == [(3, 1)] and hunted.entries == (0, 1, 2, 3) and hunted.skipped == 0


def test_an_answer_of_several_tokens(small, eager):
    one = next(hunting(small, "The name of the horse was Thunder.")).found[0]
    text = eager.tokenizer(one.text)["input_ids"]
    answer = eager.tokenizer(" Thunder")["input_ids"]
    assert len(answer) > 1
    expected, worst = 1.0, 1
    for token in answer:  # one token after the other
        with torch.no_grad():
            chances = eager.model(torch.tensor([text])).logits[0, -1].softmax(-1)
        expected *= float(chances[token])
        worst = max(worst, 1 + int((chances > chances[token]).sum()))
        text = [*text, token]
    assert one.chance == pytest.approx(expected, rel=1e-3) and one.rank == worst


def test_no_farther_than_the_model_reads():
    lm = LanguageModel(tiny(context=200), letters(), "tiny")
    found = list(hunting(lm, "It is a b"))
    assert found[-1].skipped > 0 and all(one.tokens <= 200 for one in found[-1].found)
    with pytest.raises(HeadlightError, match="type a shorter one"):
        next(hunting(LanguageModel(tiny(context=60), letters(), "tiny"), "It is a b"))


@needs_minilm
def test_an_encoder_is_told_why_not():
    with pytest.raises(HeadlightError, match="choose a decoder"):
        next(hunting(load_model("minilm-l6"), NEEDLE))


def test_the_engine_makes_it_distance_by_distance_and_once(engine, hunted, slow):
    job = engine.hunt(ASKED)
    found = finished(engine, job)
    assert len(job.parts) == len(DISTANCES) and [len(part.found) for part in job.parts] == list(range(1, 8))
    assert [one.chance for one in found.found] == pytest.approx([one.chance for one in hunted.found], abs=1e-6)
    passes = slow.passes
    assert finished(engine, engine.hunt(ASKED)) is found and slow.passes == passes
    with pytest.raises(HeadlightError, match="type one such as"):
        finished(engine, engine.hunt(Hunt(Request("small", "Too short"))))
    with pytest.raises(HeadlightError, match="recording"):
        finished(engine, engine.hunt(Hunt(Request(RECORDING + "x", NEEDLE))))


def test_progress_and_a_stop(engine, slow):
    slow.gate.clear()
    job = engine.hunt(ASKED)
    until(lambda: slow.passes > 0)
    engine.leave(job)
    job.left_at = time.monotonic() - 10  # nobody came back
    slow.gate.set()
    assert job.wait(20)
    assert job.stage == "Looking for the needle"
    with pytest.raises(Stopped):
        job.result()
