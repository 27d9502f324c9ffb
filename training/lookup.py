"""A task in which one token decides, and it is known which: pairs of a key and a value, and then one of the keys again.

    c 7 a 3 f 9 b 12 a   →   3

Within a text all keys differ, and all values. So what stands behind the asked key decides: with another value there
the right answer is that one, with another value anywhere else it stays as it is. This is the planted token. (The asked
key and its earlier copy say which value is meant, and can never say what it is.) A gap, “_”, is a token left out. Where
the value itself is left out, the right answer is the gap; where it is not told which one is meant, a value that is
there may be guessed. Knows nothing about models.
"""

from dataclasses import dataclass

import numpy as np

GAP = "_"
KEYS = [chr(ord("a") + i) for i in range(26)]
VALUES = [str(i + 1) for i in range(15)]
VOCABULARY = [GAP, *KEYS, *VALUES]
FIRST_KEY, FIRST_VALUE = 1, 1 + len(KEYS)
PAIRS = (4, 8)  # in a text: from, to


@dataclass(frozen=True)
class Planted:
    """A text, and what is known about it."""

    text: str
    ids: list[int]
    answer: int  # the right next token
    planted: int  # the place of the token that decides


def sequences(count: int, seed: int) -> list[Planted]:
    """So many texts without gaps; the same seed gives the same ones."""
    random, drawn = np.random.default_rng(seed), []
    for pairs in random.integers(*PAIRS, count, endpoint=True):
        ids, asked = batch(random, 1, int(pairs), 1)
        *read, answer = ids[0].tolist()
        text = " ".join(VOCABULARY[i] for i in read)
        drawn.append(Planted(text, read, answer, 2 * int(asked[0, 0]) + 1))
    return drawn


def batch(
    random: np.random.Generator, count: int, pairs: int, asked: int, gaps: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Texts of one length, to learn from: the pairs, then some of them again, one after the other.

    → ids (count, 2 · (pairs + asked)), and which pairs come again (count, asked). gaps: every second text, on average,
    lacks some of its tokens: few, or many, or nearly all. A value that is left out is left out whenever it comes. What
    is asked can be told, or else guessed: a pair whose key or value is there, without an asked key one whose value is.
    """
    keys = FIRST_KEY + _different(random, len(KEYS), count, pairs)
    values = FIRST_VALUE + _different(random, len(VALUES), count, pairs)
    share = gaps * random.integers(0, 2, (count, 1)) * random.random((count, 1))  # of the tokens, per text
    no_key, no_value = (random.random((count, pairs)) < share for _ in range(2))
    not_asked = random.random((count, asked)) < share
    fit = ~no_value[:, None] | (~no_key[:, None] & ~not_asked[..., None])  # (count, asked, pairs)
    again = (random.random(fit.shape) + fit).argmax(axis=2)  # one of those that fit, where any does
    behind = np.where(no_value, 0, values)
    told = np.stack([np.where(no_key, 0, keys), behind], axis=2)  # (count, pairs, 2)
    asked_key = np.where(not_asked, 0, np.take_along_axis(keys, again, axis=1))
    repeated = np.stack([asked_key, np.take_along_axis(behind, again, axis=1)], axis=2)  # (count, asked, 2)
    return np.concatenate([told, repeated], axis=1).reshape(count, -1), again


def _different(random: np.random.Generator, kinds: int, count: int, taken: int) -> np.ndarray:
    """(count, taken) numbers below kinds, in each row all different."""
    return random.permuted(np.tile(np.arange(kinds), (count, 1)), axis=1)[:, :taken]
