"""Answers of relevance methods: made by hand, and real ones of the small model."""

import re
from dataclasses import replace

import numpy as np
import torch

from attention_core.aim import aim_at
from attention_core.attribution import METHODS, Explanation, Settings, explaining, read_again
from attention_core.credibility import Curves, method_curves, random_curves
from attention_core.direct import Direct, LayerPart, direct
from attention_core.lens import Lens
from attention_core.scorer import Aim, Candidate

TITLE = {name: method.title for name, method in METHODS.items()}


def asked(tokens=("·The", "·king", "·and", "·the"), target=(0.283, 1), contrast=None, **more) -> Aim:
    one = Candidate(7, "·queen", *target)
    two = None if contrast is None else Candidate(8, "·king", *contrast)
    aim = Aim("next", tuple(tokens), len(tokens) - 1, 5.8203, "logit", one, two)
    return replace(aim, **more)


def answer(scores, method="occlusion", aim=None, without=None, spread=None, **settings) -> Explanation:
    scores = torch.tensor(scores, dtype=torch.float32)
    aim = aim or asked([f"t{n}" for n in range(len(scores))])
    spread = None if spread is None else torch.tensor(spread)
    return Explanation(method, Settings(**settings), aim, scores, without, spread, 0.1)


def numbers(text: str) -> list[float]:
    """Every number in a sentence, whatever its sign looks like."""
    return [float(n.replace("−", "-").replace(",", "")) for n in re.findall(r"[+−]?\d[\d,]*\.?\d*", text)]


def curves(deletion, insertion, tokens=4) -> Curves:
    deletion, insertion = np.array(deletion, np.float32), np.array(insertion, np.float32)
    return Curves(np.linspace(0, tokens, deletion.shape[1]).astype(int), deletion, insertion, tokens)


def taken_apart(heads: list, rest: list[float], chances=None, ranks=None, **more) -> Direct:
    """heads: of each layer a list of numbers, or None."""
    parts = [
        LayerPart(None, None, r) if h is None else LayerPart(sum(h), torch.tensor(h), r)
        for h, r in zip(heads, rest, strict=True)
    ]
    chances = torch.tensor(chances or [[0.1]] * len(parts))
    ranks = torch.tensor(ranks or [[3]] * len(parts))
    lens = Lens(torch.zeros(len(parts), 1), torch.zeros(len(parts), 1), 0.0, wanted=chances, ranks=ranks)
    whole = Direct(0.0, 0.25, parts, -0.125, False, 0.0, lens)
    return replace(whole, **{"logit": whole.sum, "before": whole.sum} | more)


def real_answers(small):
    """One text of the small model: what was asked, every answer but Shapley's, the curves, the logit taken apart."""
    scorer = aim_at(small, "The king and the", target="queen", contrast="king")
    capture = read_again(small, scorer)
    answers = [[*explaining(small, scorer, n, Settings(steps=4), capture)][-1] for n in METHODS if n != "shapley"]
    drawn = {TITLE[a.method]: method_curves(scorer, a.scores, "mean") for a in answers}
    return scorer.aim, capture, answers, drawn, random_curves(scorer, "mean", 6), direct(scorer, capture)
