"""What every station is: a model that says a word, and tells how it looked at the letters."""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Look:
    """How one step of the decoder looked at the letters. A letter's score is Σ left · right over the last axis."""

    weights: Tensor  # (words, letters): what the states are blended by
    scores: Tensor  # (words, letters): −inf where it could not look
    left: Tensor  # broadcasts to (words, letters, size)
    right: Tensor  # (words, letters, size)
    before: Tensor | None = None  # (words, letters): the softmax alone, where a Gaussian follows
    centre: Tensor | None = None  # (words,): the letter around which it looks, where it looks around one


class Speaker(nn.Module):
    """Called with letters (words, letters) and the right sounds (words, sounds), the end behind them, it gives logits
    (words, sounds, vocabulary) for each sound, given the right ones before it."""

    def say(self, letters: Tensor) -> tuple[Tensor, Tensor, list[Look]]:
        """letters (words, letters): numbers, PAD behind the end → the likeliest sound at every step (words, sounds),
        PAD behind a word's end; the chance that each had (words, sounds); how each step looked, where that is told."""
        raise NotImplementedError
