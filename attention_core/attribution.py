"""Which tokens mattered: one float per token for a chosen target, by eight methods that need not agree.

    attention              what the target's row looks at
    rollout                the same through all layers                    (Abnar and Zuidema 2020)
    value_weighted         attention times the length of the values       (Kobayashi et al. 2020)
    gradient_x_input       the slope of the score along each vector       (Denil et al. 2014; Shrikumar et al. 2016)
    integrated_gradients   the slope, all the way from a baseline         (Sundararajan et al. 2017)
    attention_x_gradient   attention through all layers, by its slope     (Chefer et al. 2021)
    occlusion              what changes without the token                 (Li et al. 2016)
    shapley                what it changes on average, whatever else is there   (Castro et al. 2009)

With a contrast the score is that of the target less that of the contrast: why this one rather than that one (Yin and
Neubig 2022). Knows nothing about pages and figures.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from . import recording
from .aim import aim_at
from .attended import attention_x_gradient, received, rollout, value_weighted
from .errors import HeadlightError
from .language import LanguageModel
from .perturbed import Found, OnPass, gradient_x_input, integrated_gradients, occlusion, shapley
from .record import Capture
from .scorer import Aim, Scorer

CONVERGED = 0.05  # the largest completeness error at which bars may be believed


@dataclass(frozen=True)
class Method:
    """A way to say which tokens mattered."""

    title: str
    asks: str  # what it asks, in a few words
    signed: bool = True  # whether a token can speak against the target
    knows_target: bool = True  # whether another target gives other bars
    reads: tuple[str, ...] = ()  # the Settings that it reads


OF_HEADS = ("layer", "head")
METHODS = {
    "attention": Method("Attention received", "what is looked at", False, False, OF_HEADS),
    "gradient_x_input": Method("Gradient × input", "how the score would begin to change"),
    "occlusion": Method("Leave one out", "what the score loses without the token", reads=("baseline",)),
    "integrated_gradients": Method("Integrated gradients", "how it changes, from 0 on", reads=("baseline", "steps")),
    "shapley": Method("Shapley values", "what it adds, whatever else is there", reads=("baseline", "samples", "seed")),
    "attention_x_gradient": Method("Attention × gradient", "attention that raises the score, rolled out", False),
    "rollout": Method("Attention rollout", "attention followed through all layers", False, False),
    "value_weighted": Method("Value-weighted attention", "how much is handed on", False, False, OF_HEADS),
}
DEFAULT = ("attention", "gradient_x_input", "occlusion")


@dataclass(frozen=True)
class Settings:
    """What a method may be told. Those that it does not read change nothing."""

    layer: int | None = None  # of attention and value_weighted; None: the mean of all
    head: int | None = None
    baseline: str = "mean"  # of BASELINES
    steps: int = 64  # of integrated gradients: the small model's errors stay under 0.1 % then
    samples: int = 25  # of Shapley values
    seed: int = 0

    def read_by(self, method: str) -> "Settings":
        """The settings that this method reads, the others at their defaults: equal work has equal settings."""
        return Settings(**{name: getattr(self, name) for name in METHODS[method].reads})


@dataclass(frozen=True, eq=False)
class Explanation:
    """One method's answer."""

    method: str  # of METHODS
    settings: Settings
    aim: Aim
    scores: Tensor  # (tokens,) float32: above 0 a token speaks for the target, below 0 against it
    without: float | None  # the score of the baseline alone
    spread: Tensor | None  # (tokens,) standard errors, where the scores were drawn
    seconds: float

    @property
    def target(self) -> str:
        return self.aim.target.token if self.aim.target is not None else " ".join(self.aim.texts[:1])

    @property
    def tokens(self) -> tuple[str, ...]:
        return self.aim.tokens

    @property
    def error(self) -> float | None:
        """How far Σ scores is from f(x) − f(baseline), as a share of it (Sundararajan et al. 2017, proposition 1);
        None where the method promises no sum."""
        if self.without is None:
            return None
        whole = self.aim.value - self.without
        return abs(float(self.scores.double().sum()) - whole) / max(abs(whole), 1e-12)

    @property
    def converged(self) -> bool:
        return self.error is None or self.error <= CONVERGED

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.scores, self.spread) if part is not None)

    def by_words(self) -> "Explanation":
        """The same for words instead of tokens: the sums of their tokens' scores."""
        groups = word_groups(self.aim)
        texts = tuple("".join(self.tokens[i] for i in group) for group in groups)
        row = self.aim.token
        if self.aim.kind == "vector":  # else it may be a row of another text
            row = next(n for n, group in enumerate(groups) if row in group)
        scores = torch.stack([self.scores[group].sum() for group in groups])
        spread = self.spread
        if spread is not None:
            spread = torch.stack([spread[group].square().sum().sqrt() for group in groups])
        aim = replace(self.aim, tokens=texts, token=row, words=tuple(range(len(groups))))
        return replace(self, aim=aim, scores=scores, spread=spread)


