"""Relevance by gradients and by leaving tokens out, as Captum computes them, on the vectors of the tokens.

A token's relevance is the sum over its vector, signs kept. Every method counts the passes that it has made, so that
whoever waits can be told and can stop it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from captum.attr import FeatureAblation, InputXGradient, IntegratedGradients, ShapleyValueSampling
from torch import Tensor

from .errors import HeadlightError
from .scorer import Scorer

TOKENS_AT_ONCE = 512  # in a batch: more take memory and save no time on a processor
GROUPS = 5  # of Shapley samples, whose spread tells how sure their mean is
OnPass = Callable[[int, int], None]  # how many texts have been read, of how many


@dataclass(frozen=True, eq=False)
class Found:
    """What a method found."""

    scores: Tensor  # (tokens,) float32
    without: float | None = None  # the number for the baseline alone, where the scores should sum to the difference
    spread: Tensor | None = None  # (tokens,) the standard error of each score, where they were drawn
    samples: int | None = None  # how many were drawn so far


class _Counting:
    """A Scorer that tells how many texts it has read."""

    def __init__(self, scorer: Scorer, total: int, on_pass: OnPass):
        self.scorer, self.total, self.on_pass, self.done = scorer, total, on_pass, 0

    def __call__(self, vectors: Tensor) -> Tensor:
        self.on_pass(min(self.done, self.total), self.total)  # before the pass: whoever wants to stop it may raise here
        self.done += len(vectors)
        return self.scorer(vectors)


def gradient_x_input(scorer: Scorer, on_pass: OnPass) -> Found:
    """Σ_d x_d · ∂f/∂x_d (Shrikumar et al. 2016; Denil et al. 2014)."""
    needs_slope(scorer, "Gradient × input")
    with torch.enable_grad():
        made = InputXGradient(_Counting(scorer, 1, on_pass)).attribute(_vectors(scorer))
    return Found(_summed(made))


def integrated_gradients(scorer: Scorer, on_pass: OnPass, baseline: str, steps: int) -> Found:
    """Σ_d (x_d − b_d) · ∫ ∂f/∂x_d (b + α (x − b)) dα from 0 to 1 (Sundararajan et al. 2017, eq. 1), the integral by
    Gauss-Legendre's rule with so many steps."""
    if not 1 <= steps <= 1000:
        raise HeadlightError("Integrated gradients take from 1 to 1,000 steps.")
    empty = scorer.baseline(baseline)
    with torch.enable_grad():
        made = IntegratedGradients(_Counting(scorer, steps, on_pass)).attribute(
            _vectors(scorer), empty, n_steps=steps, internal_batch_size=_batch(scorer)
        )
    return Found(_summed(made), _value(scorer, empty))


def occlusion(scorer: Scorer, on_pass: OnPass, baseline: str) -> Found:
    """f(x) − f(x with the baseline in the token's place) (leave one out; Li et al. 2016)."""
    tokens = scorer.vectors.shape[1]
    ablation = FeatureAblation(_Counting(scorer, tokens + 1, on_pass))
    with torch.no_grad():
        made = ablation.attribute(
            scorer.vectors,
            scorer.baseline(baseline),
            feature_mask=_a_feature_each(scorer),
            perturbations_per_eval=_batch(scorer),
        )
    return Found(made[0, :, 0].float().cpu())


def shapley(scorer: Scorer, on_pass: OnPass, baseline: str, samples: int, seed: int) -> Iterator[Found]:
    """The mean change that a token makes when the tokens come in at random orders (Štrumbelj and Kononenko 2010;
    Castro et al. 2009). Found after each group of samples: the mean so far, with its standard error."""
    if not 1 <= samples <= 1000:
        raise HeadlightError("Shapley values are drawn from 1 to 1,000 samples.")
    tokens, empty = scorer.vectors.shape[1], scorer.baseline(baseline)
    sizes = [len(part) for part in torch.arange(samples).tensor_split(min(GROUPS, samples))]
    counting = _Counting(scorer, samples * tokens + len(sizes), on_pass)  # each group reads the baseline once
    drawn = torch.Generator().manual_seed(seed)
    method = ShapleyValueSampling(counting)
    method.permutation_generator = lambda features, count: (
        torch.randperm(features, generator=drawn).tolist() for _ in range(count)
    )
    means: list[Tensor] = []
    without = _value(scorer, empty)
    for size in sizes:
        with torch.no_grad():
            made = method.attribute(
                scorer.vectors,
                empty,
                feature_mask=_a_feature_each(scorer),
                n_samples=size,
                perturbations_per_eval=_batch(scorer),
            )
        means.append(made[0, :, 0].float().cpu())
        weights = torch.tensor(sizes[: len(means)], dtype=torch.float32)
        every = torch.stack(means)  # (groups, tokens)
        mean = (every * weights[:, None]).sum(dim=0) / weights.sum()
        spread = every.std(dim=0) / len(means) ** 0.5 if len(means) > 1 else None
        yield Found(mean, without, spread, int(weights.sum()))


def needs_slope(scorer: Scorer, name: str) -> None:
    """HeadlightError where the number has no slope at the text itself."""
    if scorer.aim.kind == "vector":
        raise HeadlightError(
            f"{name} does not apply: how near a vector is to itself is at its largest here, so its slope is 0. "
            "Give a second text, or choose a method that leaves tokens out."
        )


def _vectors(scorer: Scorer) -> Tensor:
    return scorer.vectors.detach().clone().requires_grad_(True)


def _value(scorer: Scorer, vectors: Tensor) -> float:
    with torch.no_grad():
        return float(scorer(vectors)[0])


def _summed(made: Tensor) -> Tensor:
    """(1, tokens, hidden) → (tokens,)"""
    return made.detach()[0].float().sum(dim=-1).cpu()


def _a_feature_each(scorer: Scorer) -> Tensor:
    """(1, tokens, 1) the number of each token: its whole vector is one feature."""
    return torch.arange(scorer.vectors.shape[1], device=scorer.vectors.device)[None, :, None]


def _batch(scorer: Scorer) -> int:
    return max(1, TOKENS_AT_ONCE // scorer.vectors.shape[1])
