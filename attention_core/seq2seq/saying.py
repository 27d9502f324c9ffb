"""A word as a station says it: the sounds, what each was chosen with, and how the letters were looked at for it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..recording import capture
from .original import Original
from .recurrent import Recurrent
from .sounds import START, letter_numbers, named, spelled
from .speaker import Look, Speaker


@dataclass(frozen=True, eq=False)
class Alignment:
    """Which letters each sound looked at, in one head. Nothing is rounded or put right."""

    weights: np.ndarray  # (sounds, letters): what the letters were blended by
    scores: np.ndarray  # (sounds, letters) before the softmax; −inf where it could not look
    left: np.ndarray  # broadcasts to (sounds, letters, size)
    right: np.ndarray  # broadcasts to (sounds, letters, size): score = scaling · Σ left · right
    scaling: float = 1.0
    before: np.ndarray | None = None  # (sounds, letters): the softmax, before a Gaussian
    centres: np.ndarray | None = None  # (sounds,): the letter around which each sound looked
    layer: int | None = None  # in a model of several
    head: int | None = None

    def factors(self, sound: int, letter: int) -> tuple[np.ndarray, np.ndarray]:
        """The two vectors (size,) whose products' sum is the score of a cell, before the scaling."""
        shape = (*self.weights.shape, self.right.shape[-1])
        return np.broadcast_to(self.left, shape)[sound, letter], np.broadcast_to(self.right, shape)[sound, letter]


@dataclass(frozen=True)
class Steps:
    """How many steps have to wait for the one before them, for one word (Vaswani et al. 2017, table 1, sequential
    operations). A step of the Transformer passes through all its layers."""

    reading: int  # the letters
    learning: int  # the sounds, all of which are known then
    saying: int  # the sounds, each of which must be known for the next


@dataclass(frozen=True, eq=False)
class Saying:
    """One word, said by one station."""

    station: str
    word: str
    letters: list[str]  # the last one is “end”: the models read the end of a word, too
    sounds: list[str]  # ARPAbet; “end” is the last one, unless the model did not come to an end
    chances: np.ndarray  # (sounds,): the probability of each, given those before
    alignments: list[Alignment]  # none from a fixed vector; one for every layer and head of the Transformer
    steps: Steps

    @property
    def said(self) -> list[str]:
        """The sounds without the end."""
        return [sound for sound in self.sounds if sound != "end"]


def say(model: Speaker, word: str, station: str = "") -> Saying:
    """A station says a word, taking the likeliest sound at every step; raises HeadlightError for what is no word."""
    word = spelled(word)
    numbers = letter_numbers(word)
    letters = torch.tensor([numbers])
    said, chances, looks = model.say(letters)
    written = said[0]  # of one word: nothing stands behind its end
    count = len(written)
    if isinstance(model, Original):
        alignments = _cross_attention(model, letters, written)
    else:
        alignments = [_joined(looks)] if looks else []
    chance = chances[0].double().numpy()
    return Saying(
        station, word, named(numbers), named(written.tolist()), chance, alignments, steps(model, len(numbers), count)
    )


def steps(model: Speaker, letters: int, sounds: int) -> Steps:
    """letters, sounds: with the end that both have."""
    return Steps(letters, sounds, sounds) if isinstance(model, Recurrent) else Steps(1, 1, sounds)


def _joined(looks: list[Look]) -> Alignment:
    """The looks of all steps at the letters of one word."""

    def rows(parts: list[Tensor | None]) -> np.ndarray:
        return torch.cat([part for part in parts if part is not None]).detach().double().numpy()

    before, centres = [look.before for look in looks], [look.centre for look in looks]
    return Alignment(
        rows([look.weights for look in looks]),
        rows([look.scores for look in looks]),
        rows([look.left for look in looks]),
        rows([look.right for look in looks]),
        before=rows(before) if looks[0].before is not None else None,
        centres=rows(centres) if looks[0].centre is not None else None,
    )


def _cross_attention(model: Original, letters: Tensor, written: Tensor) -> list[Alignment]:
    """One more pass over the word and what was said, its cross-attention recorded as any model's is."""
    before = torch.cat([torch.tensor([START]), written[:-1]])[None]
    record = capture(model.model, input_ids=letters, decoder_input_ids=before)
    found = []
    for i, layer in enumerate(record.layers):
        if layer.kind != "cross" or layer.query is None or layer.key is None:
            continue
        for head in range(layer.heads):
            query, key = layer.query[head].double().numpy(), layer.key[layer.key_value_head(head)].double().numpy()
            found.append(
                Alignment(
                    record.attention(i, head).double().numpy(),
                    record.scores(i, head).double().numpy(),
                    query[:, None],
                    key[None],
                    layer.scaling,
                    layer=layer.layer,
                    head=head,
                )
            )
    return found
