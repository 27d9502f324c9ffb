"""Trains five small Transformers that differ only in how they are told the order of the tokens, and writes
assets/positions/. On one quiet core, about twenty minutes:

    python -m training.train_positions
    python -m training.train_positions --only rope     # one of them

All see the same stories in the same order, start from the same weights, and learn at the same rate for as many steps.
training/measure_positions.py measures the result and writes its card.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from attention_core.transformer import SmallConfig, SmallForCausalLM
from attention_core.variants import ASSETS, ENCODINGS, TOKENIZER
from training.texts import split, stories
from training.train_small import ASSETS as SMALL
from training.train_small import encode, optimizers, save, schedule

VOCABULARY = 2048
TRAINED, LONGEST = 128, 512  # tokens: of a training sequence; of the longest text that is measured
SEQUENCES = 16  # in a step
TOKENS = 4_000_000  # each
LEARNING_RATE = 6e-3
SIZES = {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 24}


def make_tokenizer(documents: list[str]) -> PreTrainedTokenizerFast:
    """The small model's tokenizer, learned anew from the stories alone and with fewer entries."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(SMALL).train_new_from_iterator(documents, VOCABULARY)
    tokenizer.model_max_length = LONGEST
    return tokenizer


def new_model(encoding: str, tokenizer: PreTrainedTokenizerFast, seed: int) -> SmallForCausalLM:
    """Random weights, the same for all but for the table of learned positions."""
    config = SmallConfig(
        vocab_size=len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
        max_position_embeddings=LONGEST,
        positions=encoding,
        **SIZES,
        **HEADS,
    )
    torch.manual_seed(seed)
    start = SmallForCausalLM(SmallConfig(**config.to_dict() | {"positions": "none"})).state_dict()
    model = SmallForCausalLM(config)
    model.load_state_dict(start, strict=False)
    return model


def batches(stream: np.ndarray, steps: int, seed: int) -> list[np.ndarray]:
    """For each step where its sequences begin in the packed stories, (SEQUENCES,): anywhere, so that every position
    meets the same kind of text."""
    random = np.random.default_rng([seed, 1])
    return list(random.integers(len(stream) - TRAINED, size=(steps, SEQUENCES)))


def train(encoding: str, tokenizer: PreTrainedTokenizerFast, stream: np.ndarray, args: argparse.Namespace) -> None:
    """One variant: weights, config and log into its folder."""
    steps = int(args.tokens) // (SEQUENCES * TRAINED)
    model = new_model(encoding, tokenizer, args.seed).train()
    chosen = optimizers(model, args.rate)
    log, recent, began, worked = [], [], time.time(), time.process_time()
    for step, starts in enumerate(batches(stream, steps, args.seed)):
        window = torch.from_numpy(stream[starts[:, None] + np.arange(TRAINED + 1)].astype(np.int64))
        ids, following = window[:, :-1], window[:, 1:]  # (SEQUENCES, TRAINED): the last position learns too
        logits = model(input_ids=ids, use_cache=False).logits  # (SEQUENCES, TRAINED, vocabulary)
        loss = F.cross_entropy(logits.flatten(0, 1), following.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in chosen:
            for group in optimizer.param_groups:
                group["lr"] = args.rate * schedule(step, steps)
            optimizer.step()
            optimizer.zero_grad()
        recent.append(loss.item())
        if step % 50 == 49 or step == steps - 1:
            tokens = (step + 1) * SEQUENCES * TRAINED
            log.append({"step": step + 1, "tokens": tokens, "loss": round(float(np.mean(recent)), 4)})
            print(f"{encoding} {log[-1]} {tokens / (time.time() - began):.0f} tokens/s", flush=True)
            recent.clear()
    save(model.eval(), args.out / encoding)
    run = {
        "processor_seconds": round(time.process_time() - worked),
        "seconds": round(time.time() - began),
        "steps": steps,
        "tokens": steps * SEQUENCES * TRAINED,
        "sequences": SEQUENCES,
        "trained_length": TRAINED,
        "rate": args.rate,
        "seed": args.seed,
        "log": log,
    }
    (args.out / encoding / "training_log.json").write_text(json.dumps(run))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ENCODINGS, default=list(ENCODINGS), help="some of them")
    parser.add_argument("--tokens", type=float, default=TOKENS, help="training tokens of each")
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(1)
    learn, _ = split(stories())
    tokenizer = make_tokenizer(learn)
    tokenizer.save_pretrained(args.out / TOKENIZER)
    stream = encode(tokenizer, learn, seed=args.seed)
    print(f"{len(stream):,} tokens to learn from, {len(tokenizer)} entries", flush=True)
    for encoding in args.only:
        train(encoding, tokenizer, stream, args)


if __name__ == "__main__":
    main()
