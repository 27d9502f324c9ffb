"""Trains the small Transformer and writes assets/small/. On two cores, about an hour:

    torchrun --nproc-per-node 2 -m training.train_small

Works with one process too. training/measure_small.py measures the result and writes its card.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from attention_core.transformer import SmallConfig, SmallForCausalLM
from training.texts import sources, split

ASSETS = Path(__file__).parents[1] / "assets" / "small"
VOCABULARY = 5120
END = "<|end|>"
# What a training sequence is drawn from. Repeats teach the model to copy by looking back: without them a model of
# this size hardly ever needs to.
MIX = {"stories": 0.54, "bible": 0.13, "austen": 0.13, "repeated ids": 0.12, "repeated text": 0.08}
# (sequence length, sequences per process and step, share of all tokens): short first, since that is cheaper.
PHASES = [(256, 8, 0.6), (512, 4, 0.3), (4096, 1, 0.1)]
LEARNING_RATE = 6e-3
WARM_UP, COOL_DOWN = 100, 0.3  # steps; share of the run at the end in which the rate falls to zero


def train_tokenizer(documents: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE: common words stay whole, anything else falls back to bytes; every text starts with a space, so
    that a word is the same token at the start of a text and within it; digits are single."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, model_max_length=SmallConfig().max_position_embeddings
    )


def encode(tokenizer: PreTrainedTokenizerFast, documents: list[str], seed: int = 0) -> np.ndarray:
    """Documents in random order, each followed by the end token → (tokens,) uint16."""
    order = np.random.default_rng(seed).permutation(len(documents))
    encoded = tokenizer([documents[i] for i in order])["input_ids"]
    return np.concatenate([[*ids, tokenizer.eos_token_id] for ids in encoded]).astype(np.uint16)


class Sampler:
    """Draws training sequences and labels; labels of −100 are not learned from."""

    def __init__(self, streams: dict[str, np.ndarray], ordinary: np.ndarray, seed: int):
        self.streams, self.ordinary, self.random = streams, ordinary, np.random.default_rng(seed)
        self.kinds, self.shares = list(MIX), list(MIX.values())

    def window(self, source: str, length: int) -> np.ndarray:
        stream = self.streams[source]
        start = self.random.integers(len(stream) - length)
        return stream[start : start + length].astype(np.int64)

    def sequence(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        kind = self.random.choice(self.kinds, p=self.shares)
        if not kind.startswith("repeated"):
            ids = self.window(kind, length)
            return ids, ids
        period = int(self.random.integers(5, min(length // 2, 300)))
        block = self.random.choice(self.ordinary, period) if kind == "repeated ids" else self.window("stories", period)
        ids = np.resize(block, length)
        labels = ids.copy()
        if kind == "repeated ids":
            labels[:period] = -100  # random tokens cannot be predicted the first time
        return ids, labels

    def batch(self, count: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(count, length) ids and labels."""
        ids, labels = zip(*(self.sequence(length) for _ in range(count)), strict=True)
        return torch.from_numpy(np.stack(ids)), torch.from_numpy(np.stack(labels))


def optimizers(model: SmallForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices inside the blocks, AdamW for the embedding and the norms."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if all(p is not m for m in matrices)]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def schedule(step: int, steps: int) -> float:
    """Warm up, stay, fall to zero in a straight line."""
    return min(1.0, (step + 1) / WARM_UP, (steps - step) / (COOL_DOWN * steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=float, default=12e6, help="training tokens in all")
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "headlight" / "training")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(1)
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if world > 1:
        dist.init_process_group("gloo")

    if rank == 0:
        texts = {name: split(documents) for name, documents in sources(args.cache).items()}
        tokenizer = train_tokenizer(texts["stories"][0] * 2 + texts["bible"][0] + texts["austen"][0])
        tokenizer.save_pretrained(args.out)
        for name, (learn, held_out) in texts.items():
            np.save(args.cache / f"{name}.learn.npy", encode(tokenizer, learn))
            np.save(args.cache / f"{name}.held_out.npy", encode(tokenizer, held_out))
    if world > 1:
        dist.barrier()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.out)
    streams = {name: np.load(args.cache / f"{name}.learn.npy") for name in ("stories", "bible", "austen")}
    ordinary = np.array([i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids])

    torch.manual_seed(args.seed)
    config = SmallConfig(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    model = SmallForCausalLM(config).train()
    compiled = torch.compile(lambda ids, labels: model(input_ids=ids, labels=labels, use_cache=False).loss)
    sampler = Sampler(streams, ordinary, seed=1000 * args.seed + rank)
    chosen = optimizers(model, args.rate)

    plan = [
        (length, count)
        for length, count, share in PHASES
        for _ in range(math.ceil(share * args.tokens / (world * length * count)))
    ]
    log, began, seen = [], time.time(), 0
    for step, (length, count) in enumerate(plan):
        ids, labels = sampler.batch(count, length)
        loss = compiled(ids, labels)
        loss.backward()
        parameters = [p for p in model.parameters() if p.grad is not None]
        if world > 1:  # every process sees other sequences; the gradient is their mean
            flat = torch.cat([p.grad.flatten() for p in parameters])
            dist.all_reduce(flat)
            for p, grad in zip(parameters, flat.div_(world).split([p.numel() for p in parameters]), strict=True):
                p.grad.copy_(grad.view_as(p))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in chosen:
            for group in optimizer.param_groups:
                group["lr"] = args.rate * schedule(step, len(plan))
            optimizer.step()
            optimizer.zero_grad()
        seen += world * length * count
        if rank == 0:
            log.append({"step": step, "tokens": seen, "length": length, "loss": round(loss.item(), 4)})
            if step % 50 == 0:
                recent = sum(entry["loss"] for entry in log[-50:]) / len(log[-50:])
                seconds = time.time() - began
                print(f"step {step}/{len(plan)} loss {recent:.3f} {seen / seconds:.0f} tokens/s", flush=True)
            if step % 500 == 499 or step == len(plan) - 1:
                save(model, args.out)
                run = {"seconds": round(time.time() - began), "processes": world, "rate": args.rate, "log": log}
                (args.out / "training_log.json").write_text(json.dumps(run))


def save(model: SmallForCausalLM, folder: Path) -> None:
    """Weights as float16 safetensors."""
    half = SmallForCausalLM(model.config).half()
    half.load_state_dict(model.state_dict())
    half.save_pretrained(folder)


if __name__ == "__main__":
    main()
