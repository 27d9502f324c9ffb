"""Rows of a key-value cache, each held once: Rows grows, Kept is a range of it, follow() keeps up with a live cache.

Knows nothing about models or tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


class Rows:
    """The keys and values of one layer, row by row, in one growing tensor each. A row that is there never changes."""

    def __init__(self, key: Tensor, value: Tensor, first: int, capacity: int):
        """key (key-value heads, rows, head_dim) and value, copied; first: the token that the first row stands for."""
        self.first, self.count = first, 0
        self._key, self._value = (_empty(t, max(capacity, t.shape[1])) for t in (key, value))
        self.append(key, value)

    @property
    def stop(self) -> int:
        """The token behind the last row."""
        return self.first + self.count

    @property
    def nbytes(self) -> int:
        return self._key.nbytes + self._value.nbytes

    def append(self, key: Tensor, value: Tensor) -> None:
        needed = self.count + key.shape[1]
        if needed > self._key.shape[1]:
            self._resize(needed + needed // 2)
        self._key.narrow(1, self.count, key.shape[1]).copy_(key)
        self._value.narrow(1, self.count, key.shape[1]).copy_(value)
        self.count = needed

    def adopt(self, key: Tensor, value: Tensor) -> None:
        """Hold these from now on, which begin with the rows that are held already. Nobody may change them."""
        self._key, self._value, self.count = key, value, key.shape[1]

    def trim(self) -> None:
        """Give back the room for rows that never came."""
        if self._key.shape[1] > self.count:
            self._resize(self.count)

    def _resize(self, capacity: int) -> None:
        whole = []
        for old in (self._key, self._value):
            new = _empty(old, capacity)
            new[:, : self.count] = old[:, : self.count]
            whole.append(new)
        self._key, self._value = whole  # whoever reads meanwhile has the old ones, which hold the same rows

    def view(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """(key, value) of the tokens start … stop − 1, each (key-value heads, rows, head_dim)."""
        first, count = start - self.first, stop - start
        return self._key.narrow(1, first, count), self._value.narrow(1, first, count)


def _empty(like: Tensor, rows: int) -> Tensor:
    return like.new_empty((like.shape[0], rows, like.shape[2]))


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether rows are equal, eight bytes at a time where that is possible: it is asked at every step."""
    wide = one.shape[-1] * one.element_size() % 8 == 0 and one.dtype == other.dtype
    if wide and one.stride(-1) == other.stride(-1) == 1:
        try:
            return torch.equal(one.view(torch.int64), other.view(torch.int64))
        except RuntimeError:  # rows that do not lie at multiples of eight bytes
            pass
    return torch.equal(one, other)


def follow(
    rows: Rows | None, key: Tensor, value: Tensor, first: int, capacity: int, lasting: bool
) -> tuple[Rows, bool]:
    """What holds the rows (key-value heads, rows, head_dim) of the tokens from `first` on, and whether those that it
    had were found unchanged, bit for bit. Only rows that are new are copied, unless the cache changed old ones.
    lasting: the cache makes new tensors at each step and never writes into these, so they need no copy."""
    if rows is None:
        return Rows(key, value, first, capacity), True
    known = rows.stop - first
    if not rows.first <= first <= rows.stop or known > key.shape[1]:
        return Rows(key, value, first, capacity), False
    old_key, old_value = rows.view(first, rows.stop)
    if not (same_bits(old_key, key.narrow(1, 0, known)) and same_bits(old_value, value.narrow(1, 0, known))):
        return Rows(key, value, first, capacity), False
    new = key.shape[1] - known
    if lasting and first == rows.first:
        rows.adopt(key, value)
    elif new:
        rows.append(key.narrow(1, known, new), value.narrow(1, known, new))
    return rows, True


@dataclass(frozen=True, eq=False)
class Kept:
    """A range of rows: those of the tokens start … stop − 1."""

    rows: Rows
    start: int
    stop: int

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """(key, value), each (key-value heads, rows, head_dim)."""
        return self.rows.view(self.start, self.stop)

    @property
    def positions(self) -> range:
        return range(self.start, self.stop)
