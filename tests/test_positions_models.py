"""The five small Transformers in assets/positions/ that differ in how they know the order of the tokens: are their
weights what the results say, do they differ in nothing else, and what follows from an encoding by mathematics."""

import json
from itertools import permutations

import numpy as np
import pytest
import torch

from attention_core import HeadlightError, capture
from attention_core.transformer import SmallModel
from attention_core.variants import ASSETS, ENCODINGS, load_variant, results
from tests.architectures import with_eager
from training.measure_positions import (
    BIN,
    STAYED,
    change,
    held_out,
    interval,
    losses,
    passage_losses,
    prediction_texts,
    shuffled,
    summary,
    word_starts,
)
from training.positions_card import card
from training.train_positions import LONGEST, TRAINED

EVERY = list(ENCODINGS)
PASSAGE = 40  # the one that is measured again; any would do


@pytest.fixture(scope="module")
def variants():
    return {name: load_variant(name) for name in EVERY}


@pytest.fixture(scope="module")
def told():
    return json.loads((ASSETS / "results.json").read_text())


@pytest.fixture(scope="module")
def passages():
    return np.load(ASSETS / "passages.npy")


@pytest.fixture(scope="module")
def stream(variants):
    return held_out(variants["none"].tokenizer)


def ids_of(stream, tokens, start=0):
    return torch.from_numpy(stream[start : start + tokens].astype(np.int64))[None]


# ── what was shipped ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_they_are_small():
    assert sum(file.stat().st_size for file in ASSETS.rglob("*") if file.is_file()) < 6_000_000
    assert {folder.name for folder in ASSETS.iterdir() if folder.is_dir()} == {*EVERY, "tokenizer"}


def test_they_differ_in_nothing_but_the_encoding(variants):
    shapes, configs, runs = {}, {}, {}
    for name, lm in variants.items():
        shapes[name] = {key: tuple(weights.shape) for key, weights in lm.model.state_dict().items()}
        configs[name] = lm.model.config.to_dict()
        runs[name] = json.loads((ASSETS / name / "training_log.json").read_text())
        assert configs[name].pop("positions") == name
        configs[name].pop("_name_or_path", None)
    assert shapes["learned"].pop("model.embed_positions.weight") == (LONGEST, 96)
    same = ("steps", "tokens", "sequences", "trained_length", "rate", "seed")
    for name in EVERY:
        assert shapes[name] == shapes["none"] and configs[name] == configs["none"]
        assert [runs[name][key] for key in same] == [runs["none"][key] for key in same]
        assert runs[name]["tokens"] <= 5_000_000 and runs[name]["trained_length"] == TRAINED
    assert variants["learned"].model.num_parameters() - variants["none"].model.num_parameters() == LONGEST * 96


def test_rows_beyond_the_trained_length_are_as_they_were_drawn(variants):
    table = variants["learned"].model.model.embed_positions.weight
    assert table[TRAINED:].std().item() == pytest.approx(variants["learned"].model.config.initializer_range, rel=0.02)
    assert table[:TRAINED].std(dim=1).min() > 1.5 * table[TRAINED:].std(dim=1).max()


# ── the results ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", EVERY)
def test_a_passage_measured_again(variants, stream, passages, name):
    again = passage_losses(variants[name], stream, PASSAGE)
    np.testing.assert_allclose(again, passages[EVERY.index(name), PASSAGE], atol=1e-3)


