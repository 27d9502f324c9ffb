"""Measures what relevance methods find where it is known which token decides (training/lookup.py), on the model in
assets/lookup/; writes its measurements.json and card (README.md):

    python -m training.measure_lookup

The texts are drawn with a seed that training does not use, and none is left out; the training itself was chosen by such
figures, as the card says.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from attention_core import LanguageModel, load_model
from attention_core.aim import aim_at
from attention_core.attribution import METHODS, Explanation, Settings, explaining
from attention_core.credibility import method_curves, random_curves, verdict
from attention_core.scorer import BASELINES
from training.lookup import FIRST_VALUE, KEYS, PAIRS, VALUES, VOCABULARY, Planted, sequences
from training.train_lookup import ASSETS, FLOOR, LONGEST, WHOLE_FIRST

SEED = 2026
ASKED_FOR_ACCURACY = 5000


@torch.inference_mode()
def answers(lm: LanguageModel, texts: Sequence[Sequence[int]]) -> np.ndarray:
    """(texts,) what the model answers, each length in one batch."""
    found, lengths = np.zeros(len(texts), int), np.array([len(ids) for ids in texts])
    for length in np.unique(lengths):
        (places,) = np.nonzero(lengths == length)
        logits = lm.model(torch.tensor([list(texts[i]) for i in places])).logits[:, -1]  # (places, vocabulary)
        found[places] = logits.argmax(dim=-1).numpy()
    return found


def swapped(given: Planted, place: int, random: np.random.Generator) -> tuple[list[int], int]:
    """The text with another value in one place, one that it does not have yet; and that value."""
    unused = sorted(set(range(FIRST_VALUE, FIRST_VALUE + len(VALUES))) - set(given.ids))
    value = int(random.choice(unused))
    return [value if i == place else was for i, was in enumerate(given.ids)], value


def interventions(lm: LanguageModel, drawn: Sequence[Planted]) -> dict[str, float]:
    """How often the answer follows the planted value, and how often it stays when another value is exchanged."""
    random = np.random.default_rng(SEED)
    there = [swapped(given, given.planted, random) for given in drawn]
    places = [[i for i in range(1, len(given.ids), 2) if i != given.planted] for given in drawn]
    elsewhere = [swapped(given, int(random.choice(some)), random)[0] for given, some in zip(drawn, places, strict=True)]
    follows = answers(lm, [ids for ids, _ in there]) == [value for _, value in there]
    stays = answers(lm, elsewhere) == [given.answer for given in drawn]
    return {"follows": float(follows.mean()), "stays": float(stays.mean())}


def explained(lm: LanguageModel, given: Planted, method: str, baseline: str = "mean") -> Explanation:
    scorer = aim_at(lm, torch.tensor([given.ids]), given.answer)
    return list(explaining(lm, scorer, method, Settings(baseline=baseline)))[-1]


def is_first(found: Explanation, given: Planted) -> bool:
    return int(found.scores.argmax()) == given.planted


def measure_methods(lm: LanguageModel, drawn: Sequence[Planted]) -> dict[str, dict[str, float]]:
    """For every method how often the planted token is first, and what the deletion test says of its orders."""
    rows: dict[str, list[tuple[bool, bool, float, float]]] = {method: [] for method in METHODS}
    for given in drawn:
        scorer = aim_at(lm, torch.tensor([given.ids]), given.answer)
        chance = random_curves(scorer, "mean")
        for method in METHODS:
            found = explained(lm, given, method)
            judged = verdict(method_curves(scorer, found.scores, "mean"), chance)
            rows[method].append((is_first(found, given), judged.word == "better", judged.gain, judged.deletion))
    means = {method: np.mean(rows[method], axis=0).tolist() for method in METHODS}
    names = ("first", "better", "gain", "deletion")
    return {name: {method: means[method][i] for method in METHODS} for i, name in enumerate(names)}


def measure_baselines(lm: LanguageModel, drawn: Sequence[Planted]) -> dict[str, dict[str, float]]:
    """How often the planted token is first, of the methods that put something in a token's place, by what they put."""
    methods = [method for method in METHODS if "baseline" in METHODS[method].reads]
    return {
        baseline: {
            method: float(np.mean([is_first(explained(lm, given, method, baseline), given) for given in drawn]))
            for method in methods
        }
        for baseline in BASELINES
    }


