"""Global attention: all letters, with three ways to score them.

Luong, Pham and Manning (2015), "Effective Approaches to Attention-based Neural Machine Translation".
"""

import torch
from torch import Tensor, nn

from .recurrent import SIZES, Memory, Recurrent, Sizes, State, softmax_over
from .speaker import Look


class Dot(nn.Module):
    """score(h_t, h̄_s) = h_tᵀ h̄_s (eq. 8, first line)."""

    def __init__(self, size: int):
        super().__init__()

    def forward(self, hidden: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """hidden (words, hidden), states (words, letters, hidden) → two factors, whose products' sum is the score:
        one that broadcasts to (words, letters, hidden), one of that shape."""
        return hidden[:, None], states


class General(nn.Module):
    """score(h_t, h̄_s) = h_tᵀ W_a h̄_s (eq. 8, second line)."""

    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Linear(size, size, bias=False)  # W_a

    def forward(self, hidden: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """As Dot."""
        return hidden[:, None], self.weight(states)


class Concat(nn.Module):
    """score(h_t, h̄_s) = v_aᵀ tanh(W_a [h_t; h̄_s]) (eq. 8, third line)."""

    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Linear(2 * size, size, bias=False)  # W_a
        self.vector = nn.Parameter(torch.randn(size) * size**-0.5)  # v_a

    def forward(self, hidden: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """As Dot."""
        of_state, of_letter = self.weight.weight.split(
            len(self.vector), dim=1
        )  # W_a [a; b] is the sum of both parts' products
        joined = (hidden @ of_state.T)[:, None] + states @ of_letter.T
        return self.vector[None, None], joined.tanh()


SCORES: dict[str, type[nn.Module]] = {"dot": Dot, "general": General, "concat": Concat}


class Global(Recurrent):
    """h_t from h_{t−1} and the sound before, with h̃_{t−1} fed in (section 3.3); a_t(s) = softmax of the scores (eq. 7);
    c_t = Σ_s a_t(s) h̄_s; h̃_t = tanh(W_c [c_t; h_t]) (eq. 5), from which the sound is read (eq. 6).

    Two deviations: the cell is a GRU, as in the other stations, and the encoder reads in both directions.
    """

    def __init__(self, score: str = "general", sizes: Sizes = SIZES):
        super().__init__(sizes)
        embedding, hidden = sizes.embedding, sizes.hidden
        self.first = nn.Linear(hidden, hidden)
        self.factors = SCORES[score](hidden)
        self.cell = nn.GRUCell(embedding + hidden, hidden)
        self.blend = nn.Linear(2 * hidden, hidden, bias=False)  # W_c

    def begin(self, memory: Memory) -> State:
        """→ (h_0, h̃_0), each (words, hidden): the word as the encoder left it, and zeros."""
        hidden = self.first(memory.final).tanh()
        return hidden, torch.zeros_like(hidden)

    def look(self, hidden: Tensor, memory: Memory, place: int) -> Look:
        """hidden (words, hidden): h_t."""
        left, right = self.factors(hidden, memory.states)
        weights, scores = softmax_over((left * right).sum(dim=-1), memory.there)
        return Look(weights, scores, left, right)

    def step(self, state: State, said: Tensor, memory: Memory, place: int) -> tuple[State, Tensor, Look | None]:
        hidden, fed = state
        hidden = self.cell(torch.cat([said, fed], dim=-1), hidden)
        look = self.look(hidden, memory, place)
        context = (look.weights[:, None] @ memory.states)[:, 0]  # (words, hidden)
        vector = self.blend(torch.cat([context, hidden], dim=-1)).tanh()  # h̃_t
        return (hidden, vector), vector, look
