"""Choosing the next token, against transformers' own warpers and generate()."""

import pytest
import torch
import transformers as tf
from scipy.stats import chisquare

from attention_core import HeadlightError
from attention_core.sampling import GREEDY, Chooser, Sampling, candidates

LOGITS = torch.randn(97, generator=torch.Generator().manual_seed(0)) * 1.5
KINDS = [
    Sampling(do_sample=True),
    Sampling(do_sample=True, temperature=0.6),
    Sampling(do_sample=True, top_k=7),
    Sampling(do_sample=True, top_p=0.8),
    Sampling(do_sample=True, temperature=1.7, top_k=11, top_p=0.7),
    Sampling(do_sample=True, temperature=2, top_k=200),
]


def by_generate(sampling: Sampling, logits: torch.Tensor) -> torch.Tensor:
    """The chances that generate() itself draws from: its own list of processors, made from its own config."""
    model = tf.LlamaForCausalLM(
        tf.LlamaConfig(vocab_size=97, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    how = {"do_sample": True, "temperature": float(sampling.temperature), "top_k": sampling.top_k}
    config = tf.GenerationConfig(**how, top_p=sampling.top_p, eos_token_id=2, pad_token_id=0)
    chain = model._get_logits_processor(config)
    return chain(torch.zeros(1, 1, dtype=torch.long), logits[None].clone()).softmax(dim=-1)[0]


@pytest.mark.parametrize("sampling", KINDS)
def test_the_chances_are_those_of_generate_to_the_bit(sampling):
    assert torch.equal(sampling.probabilities(LOGITS), by_generate(sampling, LOGITS))


def test_the_warpers_stand_in_the_order_of_generate():
    chain = Sampling(do_sample=True, temperature=0.5, top_k=3, top_p=0.9).warpers()
    assert [type(w) for w in chain] == [tf.TemperatureLogitsWarper, tf.TopKLogitsWarper, tf.TopPLogitsWarper]
    assert len(Sampling(temperature=0.5, top_k=3, top_p=0.9).warpers()) == 0  # greedy: not used


@pytest.mark.parametrize("sampling", KINDS[:5])
def test_tokens_are_drawn_as_often_as_they_are_likely(sampling):
    chances, chooser, draws = sampling.probabilities(LOGITS), Chooser(sampling), 1500
    drawn = torch.bincount(torch.tensor([chooser.choose(LOGITS) for _ in range(draws)]), minlength=97)
    assert int(drawn[chances == 0].sum()) == 0
    expected = chances.double() * draws
    often = expected >= 5  # the usual condition of the test; the rest is one cell
    seen = [*drawn[often].tolist(), int(drawn[~often].sum())]
    wanted = [*expected[often].tolist(), float(expected[~often].sum())]
    if wanted[-1] == 0:
        seen, wanted = seen[:-1], wanted[:-1]
    wanted = [share * draws / sum(wanted) for share in wanted]
    assert chisquare(seen, wanted).pvalue > 0.001


def test_a_wrong_distribution_would_be_found():
    chooser = Chooser(Sampling(do_sample=True, temperature=1.3))
    drawn = torch.bincount(torch.tensor([chooser.choose(LOGITS) for _ in range(1500)]), minlength=97)
    expected = Sampling(do_sample=True).probabilities(LOGITS).double() * 1500
    often = expected >= 5
    wanted = expected[often] * drawn[often].sum() / expected[often].sum()
    assert chisquare(drawn[often].tolist(), wanted.tolist()).pvalue < 0.001


def test_greedy_takes_the_most_likely_and_uses_no_chance():
    state = torch.random.get_rng_state()
    assert Chooser(GREEDY).choose(LOGITS) == int(LOGITS.argmax())
    assert [Chooser(KINDS[0]).choose(LOGITS) for _ in range(3)] == 3 * [Chooser(KINDS[0]).choose(LOGITS)]
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_seed_repeats_and_another_one_differs():
    draws = {}
    for seed in (0, 1, 0):
        chooser = Chooser(Sampling(do_sample=True, seed=seed))
        new = [chooser.choose(LOGITS) for _ in range(20)]
        assert draws.setdefault(seed, new) == new
    assert draws[0] != draws[1]


def test_skipped_choices_leave_the_chance_where_it_would_be():
    sampling = Sampling(do_sample=True, temperature=1.3, top_k=20, seed=5)
    one, other = Chooser(sampling), Chooser(sampling)
    whole = [one.choose(LOGITS) for _ in range(9)]
    other.skip(4, 97)
    assert [other.choose(LOGITS) for _ in range(5)] == whole[4:]


def test_candidates_have_their_chances_before_and_after():
    sampling = KINDS[4]
    before, after = LOGITS.softmax(-1), sampling.probabilities(LOGITS)
    rare = int(LOGITS.argmin())
    found = candidates(LOGITS, sampling, rare, 5)
    assert [c.token for c in found] == [*LOGITS.topk(5).indices.tolist(), rare]
    assert [c.before for c in found] == [float(before[c.token]) for c in found]
    assert [c.after for c in found] == [float(after[c.token]) for c in found] and found[-1].after == 0
    greedy = candidates(LOGITS, GREEDY, int(LOGITS.argmax()), 200)
    assert len(greedy) == 97 and all(c.before == c.after for c in greedy)


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"temperature": 0}, "turn sampling off"),
        ({"temperature": float("nan")}, "above 0"),
        ({"temperature": float("inf")}, "above 0"),
        ({"temperature": "hot"}, "above 0"),
        ({"top_k": -1}, "top_k"),
        ({"top_k": 2.5}, "whole number"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"seed": -3}, "seed"),
        ({"seed": True}, "seed"),
        ({"stop": ("a", "")}, "stop word"),
    ],
)
def test_bad_values_say_what_to_choose(wrong, says):
    with pytest.raises(HeadlightError, match=says):
        Sampling(do_sample=True, **wrong)


def test_one_stop_word_may_stand_alone():
    assert Sampling(stop="end").stop == ("end",) and Sampling(stop=["a", "b"]).stop == ("a", "b")


def test_scores_that_are_no_numbers_are_an_error():
    with pytest.raises(HeadlightError, match="float32"):
        Chooser(GREEDY).choose(torch.tensor([1.0, float("nan")]))
