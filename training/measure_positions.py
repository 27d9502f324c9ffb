"""Measures the five small Transformers in assets/positions/ and writes results.json, passages.npy and the card
(README.md) there. On one quiet core, about five minutes:

    python -m training.measure_positions

Loss by position up to four times the trained length, and how much it rises when the words read are shuffled, both on
stories that none of them has seen. The card is written from results.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from attention_core.language import LanguageModel
from attention_core.variants import ASSETS, ENCODINGS, load_variant
from training.positions_card import card
from training.texts import split, stories
from training.train_positions import LONGEST, TRAINED
from training.train_small import encode

BIN = 16  # positions
STEP = 2 * BIN  # from one starting place to the next: so every token is read at one position in 32
SHIFTS = LONGEST // STEP  # starting places of a passage
STAYED = (1, 4, 16)  # words next to the predicted token that are not shuffled
EVERY = 32  # tokens from one prediction behind shuffled words to the next
AT_ONCE = 8  # texts
SEED = 2026


def held_out(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """(tokens,) uint16: the stories that were not trained on, packed like those that were."""
    return encode(tokenizer, split(stories())[1])


def passage_count(stream: np.ndarray) -> int:
    return (len(stream) - LONGEST - 1) // LONGEST


@torch.inference_mode()
def losses(lm: LanguageModel, ids: np.ndarray, last: int) -> np.ndarray:
    """ids (texts, tokens + 1) → (texts, last) nats: how badly the last so many tokens are predicted."""
    rows = []
    for begin in range(0, len(ids), AT_ONCE):
        texts = torch.from_numpy(ids[begin : begin + AT_ONCE].astype(np.int64))
        logits = lm.model(input_ids=texts[:, :-1], use_cache=False, logits_to_keep=last).logits
        found = F.cross_entropy(logits.flatten(0, 1), texts[:, -last:].flatten(), reduction="none")
        rows.append(found.view(-1, last).numpy())
    return np.concatenate(rows)


def passage_losses(lm: LanguageModel, stream: np.ndarray, passage: int) -> np.ndarray:
    """(bins,): the passage read from each of its starting places on, LONGEST tokens each time; the mean of each bin."""
    starts = passage * LONGEST + STEP * np.arange(SHIFTS)
    found = losses(lm, stream[starts[:, None] + np.arange(LONGEST + 1)], LONGEST)  # (SHIFTS, LONGEST)
    return found.reshape(SHIFTS, -1, BIN).mean(axis=(0, 2))


def word_starts(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """(vocabulary,) bool: the tokens that begin a word. Byte-level BPE writes the space before a word as Ġ."""
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    return np.array([token.startswith("Ġ") or token == tokenizer.eos_token for token in tokens])


def shuffled(ids: np.ndarray, begins: np.ndarray, stayed: int, random: np.random.Generator) -> np.ndarray:
    """ids (tokens,) → the same tokens, the words in a random order but for the last `stayed`; each keeps its pieces."""
    words = np.split(ids, np.nonzero(begins[ids][1:])[0] + 1)
    moved = max(0, len(words) - stayed)  # a row of dots is one long word
    order = [*random.permutation(moved), *range(moved, len(words))]
    return np.concatenate([words[i] for i in order])


def prediction_texts(stream: np.ndarray, begins: np.ndarray) -> dict[int | None, np.ndarray]:
    """By the number of words that stayed (None: all), (texts, TRAINED + 1): what is read, then the token to predict."""
    windows = np.lib.stride_tricks.sliding_window_view(stream, TRAINED + 1)[::EVERY]
    found: dict[int | None, np.ndarray] = {None: windows}
    for stayed in STAYED:
        random = np.random.default_rng([SEED, stayed])
        found[stayed] = np.stack([[*shuffled(row[:-1], begins, stayed, random), row[-1]] for row in windows])
    return found


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(texts, …) → mean, low and high of the 95% interval: 1.96 standard errors of the mean over texts."""
    mean = values.mean(axis=0)
    half = 1.96 * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return mean, mean - half, mean + half


def change(values: np.ndarray) -> dict[str, float]:
    return dict(zip(("mean", "low", "high"), (round(float(v), 5) for v in interval(values)), strict=True))


def summary(by_passage: np.ndarray) -> dict:
    """(passages, bins) → what is told of it."""
    trained = TRAINED // BIN
    mean, low, high = (np.round(v, 5).tolist() for v in interval(by_passage))
    return {
        "loss": mean,
        "low": low,
        "high": high,
        "trained_loss": round(float(by_passage[:, :trained].mean()), 5),
        "rise": change(by_passage[:, -1] - by_passage[:, trained - 1]),
        "twice": change(by_passage[:, 2 * trained - 1] - by_passage[:, trained - 1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ASSETS)
    args = parser.parse_args()

    torch.set_num_threads(1)
    rows, measured, stream, texts = [], {}, np.array([]), {}
    for name in ENCODINGS:
        lm = load_variant(name)
        if not texts:
            stream = held_out(lm.tokenizer)
            texts = prediction_texts(stream, word_starts(lm.tokenizer))
        rows.append(np.stack([passage_losses(lm, stream, i) for i in range(passage_count(stream))]).astype(np.float32))
        ends = {stayed: losses(lm, ids, 1)[:, 0] for stayed, ids in texts.items()}
        run = json.loads((ASSETS / name / "training_log.json").read_text())
        measured[name] = summary(rows[-1].astype(float)) | {
            "shuffled": {str(stayed): change(ends[stayed] - ends[None]) for stayed in STAYED},
            "parameters": lm.model.num_parameters(),
            "tokens": run["tokens"],
            "seconds": run["processor_seconds"],
        }
        print(name, measured[name]["trained_loss"], measured[name]["rise"], measured[name]["shuffled"], flush=True)
    config = lm.model.config
    told = {
        "trained_length": TRAINED,
        "bin": BIN,
        "passages": len(rows[0]),
        "starting_places": SHIFTS,
        "predictions": len(texts[None]),
        "held_out_tokens": len(stream),
        "held_out_stories": int((stream == lm.tokenizer.eos_token_id).sum()),
        "vocabulary": config.vocab_size,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "rate": run["rate"],
        "steps": run["steps"],
        "sequences": run["sequences"],
        "encodings": measured,
    }
    np.save(args.out / "passages.npy", np.stack(rows))  # (encodings, passages, bins)
    (args.out / "results.json").write_text(json.dumps(told, indent=1) + "\n")
    (args.out / "README.md").write_text(card(told), encoding="utf-8")


if __name__ == "__main__":
    main()