@pytest.mark.parametrize("name", EVERY)
def test_the_curves_are_the_means_of_all_passages(told, passages, name):
    found = results()[name]
    mean, low, high = interval(passages[EVERY.index(name)].astype(float))
    np.testing.assert_allclose(found.loss, mean, atol=1e-4)
    np.testing.assert_allclose(found.low, low, atol=1e-4)
    np.testing.assert_allclose(found.high, high, atol=1e-4)
    assert found.positions.tolist() == list(range(0, LONGEST, BIN)) and found.texts == passages.shape[1]
    assert found.trained_loss == pytest.approx(passages[EVERY.index(name), :, : TRAINED // BIN].mean(), abs=1e-4)
    assert summary(passages[EVERY.index(name)].astype(float))["rise"]["mean"] == pytest.approx(
        found.rise.mean, abs=1e-4
    )


@pytest.mark.parametrize("name", EVERY)
def test_the_rise_by_shuffling_measured_again(variants, stream, name):
    """On a sixteenth of the predictions, so within the interval of so few, not to the digit."""
    lm, found = variants[name], results()[name]
    texts = prediction_texts(stream[: len(stream) // 16], word_starts(lm.tokenizer))
    ends = {stayed: losses(lm, ids, 1)[:, 0] for stayed, ids in texts.items()}
    for stayed in STAYED:
        again = change(ends[stayed] - ends[None])
        assert again["low"] < found.shuffled[stayed].high and found.shuffled[stayed].low < again["high"]


def test_facts_of_the_results(variants, told):
    for name, found in results().items():
        run = json.loads((ASSETS / name / "training_log.json").read_text())
        assert found.parameters == variants[name].model.num_parameters()
        assert (found.tokens, found.seconds) == (run["tokens"], run["processor_seconds"])
        assert (found.encoding, found.trained_length) == (name, TRAINED)
    assert list(results()) == EVERY


def test_the_card_is_written_from_the_results(told):
    assert (ASSETS / "README.md").read_text(encoding="utf-8") == card(told)


def test_results_that_cannot_be_read_are_told_in_words(monkeypatch, tmp_path):
    monkeypatch.setattr("attention_core.variants.ASSETS", tmp_path)
    for spoilt in (None, "{", '{"encodings": {}}'):
        if spoilt is not None:
            (tmp_path / "results.json").write_text(spoilt)
        with pytest.raises(HeadlightError, match="get the folder assets/positions/ of the project again"):
            results()
    with pytest.raises(HeadlightError, match="weights of positions-rope are missing"):
        load_variant("rope")


def test_an_unknown_encoding_is_refused_with_the_list():
    with pytest.raises(HeadlightError, match="“wheels”: choose one of sinusoidal, learned, rope, alibi, none"):
        load_variant("wheels")


def test_shuffled_words_keep_their_pieces():
    """Tokens that begin a word: 1, 3, 5, 7. Four words behind the rest of one: 9 | 1 2 | 5 | 3 6 | 7 4 8."""
    ids, begins = np.array([9, 1, 2, 5, 3, 6, 7, 4, 8]), np.isin(np.arange(10), [1, 3, 5, 7])
    orders = {tuple(shuffled(ids, begins, 1, np.random.default_rng(seed)).tolist()) for seed in range(200)}
    words = [(9,), (1, 2), (5,), (3, 6)]
    assert orders == {(*sum(order, ()), 7, 4, 8) for order in permutations(words)}
    assert shuffled(ids, begins, 50, np.random.default_rng(0)).tolist() == ids.tolist()


# ── read like any other model ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", EVERY)
def test_captured_as_its_own_eager_attention(variants, stream, name):
    model, ids = variants[name].model, ids_of(stream, 60)
    cap = capture(model, input_ids=ids)
    with torch.no_grad():
        own = with_eager(model)(input_ids=ids, output_attentions=True)
    for i, weights in enumerate(own.attentions):
        assert cap.layers[i].kind == "decoder"
        for head in range(4):
            torch.testing.assert_close(cap.attention(i, head), weights[0, head], atol=1e-5, rtol=0)
    torch.testing.assert_close(cap.output.logits, own.logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", EVERY)
def test_captured_behind_a_cache(variants, stream, name):
    model, ids = variants[name].model, ids_of(stream, 30)
    whole = capture(model, input_ids=ids)
    with torch.no_grad():
        cache = model(input_ids=ids[:, :23], use_cache=True).past_key_values
    behind = capture(model, input_ids=ids[:, 23:], past_key_values=cache)
    for layer in range(3):
        for head in range(4):
            torch.testing.assert_close(
                behind.attention(layer, head), whole.attention(layer, head)[23:], atol=1e-5, rtol=0
            )


@pytest.mark.parametrize("name", EVERY)
def test_writes_the_same_with_and_without_a_cache(variants, name):
    lm = variants[name]
    ids = lm.encode("The old man opened the door and").inputs["input_ids"]
    how = {"do_sample": False, "max_new_tokens": 30}
    cached, uncached = (lm.model.generate(input_ids=ids, use_cache=use_cache, **how) for use_cache in (True, False))
    assert torch.equal(cached, uncached) and cached.shape[1] > ids.shape[1]


def test_alibi_stands_in_the_added_mask(variants, stream):
    """The seam reads the distance as what the model added to its scores; no other variant adds anything."""
    ids, every = ids_of(stream, 12), slice(None)
    steps = torch.arange(12)
    expected = -torch.tensor([1 / 4, 1 / 16, 1 / 64, 1 / 256])[:, None, None] * (steps[:, None] - steps).clamp(min=0)
    for name, lm in variants.items():
        added = capture(lm.model, input_ids=ids).layers[1].added(every, every, every)
        assert (added is None) == (name != "alibi")
        if added is not None:
            assert torch.equal(added, expected)


@pytest.mark.parametrize("name", EVERY)
def test_as_an_encoder_every_token_sees_every_token(name, stream):
    encoder = load_variant(name, causal=False)
    assert isinstance(encoder.model, SmallModel) and not encoder.predicts
    cap = capture(encoder.model, input_ids=ids_of(stream, 20))
    assert all(layer.kind == "encoder" for layer in cap.layers)
    assert (cap.attention(0, 3) > 0).all()


# ── without positions, without order ──────────────────────────────────────────────────────────────────────────────────


def moved_by_a_permutation(name, stream, causal):
    """How far the vectors of a permuted text are from the permuted vectors, in float64; and how large they are."""
    lm = load_variant(name, causal=causal)
    inner = lm.model.model if causal else lm.model
    inner, ids = inner.double(), ids_of(stream, 100)
    order = torch.from_numpy(np.random.default_rng(3).permutation(100))
    with torch.no_grad():
        plain, permuted = (inner(input_ids=i).last_hidden_state[0] for i in (ids, ids[:, order]))
    return (permuted - plain[order]).abs().max().item(), plain.abs().max().item()


def test_an_encoder_without_positions_cannot_tell_the_order(stream):
    difference, size = moved_by_a_permutation("none", stream, causal=False)
    assert difference < 1e-12 and size > 1


def test_a_causal_decoder_without_positions_partly_can(stream):
    difference, size = moved_by_a_permutation("none", stream, causal=True)
    assert difference > 0.1 * size


@pytest.mark.parametrize("name", ["sinusoidal", "learned", "rope", "alibi"])
def test_with_positions_an_encoder_can(stream, name):
    difference, _ = moved_by_a_permutation(name, stream, causal=False)
    assert difference > 0.05  # without positions: 1e-14


@pytest.mark.parametrize("name, same", [("rope", True), ("alibi", True), ("none", True), ("learned", False)])
def test_relative_encodings_know_no_absolute_place(variants, stream, name, same):
    """The same text at the positions 0 … and 50 …: nothing changes where only distances are told."""
    ids, places = ids_of(stream, 40), torch.arange(40)[None]
    with torch.no_grad():
        here, there = (variants[name].model(input_ids=ids, position_ids=p).logits for p in (places, places + 50))
    assert torch.allclose(here, there, atol=1e-3, rtol=0) == same


def test_sinusoidal_positions_are_absolute(variants, stream):
    ids, places = ids_of(stream, 40), torch.arange(40)[None]
    with torch.no_grad():
        model = variants["sinusoidal"].model
        here, there = (model(input_ids=ids, position_ids=p).logits for p in (places, places + 50))
    assert (here - there).abs().max() > 0.1
