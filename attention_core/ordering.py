"""What the order of words does to a Transformer: how encodings compare two places, and what becomes of every word's
vector when the words change places. Knows nothing about figures and pages.
"""

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from .encodings import alibi_biases, alibi_slopes, rope_angles, rotate, sinusoidal
from .errors import HeadlightError
from .language import LanguageModel
from .record import Capture
from .variants import load_variant

FEWEST_PAIRS = 32  # of places, for a mean over all of one distance
MIDDLE = (0.05, 0.95)  # between these 90 % of the pairs lie
SAME = 1e-9  # two numbers of about 1, computed in float64 in another order of sums, differ by less
MOST_WORDS = 24
LONGEST_WORD = 40  # letters


# ── the dot product by distance ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class ByDistance:
    """The dot product of the vectors of two places, by their distance: over all pairs of places so far apart."""

    distances: Tensor  # (n,) int64, from 0
    mean: Tensor  # (n,) float64
    low: Tensor  # (n,) float64: 5 % of the pairs are below
    high: Tensor  # (n,) float64: 5 % are above
    spread: float  # the largest difference between two pairs at the same distance

    @property
    def by_distance_alone(self) -> bool:
        """Whether pairs at the same distance agree, as far as float32 can tell."""
        return self.spread <= 1e-4 * max(1.0, float(self.mean.abs().max()))


def products_by_distance(table: Tensor, pairs: int = FEWEST_PAIRS) -> ByDistance:
    """table (positions, size): the vector of each position → table[p] · table[p + k] for every distance k that at least
    so many pairs have."""
    table = table.double()
    last = len(table) - pairs
    if last < 0:
        raise ValueError(f"{len(table)} positions have no {pairs} pairs at any distance")
    quantiles = torch.tensor(MIDDLE, dtype=torch.float64)
    means, bands, spread = [], [], 0.0
    for k in range(last + 1):
        products = (table[: len(table) - k] * table[k:]).sum(dim=1)  # (positions − k,)
        means.append(products.mean())
        bands.append(products.quantile(quantiles))
        spread = max(spread, float(products.max() - products.min()))
    low, high = torch.stack(bands).T
    return ByDistance(torch.arange(last + 1), torch.stack(means), low, high, spread)


def encoded_places(encoding: str, positions: int, size: int, theta: float, learned: Tensor | None = None) -> Tensor:
    """(positions, size) float32: the vectors of which two are compared, by a dot product.

    sinusoidal: the vectors that are added, size numbers each. learned: the rows of the trained table, which is given.
    rope: a query and a key of ones, size their head_dim, each turned at its place. none: the same, not turned.
    Raises ValueError for another encoding (ALiBi compares nothing: alibi_penalties).
    """
    ones = torch.ones(positions, size)
    match encoding:
        case "sinusoidal":
            return sinusoidal(positions, size)
        case "learned" if learned is not None:
            return learned[:positions]
        case "rope":
            angles = rope_angles(positions, size, theta)  # (positions, size / 2)
            both = torch.cat((angles, angles), dim=-1)
            return rotate(ones, both.cos(), both.sin())
        case "none":
            return ones
    raise ValueError(f"nothing is compared by a dot product with “{encoding}”")


def alibi_penalties(heads: int, distances: int) -> Tensor:
    """(heads, distances) float32: what ALiBi adds to a score at the distances 0, 1, …; Press et al. 2022, section 3."""
    return alibi_biases(alibi_slopes(heads), torch.tensor([distances - 1]), torch.arange(distances))[:, 0].flip(-1)


# ── words in another order ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Words:
    """A sentence as words, each with its own tokens, which stay together wherever the word goes."""

    words: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]  # of each word, read with the space in front of it
    tokens: tuple[tuple[str, ...], ...]  # their display strings

    def __len__(self) -> int:
        return len(self.words)

    def in_order(self, order: Sequence[int]) -> tuple[list[int], list[int]]:
        """Words by their number in the sentence → the token ids in this order, and the word of each token."""
        if sorted(order) != list(range(len(self))):
            raise HeadlightError(f"An order of {len(self)} words names each of them once: shuffle the words again.")
        return [i for word in order for i in self.ids[word]], [word for word in order for _ in self.ids[word]]


