"""Additive attention: the decoder looks back at every letter, anew for each sound.

Bahdanau, Cho and Bengio (2014), "Neural Machine Translation by Jointly Learning to Align and Translate".
"""

import torch
from torch import Tensor, nn

from .recurrent import SIZES, Memory, Recurrent, Sizes, State, softmax_over
from .speaker import Look


class Additive(Recurrent):
    """e_ij = vᵀ tanh(W s_{i−1} + U h_j) (section A.1.2); α_ij = softmax_j(e_ij) (eq. 6); c_i = Σ_j α_ij h_j (eq. 5);
    s_i = f(s_{i−1}, y_{i−1}, c_i) (section 3.1); s_0 = tanh(W_s h←_1) (section A.2.2).

    One deviation: the sound is read from one tanh layer, not from a maxout.
    """

    def __init__(self, sizes: Sizes = SIZES):
        super().__init__(sizes)
        embedding, hidden = sizes.embedding, sizes.hidden
        self.first = nn.Linear(hidden // 2, hidden)  # W_s
        self.from_state = nn.Linear(hidden, hidden, bias=False)  # W
        self.from_letter = nn.Linear(hidden, hidden, bias=False)  # U
        self.score = nn.Linear(hidden, 1, bias=False)  # v
        self.cell = nn.GRUCell(embedding + hidden, hidden)
        self.blend = nn.Linear(2 * hidden + embedding, hidden)

    def begin(self, memory: Memory) -> State:
        """→ (s_0,) (words, hidden), from the state of the backward direction at the first letter."""
        return (self.first(memory.final[:, self.sizes.hidden // 2 :]).tanh(),)

    def look(self, hidden: Tensor, memory: Memory) -> Look:
        """hidden (words, hidden): the state before the step."""
        right = (self.from_state(hidden)[:, None] + self.from_letter(memory.states)).tanh()  # (words, letters, hidden)
        weights, scores = softmax_over(self.score(right)[..., 0], memory.there)
        return Look(weights, scores, self.score.weight[None], right)

    def step(self, state: State, said: Tensor, memory: Memory, place: int) -> tuple[State, Tensor, Look | None]:
        look = self.look(state[0], memory)
        context = (look.weights[:, None] @ memory.states)[:, 0]  # (words, hidden)
        hidden = self.cell(torch.cat([said, context], dim=-1), state[0])
        vector = self.blend(torch.cat([hidden, context, said], dim=-1)).tanh()
        return (hidden,), vector, look