def measure_heads(lm: LanguageModel, drawn: Sequence[Planted]) -> list[dict]:
    """Mean weights of every head: from a value to the key before it, and from the asked key to the planted value."""
    rows = []
    for given in drawn:
        cap = lm.capture(torch.tensor([given.ids]))
        heads = range(lm.model.config.num_attention_heads)
        every = [torch.stack([cap.attention(i, h) for h in heads]) for i in range(len(cap.layers))]
        weights = torch.stack(every)  # (layers, heads, query tokens, key tokens)
        behind = torch.arange(1, len(given.ids), 2)
        to_key, to_planted = weights[..., behind, behind - 1].mean(dim=-1), weights[..., -1, given.planted]
        rows.append(torch.stack([to_key, to_planted], dim=-1))
    mean = torch.stack(rows).mean(dim=0)  # (layers, heads, 2)
    return [
        {"layer": layer, "head": head, "to_key": round(pair[0], 3), "to_planted": round(pair[1], 3)}
        for layer, heads in enumerate(mean.tolist())
        for head, pair in enumerate(heads)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ASSETS)
    parser.add_argument("--whole", type=Path, help="a model trained with --whole, to be told beside it")
    parser.add_argument("--sequences", type=int, default=300)
    args = parser.parse_args()

    torch.set_num_threads(1)
    lm, began = load_model(str(args.folder)), time.time()
    many, drawn = sequences(ASKED_FOR_ACCURACY, SEED + 1), sequences(args.sequences, SEED)
    measured = {
        "sequences": len(drawn),
        "accuracy": float((answers(lm, [one.ids for one in many]) == [one.answer for one in many]).mean()),
        "asked_for_accuracy": len(many),
        **interventions(lm, many),
        **measure_methods(lm, drawn),
        "first_by_baseline": measure_baselines(lm, drawn),
        "heads": measure_heads(lm, drawn),
        "parameters": lm.model.num_parameters(),
        "weights_bytes": (args.folder / "model.safetensors").stat().st_size,
    }
    if args.whole is not None:
        measured["first_without_gaps"] = measure_methods(load_model(str(args.whole)), drawn)["first"]
    (args.folder / "measurements.json").write_text(json.dumps(rounded(measured), indent=1) + "\n")
    (args.folder / "README.md").write_text(card(measured, json.loads((args.folder / "training_log.json").read_text())))
    print((args.folder / "README.md").read_text())
    print(f"{time.time() - began:.0f} seconds")


def rounded(given):
    """The same with floats of four digits."""
    if isinstance(given, dict):
        return {name: rounded(value) for name, value in given.items()}
    return round(given, 4) if isinstance(given, float) else given


