"""The task whose truth is known, the model that travels with it, and what the relevance methods find there. The
intervention and the answers are made here, with transformers alone."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from transformers import AutoModelForCausalLM, AutoTokenizer

from attention_core import explain, load_model
from attention_core.attribution import METHODS
from training.lookup import FIRST_VALUE, GAP, KEYS, PAIRS, VALUES, VOCABULARY, batch, sequences
from training.train_lookup import ASSETS, gap_vectors

SEED = 31


@pytest.fixture(scope="module")
def drawn():
    return sequences(400, SEED)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(ASSETS, dtype=torch.float32, use_safetensors=True).eval()


@pytest.fixture(scope="module")
def lm():
    return load_model(str(ASSETS))


@pytest.fixture(scope="module")
def measured():
    return json.loads((ASSETS / "measurements.json").read_text())


def answer(model, ids: list[int]) -> int:
    with torch.inference_mode():
        return int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())


# The task


def test_sequences_are_reproducible(drawn):
    assert sequences(400, SEED) == drawn != sequences(400, SEED + 1)
    assert sequences(3, 5) == sequences(3, 5)


def test_the_truth_is_in_the_text(drawn):
    lengths = set()
    for one in drawn:
        *words, asked = one.text.split()
        keys, values = words[::2], words[1::2]
        assert len(set(keys)) == len(keys) == len(set(values)) == len(values)
        assert set(keys) <= set(KEYS) and set(values) <= set(VALUES)
        assert dict(zip(keys, values, strict=True))[asked] == VOCABULARY[one.answer] == one.text.split()[one.planted]
        assert one.ids[one.planted] == one.answer and [VOCABULARY[i] for i in one.ids] == one.text.split()
        lengths.add(len(keys))
    assert lengths == set(range(PAIRS[0], PAIRS[1] + 1))


def test_gaps_leave_the_truth_as_it_is():
    ids, asked = batch(np.random.default_rng(0), 500, 5, 3, gaps=True)
    whole = (ids != 0).all(axis=1)
    assert ids.shape == (500, 16) and asked.shape == (500, 3) and 0.3 < whole.mean() < 0.7
    for row, which in zip(ids, asked, strict=True):
        pairs, again = row[:10].reshape(5, 2), row[10:].reshape(3, 2)
        assert (again[:, 1] == pairs[which, 1]).all()  # where the value is left out, the gap
        both = (again[:, 0] != 0) & (pairs[which, 0] != 0)
        assert (again[both, 0] == pairs[which, 0][both]).all()
        if (pairs[:, 1] != 0).any():  # it may be guessed
            assert (again[again[:, 0] == 0, 1] != 0).all()


def test_what_stands_in_a_gap():
    table = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    found = gap_vectors(table, torch.tensor([2, 0, 1, 2]))
    assert found.shape == (4, 1, 3)
    for row, expected in zip(found[:, 0], (table.sum(0) / 7, table[0], table[0] * 0, table.sum(0) / 7), strict=True):
        torch.testing.assert_close(row, expected)


# The model


def test_the_files_are_small(model, measured):
    weights = ASSETS / "model.safetensors"
    assert weights.stat().st_size == measured["weights_bytes"] < 300_000
    assert model.num_parameters() == measured["parameters"] and model.config.vocab_size == len(VOCABULARY) < 60


def test_the_tokenizer_reads_the_texts(drawn):
    tokenizer = AutoTokenizer.from_pretrained(ASSETS)
    assert len(tokenizer) == len(VOCABULARY)
    for one in drawn[:50]:
        assert tokenizer(one.text)["input_ids"] == tokenizer(one.text.upper())["input_ids"] == one.ids
    assert tokenizer.convert_ids_to_tokens(tokenizer("c7 ? 99 a12")["input_ids"]) == ["c", "7", GAP, GAP, "a", "12"]


def test_it_answers(model, drawn):
    right = [answer(model, one.ids) == one.answer for one in drawn]
    assert np.mean(right) >= 0.99


def test_the_planted_value_decides_and_no_other(model, drawn):
    random, follows, stays = np.random.default_rng(SEED), [], []
    for one in drawn[:150]:
        unused = [i for i in range(FIRST_VALUE, len(VOCABULARY)) if i not in one.ids]
        value = int(random.choice(unused))
        for place in range(1, len(one.ids), 2):
            swapped = [*one.ids[:place], value, *one.ids[place + 1 :]]
            (follows if place == one.planted else stays).append(
                answer(model, swapped) == (value if place == one.planted else one.answer)
            )
    assert np.mean(follows) >= 0.98 and np.mean(stays) >= 0.98
    assert len(follows) == 150 and len(stays) > 450


def test_a_missing_value_is_answered_with_a_gap(model, drawn):
    gone = [[*one.ids[: one.planted], 0, *one.ids[one.planted + 1 :]] for one in drawn[:100]]
    assert np.mean([answer(model, ids) == 0 for ids in gone]) >= 0.95


def test_it_opens_like_any_folder(lm):
    cap = lm.capture("c 7 a 3 f 9 b 12 a")
    assert cap.tokens == ["c", "7", "a", "3", "f", "9", "b", "12", "a"]
    token, share = lm.next_tokens(cap)[0]
    assert token == "3" and share > 0.9


def test_its_heads_look_as_the_card_says(model, drawn, measured):
    model.set_attn_implementation("eager")
    kept = []
    for one in drawn[:60]:
        with torch.inference_mode():
            weights = torch.cat(model(input_ids=torch.tensor([one.ids]), output_attentions=True).attentions)
        behind = torch.arange(1, len(one.ids), 2)
        kept.append(torch.stack([weights[..., behind, behind - 1].mean(-1), weights[..., -1, one.planted]], dim=-1))
    model.set_attn_implementation("sdpa")
    mean = torch.stack(kept).mean(dim=0)  # (layers, heads, 2)
    said = torch.tensor([[one["to_key"], one["to_planted"]] for one in measured["heads"]])
    torch.testing.assert_close(mean.flatten(0, 1), said, atol=0.08, rtol=0)
    assert mean[0, :, 0].max() > 0.9 and mean[1, :, 1].max() > 0.9  # first back to the key, then to its value


# What relevance methods find


@pytest.mark.parametrize("method", ["occlusion", "shapley"])
def test_leaving_tokens_out_finds_the_planted_token(lm, drawn, method):
    first = []
    for one in drawn[:40]:
        scores = explain(lm, torch.tensor([one.ids]), method, target=one.answer).scores
        first.append(scores.argmax() == one.planted)
    assert np.mean(first) >= 0.95


def test_what_was_measured_is_what_is_found(lm, drawn, measured):
    assert measured["accuracy"] >= 0.995 and measured["follows"] >= 0.98 and measured["stays"] >= 0.98
    assert set(measured["first"]) == set(measured["gain"]) == set(measured["better"]) == set(METHODS)
    assert measured["first"]["occlusion"] >= 0.95 and measured["first"]["shapley"] >= 0.95
    for method in ("attention", "rollout", "gradient_x_input", "attention_x_gradient"):
        found = [explain(lm, torch.tensor([one.ids]), method, target=one.answer).scores for one in drawn[:100]]
        first = np.mean([int(s.argmax()) == one.planted for s, one in zip(found, drawn[:100], strict=True)])
        assert first == pytest.approx(measured["first"][method], abs=0.15)


def test_the_deletion_test_ranks_the_methods_accordingly(measured):
    first, deletion = (np.array([measured[name][method] for method in METHODS]) for name in ("first", "deletion"))
    assert deletion[first >= 0.99].max() < deletion[first < 0.99].min(), "the answer falls sooner where it was found"
    assert spearmanr(first, deletion).statistic < -0.7
