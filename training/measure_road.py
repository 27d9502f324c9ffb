"""Measures the stations in assets/road/ on the words that none of them learnt, and writes results.json and the card.

python -m training.measure_road
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from scipy.stats import binomtest, bootstrap

from attention_core.seq2seq.saying import steps
from attention_core.seq2seq.sounds import END, PAD, VOCABULARY, letter_numbers, padded
from attention_core.seq2seq.speaker import Speaker
from attention_core.seq2seq.stations import ASSETS, STATIONS, load_station
from training.road_card import card
from training.train_road import WORDS, loss_of
from training.words import SEED, Word, read_dictionary, split

TOGETHER = 512  # words that are said at once
LENGTHS = [(1, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 9), (10, 10), (11, 11), (12, 12), (13, 34)]  # letters
LONG = 10  # letters
TIMED = 15  # steps
SAMPLE = 40  # words whose sounds are kept, to be said again by a test


def said_by(model: Speaker, words: list[Word]) -> list[tuple[str, ...]]:
    """What a station says for each word, without the end."""
    order = sorted(range(len(words)), key=lambda i: len(words[i].spelling))
    found: list[tuple[str, ...]] = [()] * len(words)
    for begin in range(0, len(order), TOGETHER):
        part = order[begin : begin + TOGETHER]
        numbers, _, _ = model.say(padded([letter_numbers(words[i].spelling) for i in part]))
        for i, row in zip(part, numbers.tolist(), strict=True):
            kept = row[: row.index(END)] if END in row else row
            found[i] = tuple(VOCABULARY[number] for number in kept if number != PAD)
    return found


def mistakes(word: Word, said: tuple[str, ...]) -> tuple[int, int]:
    """→ how many sounds differ from the nearest listed pronunciation, and how many that has."""
    return min(((Levenshtein.distance(said, listed), len(listed)) for listed in word.said), key=lambda m: m[0] / m[1])


def measured(wrong: np.ndarray, edits: np.ndarray, sounds: np.ndarray) -> dict:
    """wrong, edits, sounds (words,) → both error rates, each with its 95% interval: Wilson's, and a bootstrap's over
    words."""
    share = binomtest(int(wrong.sum()), len(wrong)).proportion_ci(method="wilson")
    rate = bootstrap(
        (edits, sounds),
        lambda e, s, axis: e.sum(axis) / s.sum(axis),
        paired=True,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return {
        "words": len(wrong),
        "wrong": round_all(wrong.mean(), share.low, share.high),
        "sound_errors": round_all(edits.sum() / sounds.sum(), rate.low, rate.high),
    }


def round_all(share: float, low: float, high: float) -> dict[str, float]:
    return {"share": round(float(share), 5), "low": round(float(low), 5), "high": round(float(high), 5)}


def step_milliseconds(name: str, words: list[Word]) -> float:
    """How long one step of the training takes by itself: the median of TIMED ones on the same words. The seconds of the
    training log were taken while other work ran."""
    model, took = STATIONS[name].make().train(), []
    for _ in range(TIMED):
        began = time.perf_counter()
        loss_of(model, words[:WORDS]).backward()
        took.append(time.perf_counter() - began)
    return round(1000 * statistics.median(took), 1)


def measure(name: str, folder: Path, words: list[Word]) -> dict:
    model = load_station(name, folder)
    said = said_by(model, words)
    found = np.array([mistakes(word, one) for word, one in zip(words, said, strict=True)])
    edits, sounds = found.T
    wrong, letters = edits > 0, np.array([len(word.spelling) for word in words])

    def among(chosen: np.ndarray) -> dict:
        return measured(wrong[chosen], edits[chosen], sounds[chosen])

    reading = [steps(model, len(word.spelling) + 1, 0).reading for word in words]
    learning = [steps(model, 0, len(word.said[0]) + 1).learning for word in words]  # the first listed is learnt
    saying = [steps(model, 0, len(one) + 1).saying for one in said]
    return {
        **among(letters > 0),
        "step_milliseconds": step_milliseconds(name, words),
        "by_length": [
            {"from": low, "to": high, **among((letters >= low) & (letters <= high))} for low, high in LENGTHS
        ],
        "long": among(letters >= LONG),
        "short": among(letters < LONG),
        "steps": {
            part: round(float(np.mean(counts)), 2)
            for part, counts in (("reading", reading), ("learning", learning), ("saying", saying))
        },
        "sample": {word.spelling: " ".join(one) for word, one in list(zip(words, said, strict=True))[:SAMPLE]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ASSETS)
    parser.add_argument("--stations", nargs="+", default=list(STATIONS), choices=list(STATIONS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    learn, look, test = split(read_dictionary())
    log = json.loads((args.folder / "training_log.json").read_text())
    stations = {}
    for name in args.stations:
        trained = {key: log[name][key] for key in ("parameters", "seconds", "steps", "epochs", "rate")}
        trained["training_steps"] = trained.pop("steps")
        stations[name] = trained | measure(name, args.folder, test)
        print(name, stations[name]["wrong"], "long", stations[name]["long"]["wrong"], flush=True)
    found = {
        "learnt": len(learn),
        "looked_at": len(look),
        "tested": len(test),
        "seed": SEED,
        "long": LONG,
        "said": {word.spelling: [" ".join(one) for one in word.said] for word in test[:SAMPLE]},
        "stations": stations,
    }
    (args.folder / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (args.folder / "README.md").write_text(card(found))


if __name__ == "__main__":
    main()
