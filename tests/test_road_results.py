"""What the card of the stations says, against the weights that are shipped."""

import pytest
import torch

from attention_core.seq2seq.sounds import END, VOCABULARY, letter_numbers, padded
from attention_core.seq2seq.stations import ASSETS, STATIONS, load_station, results


@pytest.fixture(scope="module")
def found():
    return results()


@pytest.mark.parametrize("name", STATIONS)
def test_a_sample_comes_out_of_the_weights(found, name):
    told = found["stations"][name]
    model, sample = load_station(name), told["sample"]
    assert sum(p.numel() for p in model.parameters()) == told["parameters"] <= 1_100_000
    numbers, _, _ = model.say(padded([letter_numbers(word) for word in sample]))
    wrong = 0
    for (word, sounds), row in zip(sample.items(), numbers.tolist(), strict=True):
        said = " ".join(VOCABULARY[number] for number in row[: row.index(END)])
        assert said == sounds, word
        wrong += said not in found["said"][word]
    assert wrong / len(sample) == pytest.approx(told["wrong"]["share"], abs=0.25)  # 40 words: 3 standard errors


@pytest.mark.parametrize("name", STATIONS)
def test_the_parts_add_up(found, name):
    told = found["stations"][name]
    assert sum(part["words"] for part in told["by_length"]) == told["words"] == found["tested"]
    assert told["long"]["words"] + told["short"]["words"] == found["tested"]
    for what in ("wrong", "sound_errors"):
        for part in (told, told["long"], told["short"], *told["by_length"]):
            assert 0 <= part[what]["low"] <= part[what]["share"] <= part[what]["high"] <= 1
    wrong = sum(part["words"] * part["wrong"]["share"] for part in told["by_length"])
    assert wrong == pytest.approx(found["tested"] * told["wrong"]["share"], rel=1e-3)


def test_the_card_says_how_attention_does_on_long_words(found):
    card = (ASSETS / "README.md").read_text(encoding="utf-8")
    fixed = found["stations"]["bottleneck"]["long"]["wrong"]["share"]
    assert f"{found['stations']['bottleneck']['long']['wrong']['share']:.1%}" in card
    for name, told in found["stations"].items():
        if name != "bottleneck":
            assert f"({told['long']['wrong']['share']:.1%} against {fixed:.1%})" in card
    for command in ("python -m training.train_road", "python -m training.measure_road"):
        assert command in card


def test_no_word_of_the_test_was_learnt_twice(found):
    assert len(found["said"]) == len(found["stations"]["dot"]["sample"]) == 40
    assert found["learnt"] / (found["learnt"] + found["looked_at"] + found["tested"]) == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize("name", STATIONS)
def test_alignments_of_the_shipped_weights_are_rows_of_shares(name):
    from attention_core.seq2seq.saying import say

    torch.manual_seed(0)
    found = say(load_station(name), "blorptastic", name)
    assert found.sounds[-1] == "end" and len(found.said) >= 5
    assert bool(found.alignments) == (name != "bottleneck")
    for one in found.alignments:
        sums = one.weights.sum(axis=1)
        assert (sums <= 1 + 1e-5).all() if name == "local-p" else sums == pytest.approx(1.0, abs=1e-5)
