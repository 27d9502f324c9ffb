"""What each relevance method costs, and how well integrated gradients converge: python -m benchmarks.relevance

    python -m benchmarks.relevance --model small            seconds of each method, 30 tokens, beside one plain pass
    python -m benchmarks.relevance --convergence            completeness errors by baseline and steps
    python -m benchmarks.relevance --toy                    the small model, once

Methods and a plain forward pass take turns in one process; medians. The way from the baseline to the text is walked in
200 equal steps: its length in the score (all ups and downs) beside the difference of its ends tells why the steps of an
integral miss so much.
"""

import argparse
import statistics
import time

import torch

from attention_core import LanguageModel, load_model
from attention_core.aim import aim_at
from attention_core.attribution import METHODS, Settings, explaining
from attention_core.scorer import BASELINES
from benchmarks.interaction import TEXT

STEPS = (16, 32, 64, 128, 300)


def costs(lm: LanguageModel, ids: torch.Tensor, repeats: int, names: list[str]) -> None:
    cap, scorer = lm.capture(ids), aim_at(lm, ids)

    def plain() -> None:
        with torch.no_grad():
            lm.model(ids)

    taken: dict[str, list[float]] = {name: [] for name in ("one plain pass", *names)}
    for _ in range(repeats):
        for name in taken:
            began = time.perf_counter()
            if name in METHODS:
                list(explaining(lm, scorer, name, capture=cap))
            else:
                plain()
            taken[name].append(time.perf_counter() - began)
    base = statistics.median(taken["one plain pass"])
    print(f"{lm.name}, {ids.shape[1]} tokens, medians of {repeats}")
    print("| method | seconds | plain passes |\n|---|---:|---:|")
    for name, seconds in taken.items():
        middle = statistics.median(seconds)
        print(f"| {METHODS[name].title if name in METHODS else name} | {middle:.3f} | {middle / base:.1f} |")
    quick = sum(statistics.median(taken[name]) for name in names if name != "shapley")
    print(f"all but Shapley values: {quick:.2f} s")


def convergence(lm: LanguageModel, ids: torch.Tensor, steps: tuple[int, ...]) -> None:
    print(f"{lm.name}, {ids.shape[1]} tokens: error of the sum, as a share of f(x) − f(baseline)")
    print(f"| baseline | {' | '.join(f'{count} steps' for count in steps)} | f(x) − f(baseline) | all ups and downs |")
    print(f"|---|{'---:|' * (len(steps) + 2)}")
    for score in ("logit", "log_probability"):
        scorer = aim_at(lm, ids, score=score)
        for baseline in BASELINES:
            errors = []
            for count in steps:
                settings = Settings(baseline=baseline, steps=count)
                (found,) = explaining(lm, scorer, "integrated_gradients", settings)
                errors.append(f"{100 * (found.error or 0.0):.2f} %")
            empty = scorer.baseline(baseline)
            with torch.no_grad():
                way = torch.cat([scorer(empty + a * (scorer.vectors - empty)) for a in torch.linspace(0, 1, 201)])
            length = float((way[1:] - way[:-1]).abs().sum())
            whole = float(way[-1] - way[0])
            print(f"| {baseline}, {score} | {' | '.join(errors)} | {whole:.2f} | {length:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="the small model, once")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--convergence", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lm = load_model("small" if args.toy else args.model)
    ids = lm.encode(TEXT).inputs["input_ids"][:, :30]
    names = [name for name in METHODS if name != "shapley" or lm.name == "small"]
    if not args.convergence:
        costs(lm, ids, 1 if args.toy else 5, names)
    if args.convergence or args.toy:
        convergence(lm, ids, STEPS[:2] if args.toy else STEPS)


if __name__ == "__main__":
    main()
