"""Local attention: a window of letters around one place.

Luong, Pham and Manning (2015), section 3.2. Letters count from 0. Scores are the paper's "general" ones.
"""

import torch
from torch import Tensor, nn

from .luong import Global
from .recurrent import SIZES, Memory, Sizes, softmax_over
from .speaker import Look

REACH = 2  # D: letters on each side of the place


def inside(centre: Tensor, memory: Memory) -> Tensor:
    """centre (words,) → (words, letters) bool: the letters s of the word with |s − centre| ≤ D."""
    places = torch.arange(memory.there.shape[1], device=centre.device)
    return memory.there & ((places - centre[:, None]).abs() <= REACH)


class LocalMonotonic(Global):
    """local-m: p_t = t, the t-th sound looks around the t-th letter; a_t by eq. 7 inside the window [p_t − D, p_t + D].

    Behind the last letter p_t stays there, so that no window is empty.
    """

    def look(self, hidden: Tensor, memory: Memory, place: int) -> Look:
        last = memory.there.sum(dim=1) - 1
        centre = last.clamp(max=place).to(hidden.dtype)  # (words,)
        left, right = self.factors(hidden, memory.states)
        weights, scores = softmax_over((left * right).sum(dim=-1), inside(centre, memory))
        return Look(weights, scores, left, right, centre=centre)


class LocalPredictive(Global):
    """local-p: p_t = S · sigmoid(v_pᵀ tanh(W_p h_t)) (eq. 9); a_t(s) = align(h_t, h̄_s) exp(−(s − p_t)² / (2σ²))
    (eq. 10), with σ = D / 2 and align the softmax inside the window [p_t − D, p_t + D].

    S is the number of letters, the end among them. After the Gaussian a row sums to less than 1.
    """

    def __init__(self, score: str = "general", sizes: Sizes = SIZES):
        super().__init__(score, sizes)
        self.toward = nn.Linear(sizes.hidden, sizes.hidden, bias=False)  # W_p
        self.place = nn.Linear(sizes.hidden, 1, bias=False)  # v_p

    def look(self, hidden: Tensor, memory: Memory, place: int) -> Look:
        count = memory.there.sum(dim=1).to(hidden.dtype)  # S, (words,)
        centre = count * self.place(self.toward(hidden).tanh())[:, 0].sigmoid()
        left, right = self.factors(hidden, memory.states)
        before, scores = softmax_over((left * right).sum(dim=-1), inside(centre, memory))
        weights = before * gaussian(centre, memory.there.shape[1])
        return Look(weights, scores, left, right, before, centre)


def gaussian(centre: Tensor, letters: int) -> Tensor:
    """centre (words,) → (words, letters): exp(−(s − p_t)² / (2σ²)), σ = D / 2 (eq. 10)."""
    away = torch.arange(letters, device=centre.device) - centre[:, None]
    return (-(away**2) / (2 * (REACH / 2) ** 2)).exp()
