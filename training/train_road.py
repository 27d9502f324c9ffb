"""Trains the stations of the road to the Transformer on spelling → sounds and writes assets/road/. One after the other,
on one core, about forty minutes:

    python -m training.train_road
    python -m training.train_road --stations additive local-p     # some of them

All see the same words in the same order, for as many steps, with the same optimizer and the same learning rates.
training/measure_road.py measures the result and writes its card.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from attention_core.seq2seq.sounds import PAD, letter_numbers, padded, sound_numbers
from attention_core.seq2seq.stations import ASSETS, STATIONS
from training.train_small import schedule
from training.words import Word, read_dictionary, split

WORDS = 256  # in a step
EPOCHS = 10
LEARNING_RATE = 2e-3
LIKE = 20 * WORDS  # so many words are sorted by length before they are cut into steps: less padding


def batches(words: list[Word], random: np.random.Generator) -> list[list[Word]]:
    """The words once, in steps of words that are about equally long, in a random order."""
    order, found = random.permutation(len(words)), []
    for begin in range(0, len(words), LIKE):
        alike = sorted(order[begin : begin + LIKE], key=lambda i: len(words[i].spelling))
        found += [[words[i] for i in alike[k : k + WORDS]] for k in range(0, len(alike), WORDS)]
    return [found[i] for i in random.permutation(len(found))]


def loss_of(model: torch.nn.Module, words: list[Word]) -> torch.Tensor:
    letters = padded([letter_numbers(word.spelling) for word in words])
    sounds = padded([sound_numbers(list(word.said[0])) for word in words])
    return F.cross_entropy(model(letters, sounds).flatten(0, 1), sounds.flatten(), ignore_index=PAD)


@torch.no_grad()
def held_out_loss(model: torch.nn.Module, words: list[Word]) -> float:
    model.eval()
    losses = [loss_of(model, words[k : k + WORDS]).item() for k in range(0, len(words), WORDS)]
    model.train()
    return float(np.mean(losses))


def train(name: str, learn: list[Word], look: list[Word], epochs: int, rate: float, seed: int) -> tuple:
    """→ the trained model, and what is to be told of the training."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = STATIONS[name].make().train()
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.98), weight_decay=0.01)
    steps, step, log, began = epochs * len(batches(learn, np.random.default_rng(0))), 0, [], time.time()
    for epoch in range(epochs):
        for words in batches(learn, random):
            loss = loss_of(model, words)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = rate * schedule(step, steps)
            optimizer.step()
            step += 1
        log.append(
            {"epoch": epoch + 1, "loss": round(loss.item(), 4), "held_out": round(held_out_loss(model, look), 4)}
        )
        print(name, log[-1], f"{time.time() - began:.0f} s", flush=True)
    about = {"seconds": round(time.time() - began), "steps": steps, "words": WORDS, "epochs": epochs, "rate": rate}
    return model, about | {"parameters": sum(p.numel() for p in model.parameters()), "log": log}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stations", nargs="+", default=list(STATIONS), choices=list(STATIONS))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--words", type=int, help="learn from so many words only")
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    learn, look, _ = split(read_dictionary())
    log = args.out / "training_log.json"
    for name in args.stations:
        model, about = train(name, learn[: args.words], look, args.epochs, args.rate, args.seed)
        save_file(small(model), args.out / f"{name}.safetensors")
        told = json.loads(log.read_text()) if log.exists() else {}
        log.write_text(json.dumps(told | {name: about}, indent=1))


def small(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights in float16; sinusoids were not learnt and stay exact."""
    exact = "embed_positions"
    return {key: (v if exact in key else v.half()).clone() for key, v in model.state_dict().items()}


if __name__ == "__main__":
    main()