def read_words(lm: LanguageModel, sentence: str) -> Words:
    """The words between spaces. Raises HeadlightError where there are fewer than two, or too many to move."""
    words = tuple(re.split(r"\s+", sentence.strip()))
    if len(words) < 2 or len(words) > MOST_WORDS or max(map(len, words)) > LONGEST_WORD:
        raise HeadlightError(
            f"A sentence of 2 to {MOST_WORDS} words, none longer than {LONGEST_WORD} letters, is needed: type another."
        )
    ids = tuple(tuple(lm.encode_behind(f" {word}")[0].tolist()) for word in words)
    return Words(words, ids, tuple(tuple(lm.labels(torch.tensor(part)) or map(str, part)) for part in ids))


@dataclass(frozen=True, eq=False)
class Reading:
    """What a model makes of the words in one order."""

    order: tuple[int, ...]
    words: Words
    word_of: list[int]  # of each token, the number of its word in the sentence
    capture: Capture

    @property
    def in_words(self) -> str:
        return " ".join(self.words.words[word] for word in self.order)

    def places(self) -> list[int]:
        """Where the tokens of the sentence, in its own order, stand here."""
        return sorted(range(len(self.word_of)), key=lambda place: (self.word_of[place], place))


def read_in(lm: LanguageModel, words: Words, order: Sequence[int]) -> Reading:
    ids, word_of = words.in_order(order)
    return Reading(tuple(order), words, word_of, lm.capture(ids))


def weights_apart(before: Reading, after: Reading, layer: int, head: int) -> float:
    """The largest difference of a weight between the same two tokens in both orders, where every token sees every
    token."""
    places = [reading.places() for reading in (before, after)]
    first, second = (
        reading.capture.attention(layer, head)[at][:, at] for reading, at in zip((before, after), places, strict=True)
    )
    return float((first - second).abs().max())


# ── can it tell the order? ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Told:
    """Each word's last vector in one order and in the other."""

    encoding: str
    causal: bool  # each word sees only those before it
    differences: Tensor  # (words,) float64: the largest difference of any number of the word's vectors

    @property
    def largest(self) -> float:
        return float(self.differences.max())

    @property
    def same(self) -> bool:
        """Whether the two orders are the same to it, but for the rounding of sums."""
        return self.largest < SAME


@cache
def variant(encoding: str, causal: bool) -> LanguageModel:
    """load_variant(), each once."""
    return load_variant(encoding, causal)


@cache
def _exact(encoding: str, causal: bool) -> torch.nn.Module:
    """The variant's stack of layers in float64, in which equal numbers are seen to be equal."""
    return _in_float64(variant(encoding, causal))


def _in_float64(lm: LanguageModel) -> torch.nn.Module:
    return deepcopy(lm.model.base_model).double()


@lru_cache(maxsize=256)
def _vectors(encoding: str, causal: bool, ids: tuple[int, ...]) -> Tensor:
    return last_vectors(_exact(encoding, causal), ids)


def last_vectors(stack: torch.nn.Module, ids: Sequence[int]) -> Tensor:
    """(tokens, hidden_size) in the precision of the weights: what the last layer hands on."""
    with torch.no_grad():
        return stack(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]


def compare_orders(words: Words, order: Sequence[int], encoding: str, causal: bool) -> Told:
    """The words as they stand in the sentence, and in this order, read by the variant of an encoding in float64."""
    start = words.in_order(range(len(words)))
    there = words.in_order(order)
    vectors = [_vectors(encoding, causal, tuple(ids)) for ids, _ in (start, there)]
    return Told(encoding, causal, word_differences(words, vectors[0], start[1], vectors[1], there[1]))


def word_differences(words: Words, first: Tensor, first_of: list[int], second: Tensor, second_of: list[int]) -> Tensor:
    """Vectors (tokens, size) in two orders and the word of each token → (words,) the largest difference of a word."""
    found = []
    for word in range(len(words)):
        one = first[[n for n, of in enumerate(first_of) if of == word]]  # (tokens of the word, size)
        other = second[[n for n, of in enumerate(second_of) if of == word]]
        found.append((one - other).abs().max())
    return torch.stack(found)


def learned_table() -> Tensor:
    """(positions, hidden_size) float32: the table that the variant with learned positions adds."""
    stack: Any = variant("learned", True).model.base_model
    return stack.embed_positions.weight.detach()