def word_groups(aim: Aim) -> list[list[int]]:
    """The tokens of each word. Raises HeadlightError where the tokenizer does not say which these are."""
    if aim.words is None:
        raise HeadlightError("The tokenizer does not say which tokens make up a word: look at single tokens.")
    groups: list[list[int]] = []
    for i, word in enumerate(aim.words):
        if groups and word is not None and word == aim.words[groups[-1][-1]]:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def relevance(
    lm: LanguageModel,
    text: str | Tensor | list[int],
    method: str = "integrated_gradients",
    target: int | str | None = None,
    contrast: int | str | None = None,
    layer: int | None = None,
    head: int | None = None,
    **options: Any,
) -> Tensor:
    """(tokens,) float32 on the CPU: how much each token that was read mattered for the target. See explain()."""
    return explain(lm, text, method, target, contrast, layer, head, **options).scores


def explain(
    lm: LanguageModel,
    text: str | Tensor | list[int],
    method: str = "integrated_gradients",
    target: int | str | None = None,
    contrast: int | str | None = None,
    layer: int | None = None,
    head: int | None = None,
    *,
    token: int | None = None,
    continuation: str | Tensor | list[int] = "",
    decoder: str = "",
    score: str = "logit",
    baseline: str = Settings.baseline,
    steps: int = Settings.steps,
    samples: int = Settings.samples,
    seed: int = Settings.seed,
    capture: Capture | None = None,
    on_pass: OnPass = lambda done, total: None,
) -> Explanation:
    """How much each token that was read mattered for the target, by one of METHODS → Explanation.

    target, contrast, token, continuation, decoder and score: see aim_at(). layer and head: of attention and
    value_weighted alone. baseline: what stands in place of a token that is left out ("mean", "zero", "token").
    steps: of integrated gradients. samples, seed: of Shapley values. capture: of this text, if it is at hand.
    on_pass(done, total) is called before each pass, or each layer that is looked at; it may raise to stop the work.
    Raises HeadlightError where a method does not apply, and says why.
    """
    scorer = aim_at(lm, text, target, contrast, token=token, continuation=continuation, decoder=decoder, score=score)
    settings = Settings(layer, head, baseline, steps, samples, seed)
    return list(explaining(lm, scorer, method, settings, capture, on_pass))[-1]


def explaining(
    lm: LanguageModel,
    scorer: Scorer,
    method: str,
    settings: Settings = Settings(),
    capture: Capture | None = None,
    on_pass: OnPass = lambda done, total: None,
) -> Iterator[Explanation]:
    """The answer; of a method that draws samples, the answer so far after each group of them."""
    if method not in METHODS:
        raise HeadlightError(f"There is no method “{method}”: choose one of {', '.join(METHODS)}.")
    if METHODS[method].reads != OF_HEADS and (settings.layer, settings.head) != (None, None):
        raise HeadlightError(f"{METHODS[method].title} is about the whole model: leave out layer and head.")
    settings = settings.read_by(method)
    began = time.perf_counter()
    for found in _found(lm, scorer, method, settings, capture, on_pass):
        seconds = time.perf_counter() - began
        if not bool(torch.isfinite(found.scores).all()):
            raise HeadlightError(
                f"{METHODS[method].title} gave no numbers here: in {scorer.model.dtype} they overflow."
            )
        told = settings if found.samples is None else replace(settings, samples=found.samples)
        yield Explanation(method, told, scorer.aim, found.scores, found.without, found.spread, seconds)


def _found(
    lm: LanguageModel, scorer: Scorer, method: str, told: Settings, capture: Capture | None, on_pass: OnPass
) -> Iterator[Found]:
    match method:
        case "attention":
            yield Found(received(capture or read_again(lm, scorer), scorer, told.layer, told.head, on_pass))
        case "value_weighted":
            yield Found(value_weighted(capture or read_again(lm, scorer), scorer, told.layer, told.head, on_pass))
        case "rollout":
            yield Found(rollout(capture or read_again(lm, scorer), scorer, on_pass))
        case "attention_x_gradient":
            yield Found(attention_x_gradient(scorer, on_pass))
        case "gradient_x_input":
            yield gradient_x_input(scorer, on_pass)
        case "integrated_gradients":
            yield integrated_gradients(scorer, on_pass, told.baseline, told.steps)
        case "occlusion":
            yield occlusion(scorer, on_pass, told.baseline)
        case "shapley":
            yield from shapley(scorer, on_pass, told.baseline, told.samples, told.seed)


def read_again(lm: LanguageModel, scorer: Scorer) -> Capture:
    """The Capture of what a Scorer reads."""
    inputs: dict[str, Any] = {"input_ids": scorer.ids, **scorer.inputs}
    return recording.capture(lm.model, **inputs)
