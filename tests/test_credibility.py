"""Curves against a slow loop, areas and correlations against NumPy and SciPy, a verdict where the truth is known."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from attention_core import LanguageModel
from attention_core.aim import aim_at
from attention_core.credibility import (
    Curves,
    method_curves,
    order_of,
    random_curves,
    rank_agreement,
    top_count,
    top_overlap,
    verdict,
)
from tests.architectures import make
from tests.tiny import letters

KING = "The old king met the queen by the door, and the"


@dataclass
class Planted:
    """A linear model: each token adds its own weight. Its vectors say which tokens are there."""

    weights: Tensor  # (tokens,)

    @property
    def vectors(self) -> Tensor:
        return torch.ones(1, len(self.weights), 1)

    def baseline(self, kind: str) -> Tensor:
        return torch.zeros_like(self.vectors)

    def watched(self, vectors: Tensor) -> Tensor:
        return vectors[..., 0] @ self.weights


def slowly(scorer, order: list[int], counts: list[int]) -> tuple[list[float], list[float]]:
    """One text after the other: deletion, insertion."""
    found: tuple[list[float], list[float]] = ([], [])
    empty = scorer.baseline("mean")
    for curve, (start, goal) in zip(found, ((scorer.vectors, empty), (empty, scorer.vectors)), strict=True):
        for count in counts:
            given = start.clone()
            for place in order[:count]:
                given[0, place] = goal[0, place]
            with torch.no_grad():
                curve.append(float(scorer.watched(given)[0]))
    return found


# ── curves ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["small", "BERT", "T5: relative positions"])
def test_curves_against_a_loop(small, name):
    lm = small if name == "small" else LanguageModel(make(name), letters())
    scorer = aim_at(lm, KING) if lm.predicts else aim_at(lm, KING, "because")
    count = len(scorer.aim.tokens)
    scores = torch.randn(count, generator=torch.Generator().manual_seed(3))
    curves = method_curves(scorer, scores, "mean")
    expected = {12: [0, 1, 2, 3, 5, 8, 12], 47: [0, 1, 2, 4, 7, 13, 25, 47]}
    assert curves.removed.tolist() == expected[count] and curves.tokens == count
    order = sorted(range(count), key=lambda place: -float(scores[place]))
    deletion, insertion = slowly(scorer, order, curves.removed.tolist())
    np.testing.assert_allclose(curves.deletion[0], deletion, atol=1e-5)
    np.testing.assert_allclose(curves.insertion[0], insertion, atol=1e-5)
    assert curves.deletion[0][0] == pytest.approx(curves.insertion[0][-1]), "the whole text"
    assert curves.deletion[0][-1] == pytest.approx(curves.insertion[0][0]), "the baseline alone"
    across = curves.removed / count
    assert curves.deletion_areas == pytest.approx([np.trapezoid(deletion, across)], abs=1e-5)
    assert curves.insertion_areas == pytest.approx([np.trapezoid(insertion, across)], abs=1e-5)
    assert curves.gains == pytest.approx([np.trapezoid(insertion, across) - np.trapezoid(deletion, across)], abs=1e-5)


def test_what_is_watched_with_a_contrast(small):
    scorer = aim_at(small, "The old king met the", "queen", "king")
    curves = method_curves(scorer, torch.arange(5.0), "zero")
    with torch.no_grad():
        pair = small.model(**small.tokenizer("The old king met the", return_tensors="pt")).logits[0, -1]
    share = pair[[scorer.aim.target.id, scorer.aim.contrast.id]].softmax(dim=-1)[0]
    assert curves.deletion[0, 0] == pytest.approx(float(share), abs=1e-5)
    assert curves.removed.tolist() == [0, 1, 2, 3, 4, 5]


def test_random_orders_are_drawn_again_the_same(small):
    scorer = aim_at(small, KING)
    one, again, other = (random_curves(scorer, "mean", 4, seed) for seed in (7, 7, 8))
    assert np.array_equal(one.deletion, again.deletion) and np.array_equal(one.insertion, again.insertion)
    assert not np.allclose(one.deletion, other.deletion) and one.deletion.shape == (4, 7)
    drawn = torch.Generator().manual_seed(7)
    for n in range(4):
        order = torch.randperm(len(scorer.aim.tokens), generator=drawn).tolist()
        deletion, insertion = slowly(scorer, order, one.removed.tolist())
        np.testing.assert_allclose(one.deletion[n], deletion, atol=1e-5)
        np.testing.assert_allclose(one.insertion[n], insertion, atol=1e-5)
    assert one.nbytes == one.removed.nbytes + 2 * 4 * 7 * 4


def test_progress_and_stop(small):
    scorer, seen = aim_at(small, KING), []
    random_curves(scorer, "mean", on_pass=lambda done, total: seen.append((done, total)))
    assert len(seen) > 3 and len({total for _, total in seen}) == 1
    assert [done for done, _ in seen] == sorted({done for done, _ in seen}) and seen[0][0] == 0
    assert all(done < total for done, total in seen)

    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done:
            raise Enough

    with pytest.raises(Enough):
        random_curves(scorer, "mean", on_pass=stop)


def test_one_token(small):
    curves = random_curves(aim_at(small, "The"), "mean", 3)
    assert curves.removed.tolist() == [0, 1] and curves.deletion.shape == (3, 2)
    assert np.ptp(curves.gains) < 1e-6 and verdict(curves, curves).word == "unknown"


# ── the verdict ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_planted_model_tells_good_orders_from_bad_ones():
    weights = torch.tensor([0.1, -2.0, 3.0, 0.7, -0.4, 5.0, 1.1, -1.2, 0.0, 2.2, -0.1])
    scorer, shuffled = Planted(weights), torch.Generator().manual_seed(1)
    random = random_curves(scorer, "zero", 64)
    good, bad = (verdict(method_curves(scorer, scores, "zero"), random) for scores in (weights, -weights))
    assert (good.word, good.beaten) == ("better", 64) and (bad.word, bad.beaten, bad.draws) == ("worse", 0, 64)
    assert good.gain > good.high > bad.low > bad.gain and good.gain == pytest.approx(good.insertion - good.deletion)
    words = [
        verdict(method_curves(scorer, weights[torch.randperm(11, generator=shuffled)], "zero"), random).word
        for _ in range(40)
    ]
    assert 0.75 < words.count("like chance") / 40 <= 1
    gains = np.sort(random.gains)
    assert (good.low, good.high) == (pytest.approx(gains[4]), pytest.approx(gains[59]))  # of 64, those at 5 and 95 %
    middle = verdict(Curves(random.removed, random.deletion[:1], random.insertion[:1], 11), random)
    assert middle.beaten == (random.gains < random.gains[0]).sum()


def test_a_linear_model_by_hand():
    """Weights 4, 2, 1, 0, best first: deletion 7, 3, 1, 0, 0 and insertion 0, 4, 6, 7, 7 over five points."""
    curves = method_curves(Planted(torch.tensor([1.0, 4.0, 0.0, 2.0])), torch.tensor([1.0, 4.0, 0.0, 2.0]), "zero")
    assert curves.deletion.tolist() == [[7, 3, 1, 0, 0]] and curves.insertion.tolist() == [[0, 4, 6, 7, 7]]
    assert curves.deletion_areas.tolist() == [(3.5 + 3 + 1 + 0 + 0) / 4]
    assert curves.gains.tolist() == [(4 + 6 + 7 + 3.5) / 4 - 7.5 / 4]


# ── agreement ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rank_agreement_is_spearmans():
    drawn = torch.Generator().manual_seed(0)
    scores = [torch.randn(13, generator=drawn) for _ in range(3)]
    scores.append(torch.tensor([1.0, 1, 2, 2, 2, 3, 0, 0, -1, -1, 5, 5, 5]))  # equals share a rank
    ours = rank_agreement(scores)
    theirs = stats.spearmanr(torch.stack(scores, dim=1).double().numpy()).statistic
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert np.isnan(rank_agreement([*scores, torch.zeros(13)])[-1]).all()


def test_the_most_relevant_in_common():
    one, two, three = (
        torch.tensor([5.0, 4, 3, 2, 1]),
        torch.tensor([5.0, 1, 2, 3, 4]),
        torch.tensor([-5.0, -4, 0, 0, 1]),
    )
    assert order_of(one) == [0, 1, 2, 3, 4] and order_of(two) == [0, 4, 3, 2, 1]
    assert order_of(three) == [4, 2, 3, 1, 0], "signs count, and of equals the earlier one"
    expected = [[1, 1 / 2, 0], [1 / 2, 1, 1 / 2], [0, 1 / 2, 1]]
    np.testing.assert_allclose(top_overlap([one, two, three], 2), expected)
    np.testing.assert_allclose(top_overlap([one, two], 9), np.ones((2, 2)), err_msg="there are five tokens only")
    assert [top_count(n) for n in (1, 2, 4, 6, 12, 20, 300)] == [1, 1, 1, 2, 3, 5, 5]
