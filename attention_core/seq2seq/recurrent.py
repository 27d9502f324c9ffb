"""What the recurrent stations share: an encoder that reads the letters, a decoder that says one sound after the other.

Only how a step of the decoder sees the letters differs, and that is what each station's own file holds.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .sounds import END, MOST_SOUNDS, PAD, START, VOCABULARY
from .speaker import Look, Speaker

DROPOUT = 0.1


@dataclass(frozen=True)
class Sizes:
    """How long the vectors are."""

    embedding: int = 48
    hidden: int = 128  # of the decoder, and of both directions of the encoder together


SIZES = Sizes()


@dataclass(frozen=True)
class Memory:
    """What the encoder made of the letters."""

    states: Tensor  # (words, letters, hidden): both directions' state at every letter
    there: Tensor  # (words, letters) bool: False behind a word's end
    final: Tensor  # (words, hidden): the last state of each direction, which has seen the whole word


def softmax_over(scores: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """scores, allowed (words, letters) → the weights, which sum to 1 over what is allowed, and the masked scores."""
    scores = scores.masked_fill(~allowed, -torch.inf)
    return scores.softmax(dim=-1), scores


class Encoder(nn.Module):
    """A recurrent network over the letters, in both directions: each state knows the word up to its letter from one
    side. Its cell is the gated unit of Cho et al. (2014), eq. 5 to 8, but that PyTorch has the reset gate behind the
    matrix U: h̃ = tanh(W x + r ⊙ U h)."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.embed = nn.Embedding(len(VOCABULARY), sizes.embedding, padding_idx=PAD)
        self.dropout = nn.Dropout(DROPOUT)
        self.rnn = nn.GRU(sizes.embedding, sizes.hidden // 2, batch_first=True, bidirectional=True)

    def forward(self, letters: Tensor) -> Memory:
        """letters (words, letters): numbers, PAD behind the end → Memory."""
        there = letters != PAD
        packed = pack_padded_sequence(
            self.dropout(self.embed(letters)), there.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False
        )
        states, final = self.rnn(packed)  # final (2, words, hidden / 2)
        states, _ = pad_packed_sequence(states, batch_first=True)  # (words, letters, hidden)
        return Memory(states, there, torch.cat(tuple(final), dim=-1))


State = tuple[Tensor, ...]  # what a decoder carries from step to step, each (words, hidden)


class Recurrent(Speaker):
    """Encoder and decoder. A station says how the decoder begins and what one step of it does."""

    def __init__(self, sizes: Sizes = SIZES):
        super().__init__()
        self.sizes = sizes
        self.encoder = Encoder(sizes)
        self.embed = nn.Embedding(len(VOCABULARY), sizes.embedding, padding_idx=PAD)
        self.dropout = nn.Dropout(DROPOUT)
        self.out = nn.Linear(sizes.hidden, len(VOCABULARY), bias=False)

    def begin(self, memory: Memory) -> State:
        """What the decoder knows before its first sound."""
        raise NotImplementedError

    def step(self, state: State, said: Tensor, memory: Memory, place: int) -> tuple[State, Tensor, Look | None]:
        """One sound more. said (words, embedding): the sound before; place: how many came before it.

        → the next state, the vector that the sound is read from (words, hidden), and how the letters were looked at.
        """
        raise NotImplementedError

    def forward(self, letters: Tensor, sounds: Tensor) -> Tensor:
        memory = self.encoder(letters)
        before = torch.cat([torch.full_like(sounds[:, :1], START), sounds[:, :-1]], dim=1)
        embedded = self.dropout(self.embed(before))  # (words, sounds, embedding)
        state, made = self.begin(memory), []
        for place in range(sounds.shape[1]):
            state, vector, _ = self.step(state, embedded[:, place], memory, place)
            made.append(vector)
        return self.out(self.dropout(torch.stack(made, dim=1)))

    @torch.no_grad()
    def say(self, letters: Tensor) -> tuple[Tensor, Tensor, list[Look]]:
        memory = self.encoder(letters)
        state, said = self.begin(memory), torch.full_like(letters[:, 0], START)
        ended = torch.zeros_like(said, dtype=torch.bool)
        numbers: list[Tensor] = []
        chances: list[Tensor] = []
        looks: list[Look] = []
        for place in range(MOST_SOUNDS):
            state, vector, look = self.step(state, self.embed(said), memory, place)
            chance, said = self.out(vector).softmax(dim=-1).max(dim=-1)
            numbers.append(said.masked_fill(ended, PAD))
            chances.append(chance)
            looks += [look] if look else []
            ended = ended | (said == END)
            if ended.all():
                break
        return torch.stack(numbers, dim=1), torch.stack(chances, dim=1), looks
