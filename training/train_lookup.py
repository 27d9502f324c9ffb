"""Trains a very small Transformer on the task of training/lookup.py and writes assets/lookup/. On one core, three
minutes:

    python -m training.train_lookup

training/measure_lookup.py measures the result and writes its card.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from attention_core.transformer import SmallConfig, SmallForCausalLM
from training.lookup import GAP, PAIRS, VOCABULARY, batch
from training.train_small import optimizers, save, schedule

ASSETS = Path(__file__).parents[1] / "assets" / "lookup"
SIZES = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 16}
TEXTS, ASKED = 128, 8  # in a step; how many keys are asked in each: the more, the sooner it learns to look back
LONGEST = 2 * (PAIRS[1] + ASKED)
LEARNING_RATE = 6e-3
WHOLE_FIRST = 0.4  # share of the steps before the first gaps: with gaps from the start it does not learn to look back
SPREAD = 0.01  # how strongly logits are held to log probabilities, their common height being free otherwise
FLOOR = 0.02  # probability that is shared by all tokens: what cannot be the answer is equally unlikely in every text


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A letter is a token, a number is one, capitals are read as small letters, whatever else is a gap."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token=GAP))
    tokenizer.normalizer = normalizers.Lowercase()
    letters = pre_tokenizers.Split(Regex("[a-z]"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), letters])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=GAP, model_max_length=LONGEST)


def new_model() -> SmallForCausalLM:
    """Random weights, larger than those of a wide model: with small ones learning takes long to begin."""
    config = SmallConfig(
        vocab_size=len(VOCABULARY), max_position_embeddings=LONGEST, initializer_range=0.1, **SIZES, **HEADS
    )
    return SmallForCausalLM(config)


def gap_vectors(table: Tensor, kinds: Tensor) -> Tensor:
    """table (vocabulary, hidden), kinds (texts,) from 0 to 2 → (texts, 1, hidden): what stands in a text's gaps.

    The gap's own vector, zeros, or the mean of all vectors: what relevance methods put in place of a token. The model
    reads each of them as nothing, so that what it says without a token is an answer and not an accident."""
    return torch.stack([table[0], torch.zeros_like(table[0]), table.mean(dim=0)])[kinds][:, None]


def learn_from(model: SmallForCausalLM, ids: Tensor, kinds: Tensor) -> tuple[Tensor, float]:
    """ids (texts, tokens) → the loss at the asked keys, and the share of right answers there."""
    table = model.get_input_embeddings().weight
    vectors = torch.where((ids == 0)[..., None], gap_vectors(table, kinds), table[ids])  # (texts, tokens, hidden)
    logits = model(inputs_embeds=vectors, use_cache=False).logits[:, -2 * ASKED :: 2]  # (texts, asked, vocabulary)
    answers = ids[:, -2 * ASKED + 1 :: 2]  # (texts, asked)
    loss = F.cross_entropy(logits.flatten(0, 1), answers.flatten(), label_smoothing=FLOOR)
    height = logits.logsumexp(dim=-1).square().mean()  # 0 where the logits are log probabilities
    return loss + SPREAD * height, float((logits.argmax(dim=-1) == answers).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--whole", action="store_true", help="no gaps in any text")
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    random = np.random.default_rng([args.seed, 1])  # no stream of sequences()
    model = new_model().train()
    chosen = optimizers(model, args.rate)
    log, began = [], time.time()
    for step in range(args.steps):
        pairs = int(random.integers(*PAIRS, endpoint=True))
        gaps = not args.whole and step >= WHOLE_FIRST * args.steps
        ids, _ = batch(random, TEXTS, pairs, ASKED, gaps)
        loss, right = learn_from(model, torch.from_numpy(ids), torch.from_numpy(random.integers(0, 3, TEXTS)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in chosen:
            for group in optimizer.param_groups:
                group["lr"] = args.rate * schedule(step, args.steps)
            optimizer.step()
            optimizer.zero_grad()
        if step % 100 == 99 or step == args.steps - 1:
            log.append({"step": step + 1, "gaps": gaps, "loss": round(loss.item(), 4), "right": round(right, 4)})
            print(f"step {step + 1}/{args.steps} loss {loss.item():.4f} right {right:.1%}", flush=True)
    save(model, args.out)
    make_tokenizer().save_pretrained(args.out)
    run = {"seconds": round(time.time() - began), "steps": args.steps, "texts": TEXTS, "rate": args.rate, "log": log}
    (args.out / "training_log.json").write_text(json.dumps(run))


if __name__ == "__main__":
    main()