def card(measured: dict, run: dict) -> str:
    first, plain = measured["first"], measured.get("first_without_gaps", {})
    beside = ["deciding token first", *(["model without gaps"] if plain else [])]
    rows = [
        f"| {METHODS[name].title} | {first[name]:.1%} |{f' {plain[name]:.1%} |' if plain else ''} "
        f"{measured['gain'][name]:.3f} | {measured['deletion'][name]:.3f} | {measured['better'][name]:.1%} |"
        for name in sorted(first, key=lambda name: -first[name])
    ]
    by_baseline = measured["first_by_baseline"]
    methods = list(next(iter(by_baseline.values())))
    baselines = [
        f"| {BASELINES[name]} | " + " | ".join(f"{shares[method]:.1%}" for method in methods) + " |"
        for name, shares in by_baseline.items()
    ]
    heads = [
        f"| L{one['layer']}H{one['head']} | {one['to_key']:.2f} | {one['to_planted']:.2f} |"
        for one in measured["heads"]
    ]
    without = [
        "“Model without gaps” is the same model trained without a gap in any text (`--whole`). It answers as well, "
        "but what it says where a token is missing is an accident, since it never met that; and then leaving tokens "
        "out, one by one or in groups, often points at the asked key or its earlier copy. So what the methods that "
        "leave tokens out find depends on whether the model knows what a left-out token is. A language model has "
        "hardly met such texts either, and the deletion test is made of them too.\n"
    ]
    parts = [
        "# The lookup model\n",
        f"A decoder-only Transformer with 2 layers of 3 heads, {measured['parameters']:,} parameters, "
        f"{measured['weights_bytes'] / 1e3:.0f} kB of weights (float16), trained on one task whose truth is known, so "
        "that methods which say which token mattered can be held against it. Its architecture is "
        "attention_core/transformer.py.\n",
        "Written by `python -m training.measure_lookup`; the figures below are in `measurements.json`.\n",
        "## The task\n",
        "`c 7 a 3 f 9 b 12 a` → `3`: pairs of a key and a value, then one of the keys; the answer is the value behind "
        f"it. {len(KEYS)} keys (a to z), {len(VALUES)} values (1 to {len(VALUES)}), {PAIRS[0]} to {PAIRS[1]} pairs, "
        "keys and values all different within a text. There are more than 10¹⁰ texts even of the shortest kind, so a "
        "fresh one has hardly ever been seen in training.\n",
        "The planted token is the value behind the asked key: with another value there the right answer is that one, "
        "with another value elsewhere it stays. That is so by construction; the model does it too. "
        f"In {measured['asked_for_accuracy']:,} fresh texts it is right in {measured['accuracy']:.2%}; when the "
        f"planted value is exchanged the answer follows in {measured['follows']:.2%}; when another one is, it stays in "
        f"{measured['stays']:.2%}. (The asked key and its earlier copy matter as well, since they say which value is "
        "meant; but without one of them the right value can still be guessed, without the value it cannot.)\n",
        "“_” is a gap: a token left out. Where the value itself is left out the right answer is the gap; where it is "
        "not told which value is meant, one of those that are there. The model reads at most "
        f"{LONGEST} tokens and can do nothing else.\n",
        "## How it learned\n",
        f"{run['steps']:,} steps of {run['texts']} texts, {run['seconds']} seconds on one core; Muon for the matrices "
        f"inside the blocks, AdamW for the rest. The first {WHOLE_FIRST:.0%} of the steps without gaps; then half of "
        "the texts lack a share of their tokens between none and all. In place of a missing token stands, by text, the "
        "vector of the gap, zeros, or the mean of all vectors: the baselines of the relevance methods. So the model "
        "has an answer of its own to a text with gaps. The logits are held near log probabilities by a small penalty, "
        f"and every token is given {FLOOR:.0%} / {len(VOCABULARY)} of the probability (label smoothing): relevance "
        "methods read single logits, whose common height, and whose depth for tokens that cannot be the answer, the "
        "plain loss leaves open.\n",
        "**This training was chosen by looking at such figures; it is the fifth that was tried.** Without gaps leaving "
        "one out found the planted token in 46% of 100 texts and Shapley values in 85%. With gaps, the missing value "
        "still to be guessed: 100% and 95% of 60, integrated gradients 0%. With the gap as the answer to a missing "
        "value, and the penalty: 100% and 100% of 300, as in all that came after, but then rollout, which never found "
        "it, did best in the area below, and Shapley values worst but for one. The guess and the smoothing were added "
        "for that. So it is by design that leaving tokens out does well here and that the curves agree; what it shows "
        "is that these methods are right where the model knows what a missing token is. It does not rank methods on "
        "other models.\n",
        "## What the methods find\n",
        f"{measured['sequences']} fresh texts; target: the right answer; signed scores; default settings. “Area”: "
        "insertion less deletion, higher is better. “Deletion”: the mean probability of the answer while the most "
        "relevant tokens go first, lower is better. “Better than random”: the share of texts in which the area is "
        "above 95% of random orders.\n",
        f"| method | {' | '.join(beside)} | area | deletion | better than random |",
        f"|---|{'---:|' * (len(beside) + 3)}",
        "\n".join(rows) + "\n",
        *(without if plain else []),
        "The same by what is put in place of a token:\n",
        f"| baseline | {' | '.join(METHODS[method].title for method in methods)} |",
        f"|---|{'---:|' * len(methods)}",
        "\n".join(baselines) + "\n",
        "## What its heads do\n",
        "Mean weights on the same texts: from a value to the key just before it, and from the asked key to the planted "
        "value.\n",
        "| head | value → its key | asked key → planted value |",
        "|---|---:|---:|",
        "\n".join(heads) + "\n",
        "## Use it, train it again\n",
        "```python\nfrom attention_core import explain, load_model\n\n"
        'lm = load_model("assets/lookup")\nexplain(lm, "c 7 a 3 f 9 b 12 a", "occlusion").scores\n```\n',
        "```bash\npython -m training.train_lookup                             # writes weights, tokenizer, log\n"
        "python -m training.train_lookup --whole --out /tmp/whole    # the same without gaps\n"
        "python -m training.measure_lookup --whole /tmp/whole        # writes this card and measurements.json\n```\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
