"""The fixed-length bottleneck: a word must pass through one vector, whatever its length.

Cho et al. (2014), "Learning Phrase Representations using RNN Encoder–Decoder"; Sutskever, Vinyals and Le (2014),
"Sequence to Sequence Learning with Neural Networks".
"""

import torch
from torch import Tensor, nn

from .recurrent import SIZES, Memory, Recurrent, Sizes, State
from .speaker import Look


class Bottleneck(Recurrent):
    """c = tanh(V h_T); s_0 = tanh(V′ c); s_t = f(s_{t−1}, y_{t−1}, c) (Cho et al., eq. 1 to 3 and appendix A).

    Two deviations: the encoder reads in both directions, as the other stations' does, so that nothing but the way to
    the decoder differs; and the sound is read from one tanh layer, not from a maxout.
    """

    def __init__(self, sizes: Sizes = SIZES):
        super().__init__(sizes)
        embedding, hidden = sizes.embedding, sizes.hidden
        self.summary = nn.Linear(hidden, hidden)  # V
        self.first = nn.Linear(hidden, hidden)  # V′
        self.cell = nn.GRUCell(embedding + hidden, hidden)
        self.blend = nn.Linear(2 * hidden + embedding, hidden)

    def begin(self, memory: Memory) -> State:
        """→ (s_0, c), each (words, hidden)."""
        context = self.summary(memory.final).tanh()
        return self.first(context).tanh(), context

    def step(self, state: State, said: Tensor, memory: Memory, place: int) -> tuple[State, Tensor, Look | None]:
        hidden, context = state
        hidden = self.cell(torch.cat([said, context], dim=-1), hidden)
        vector = self.blend(torch.cat([hidden, context, said], dim=-1)).tanh()  # (words, hidden)
        return (hidden, context), vector, None
