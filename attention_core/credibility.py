"""Which bars to believe: how far methods agree, and what becomes of the target when tokens go in their order.

    deletion    from the whole text, the most relevant tokens are replaced first: a good order lets the target fall fast
    insertion   from the baseline alone, the most relevant tokens come first: a good order lets it rise fast
                                                                        (Petsiuk et al. 2018, "RISE")

Both against random orders of the same tokens, drawn repeatedly. An order knows signs: what speaks against the target
goes last. Knows nothing about how relevance is found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .perturbed import TOKENS_AT_ONCE, OnPass
from .scorer import Scorer

POINTS = 7  # of a curve, at most, beside its beginning
DRAWS = 20  # random orders
FEWEST = 4  # tokens: fewer have too few orders
INTERVAL = (0.05, 0.95)  # of the draws


@dataclass(frozen=True, eq=False)
class Curves:
    """What was watched while tokens went and came, for one order; or for several random ones."""

    removed: np.ndarray  # (points,) how many tokens were replaced, or had come in
    deletion: np.ndarray  # (orders, points) float32
    insertion: np.ndarray  # (orders, points) float32
    tokens: int

    @property
    def deletion_areas(self) -> np.ndarray:
        """(orders,) the mean height of each curve; lower is better."""
        return self._areas(self.deletion)

    @property
    def insertion_areas(self) -> np.ndarray:
        """(orders,); higher is better."""
        return self._areas(self.insertion)

    @property
    def gains(self) -> np.ndarray:
        """(orders,) insertion less deletion: above 0 the order tells something; higher is better."""
        return self.insertion_areas - self.deletion_areas

    def _areas(self, heights: np.ndarray) -> np.ndarray:
        return np.trapezoid(heights, self.removed / max(1, self.tokens), axis=1)

    @property
    def nbytes(self) -> int:
        return self.removed.nbytes + self.deletion.nbytes + self.insertion.nbytes


@dataclass(frozen=True)
class Verdict:
    """One method's order beside random ones."""

    deletion: float
    insertion: float
    gain: float
    beaten: int  # so many random orders have a smaller gain
    draws: int  # of so many
    low: float  # the gain of random orders: from
    high: float  # … to, in the middle 90 %
    tokens: int

    @property
    def word(self) -> str:
        """ "better" or "worse" than the middle of random orders, "like chance", or "unknown": nothing can be told."""
        if self.tokens < FEWEST or not self.high - self.low > 1e-6:
            return "unknown"
        return "better" if self.gain > self.high else "worse" if self.gain < self.low else "like chance"


def order_of(scores: Tensor) -> list[int]:
    """The tokens from the most to the least relevant; of equals the earlier one first."""
    return torch.argsort(scores, descending=True, stable=True).tolist()


def method_curves(scorer: Scorer, scores: Tensor, baseline: str, on_pass: OnPass = lambda done, total: None) -> Curves:
    """Deletion and insertion in the order of one method's scores (tokens,)."""
    return _curves(scorer, [order_of(scores)], baseline, on_pass)


def random_curves(
    scorer: Scorer, baseline: str, draws: int = DRAWS, seed: int = 0, on_pass: OnPass = lambda done, total: None
) -> Curves:
    """The same for random orders of the tokens."""
    drawn, tokens = torch.Generator().manual_seed(seed), scorer.vectors.shape[1]
    return _curves(scorer, [torch.randperm(tokens, generator=drawn).tolist() for _ in range(draws)], baseline, on_pass)


def verdict(method: Curves, random: Curves) -> Verdict:
    gain = float(method.gains[0])
    low = np.quantile(random.gains, INTERVAL[0], method="higher")  # both are gains of random orders, so that whoever
    high = np.quantile(random.gains, INTERVAL[1], method="lower")  # beats 19 of 20 is above the interval
    return Verdict(
        float(method.deletion_areas[0]),
        float(method.insertion_areas[0]),
        gain,
        int((random.gains < gain).sum()),
        len(random.gains),
        float(low),
        float(high),
        method.tokens,
    )


def _curves(scorer: Scorer, orders: Sequence[Sequence[int]], baseline: str, on_pass: OnPass) -> Curves:
    tokens = scorer.vectors.shape[1]
    # the first tokens tell most: 0, 1, 2, 3, 5, 10, 17, 30
    steps = np.unique([0, *np.geomspace(1, tokens, POINTS).round().astype(int)])
    steps = steps if tokens > POINTS else np.arange(tokens + 1)
    empty = scorer.baseline(baseline)
    # (texts, tokens) bool: which tokens are there. Deletion and insertion of an order, one after the other
    present = torch.ones(2 * len(orders) * len(steps), tokens, dtype=torch.bool)
    for place, (order, count, inserted) in enumerate(_every(orders, steps)):
        present[place] = not inserted
        present[place, list(order[:count])] = inserted
    masks, back = present.unique(dim=0, return_inverse=True)  # the whole text and the empty one are there often
    heights = []
    batch = max(1, TOKENS_AT_ONCE // tokens)
    with torch.no_grad():
        for start in range(0, len(masks), batch):
            on_pass(start, len(masks))
            kept = masks[start : start + batch, :, None].to(scorer.vectors.device)
            heights.append(scorer.watched(torch.where(kept, scorer.vectors, empty)).float().cpu())
    found = torch.cat(heights)[back].reshape(len(orders), 2, len(steps)).numpy()
    return Curves(steps, found[:, 0], found[:, 1], tokens)


def _every(orders: Sequence[Sequence[int]], steps: np.ndarray) -> Iterator[tuple[Sequence[int], int, bool]]:
    for order in orders:
        for inserted in (False, True):
            for count in steps:
                yield order, int(count), inserted


# ── agreement ───────────────────────────────────────────────────────────────────────────────────────────────────────


def rank_agreement(scores: Sequence[Tensor]) -> np.ndarray:
    """(methods, methods) Spearman's rank correlation of scores (tokens,) each; NaN where all are equal."""
    table = pd.DataFrame(torch.stack([part.double() for part in scores]).T.numpy())
    return table.rank().corr().to_numpy()


def top_overlap(scores: Sequence[Tensor], count: int) -> np.ndarray:
    """(methods, methods) the share of the `count` most relevant tokens that two methods have in common."""
    tops = [set(order_of(part)[:count]) for part in scores]
    return np.array([[len(one & other) / max(1, len(one)) for other in tops] for one in tops])


def top_count(tokens: int) -> int:
    """How many of the most relevant tokens are compared: a quarter, from 1 to 5."""
    return max(1, min(5, round(tokens / 4)))
