"""The small model that travels with the project: does it do what its card says? Needs assets/small/ and the stories."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from attention_core.transformer import SmallForCausalLM
from training.measure_small import measure_heads, model_losses
from training.texts import split, stories
from training.three_gram import ThreeGram, three_gram, windows
from training.train_small import ASSETS, encode

SAFE = {"dtype": torch.float32, "trust_remote_code": False, "use_safetensors": True}
COMMON = [
    *("the", "and", "of", "to", "in", "was", "he", "she", "it", "they"),
    *("said", "that", "with", "had", "for", "his", "her", "not", "all", "but"),
    *("good", "little", "house", "water", "people", "mother", "father", "friend", "never", "again"),
]


@pytest.fixture(scope="module")
def model():
    return SmallForCausalLM.from_pretrained(ASSETS, **SAFE).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(ASSETS)


@pytest.fixture(scope="module")
def measured():
    return json.loads((ASSETS / "measurements.json").read_text())


@pytest.fixture(scope="module")
def held_out():
    return np.load(ASSETS / "held_out.npy")


@pytest.fixture(scope="module")
def story_ids(tokenizer):
    """(to learn from, held out), tokens of the stories as in training."""
    return [encode(tokenizer, documents) for documents in split(stories())]


def logits_of(model, ids):
    with torch.inference_mode():
        return model(input_ids=ids).logits


# The files


def test_weights_are_small_and_the_sample_too(measured):
    weights = ASSETS / "model.safetensors"
    assert weights.stat().st_size == measured["weights_bytes"] < 8_000_000
    assert (ASSETS / "held_out.npy").stat().st_size <= 50_000


def test_save_and_reload_gives_the_same_logits(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, **SAFE).eval()
    ids = tokenizer("The cat sat on the mat.", return_tensors="pt")["input_ids"]
    assert type(again) is SmallForCausalLM
    assert torch.equal(logits_of(model, ids), logits_of(again, ids))


# The tokenizer


def test_vocabulary(model, tokenizer, measured):
    assert 4_000 <= len(tokenizer) <= 8_000
    assert len(tokenizer) == model.config.vocab_size == measured["vocabulary"]


@pytest.mark.parametrize("word", COMMON)
def test_common_words_are_one_token(tokenizer, word):
    (alone,) = tokenizer(word)["input_ids"]
    assert tokenizer(f"{word} {word}")["input_ids"] == [alone, alone]  # the same one at the start and within


@pytest.mark.parametrize("text", ["A smile: 🙂👩‍🚀.", "你好,世界", "naïve Übung 42  two spaces\n\nand a tab\t"])
def test_any_text_comes_back(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert max(ids) < len(tokenizer) and tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids).removeprefix(" ") == text


# What it has learned


def test_the_sample_was_held_out(story_ids, held_out):
    learn, kept_back = story_ids
    assert np.array_equal(held_out, kept_back[: len(held_out)])
    assert len(learn) > 15 * len(kept_back)


def test_predicts_held_out_stories_better_than_a_3_gram(model, tokenizer, story_ids, held_out, measured):
    rows = windows(held_out, measured["sample"]["window"])
    counted = three_gram([story_ids[0]], len(tokenizer)).losses(rows).mean()
    loss = model_losses(model, rows).mean()
    assert counted == pytest.approx(measured["sample"]["three_gram"], abs=1e-3)
    assert loss == pytest.approx(measured["sample"]["model"], abs=1e-3)
    assert loss < counted - 0.35  # an unfinished training does not get there


def test_3_gram_is_a_distribution(held_out):
    size = 5_120
    counted = ThreeGram(held_out.astype(np.int64), size)
    met, never_met = held_out[100:102], np.array([held_out[100], held_out[100]])
    for context in (met, never_met, met[:1]):
        rows = np.column_stack([np.tile(context, (size, 1)), np.arange(size)])
        assert np.exp(-counted.losses(rows)[:, -1]).sum() == pytest.approx(1, abs=1e-9)


def test_reads_4096_tokens(model, held_out):
    losses = model_losses(model, windows(held_out, 4096)[:1])[0]
    assert np.isfinite(losses).all()
    assert losses[2048:].mean() < losses[:1024].mean() + 0.5  # never trained on, they are worse by 0.8 and more


# What its heads do


@pytest.fixture(scope="module")
def attention_on_repeats(model, tokenizer):
    """For each of three seeds (layers, heads, 80, 80): weights on 40 ids drawn uniformly, twice in a row."""
    ordinary = torch.tensor([i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids])
    model.set_attn_implementation("eager")
    runs = []
    for seed in (11, 12, 13):
        block = ordinary[torch.randint(len(ordinary), (40,), generator=torch.Generator().manual_seed(seed))]
        with torch.inference_mode():
            runs.append(torch.cat(model(input_ids=block.repeat(2)[None], output_attentions=True).attentions))
    model.set_attn_implementation("sdpa")
    return runs


def named(measured, kind):
    return [(head["layer"], head["head"]) for head in measured["heads"] if head["kind"] == kind]


def test_previous_token_head(attention_on_repeats, measured):
    for weights in attention_on_repeats:
        scores = weights.diagonal(-1, dim1=-2, dim2=-1).mean(-1)  # (layers, heads)
        assert scores.max() >= 0.6
        assert divmod(scores.argmax().item(), scores.shape[1]) in named(measured, "previous token")


def test_induction_head(attention_on_repeats, measured):
    for weights in attention_on_repeats:
        scores = weights.diagonal(-39, dim1=-2, dim2=-1)[..., 1:].mean(-1)  # (layers, heads), tokens 40 to 79
        assert scores.max() >= 0.4
        assert divmod(scores.argmax().item(), scores.shape[1]) in named(measured, "induction")


def test_heads_on_the_card_are_the_ones_found(model, tokenizer, measured):
    ordinary = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]
    found = measure_heads(model, ordinary)
    assert len(found) == model.config.num_hidden_layers * model.config.num_attention_heads
    for now, then in zip(found, measured["heads"], strict=True):
        assert now == pytest.approx(then, abs=2e-3)


# One model, several ways to run it


def test_cache_changes_nothing(model, tokenizer):
    inputs = tokenizer("The old man opened the door and", return_tensors="pt")
    how = {"do_sample": False, "max_new_tokens": 40, "pad_token_id": tokenizer.eos_token_id}
    cached, uncached = (model.generate(**inputs, **how, use_cache=use_cache) for use_cache in (True, False))
    assert torch.equal(cached, uncached)
    assert cached.shape[1] > inputs["input_ids"].shape[1]


def test_eager_and_sdpa_agree(model, held_out):
    ids = torch.from_numpy(held_out[None, :300].astype(np.int64))
    model.set_attn_implementation("eager")
    eager = logits_of(model, ids)
    model.set_attn_implementation("sdpa")
    assert torch.allclose(eager, logits_of(model, ids), atol=1e-3, rtol=0)
