"""Which alignment of a station is shown, and which of its cells: a sound and a letter. Both count from 0."""

from dataclasses import dataclass

import numpy as np

from ..seq2seq.saying import Alignment, Saying


@dataclass(frozen=True)
class Cell:
    """One weight of one station: how much a sound looked at a letter."""

    sound: int
    letter: int


def head_name(alignment: Alignment) -> str:
    """ "2.0": layer and head of a model that has several; else ""."""
    return "" if alignment.layer is None else f"{alignment.layer}.{alignment.head}"


def shown(saying: Saying, cross: str = "") -> Alignment | None:
    """The alignment of a station; of one with several heads the one named, else the most telling. None: it has none."""
    named = {head_name(one): one for one in saying.alignments}
    if cross in named:
        return named[cross]
    return max(saying.alignments, key=lambda one: telling(one.weights), default=None)


def telling(weights: np.ndarray) -> float:
    """(sounds, letters) → how many bits the letter that is looked at tells of the sound: H(mean row) − mean H(row).

    0 where all sounds look alike, log2(sounds) where each has letters of its own.
    """
    shares = weights / weights.sum(axis=1, keepdims=True)
    return float(_bits(shares.mean(axis=0)) - _bits(shares).mean())


def _bits(shares: np.ndarray) -> np.ndarray:
    """(…, letters) → the entropy of each row."""
    return -(shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(axis=-1)


def strongest(alignment: Alignment, saying: Saying) -> Cell:
    """The largest weight from a sound to a letter; the ends count only where there is nothing else."""
    sounds, letters = max(len(saying.said), 1), len(saying.letters) - 1
    part = alignment.weights[:sounds, :letters]
    sound, letter = np.unravel_index(int(part.argmax()), part.shape)
    return Cell(int(sound), int(letter))


def can_look(alignment: Alignment) -> np.ndarray:
    """(sounds, letters) bool: False outside of a window."""
    return np.isfinite(alignment.scores)
