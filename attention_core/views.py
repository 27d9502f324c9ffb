"""How a Capture is looked at: heads combined, sinks left out, pieces grouped to words, a pair of texts filtered.

Every step works on whole rows, so that any block of rows comes out right on its own and a long text is never held as
(tokens × tokens). What was done is said in words. Knows nothing about drawing.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .attention import max_pool_bins
from .errors import HeadlightError
from .record import Capture
from .tokens import word_label

COMBINE = {"mean": "mean", "sum": "sum", "max": "largest"}
FIRST, PUNCTUATION = "first", "punctuation"  # what can be left out, beside special tokens by their own names
BETWEEN = {"AB": (0, 1), "BA": (1, 0), "AA": (0, 0), "BB": (1, 1)}  # from a text of a pair to one
MOST_WORK = 3e9  # weights computed for one picture: more take too long


@dataclass(frozen=True)
class View:
    """What to look at, and how."""

    heads: tuple[tuple[int, int], ...]  # (entry of capture.layers, head): the first is the chosen one
    how: str = "mean"  # of COMBINE, where there are several
    left_out: frozenset[str] = frozenset()
    words: bool = False
    between: str = ""  # of BETWEEN; "": everything


class Seen:
    """A Capture through a View: rows of weights with their labels.

    A row is a query token or a word; a column a key token or a word. Gaps (where a query cannot look, and what was left
    out) are NaN. Raises HeadlightError where the view does not fit the Capture.
    """

    def __init__(self, capture: Capture, view: View):
        self.capture, self.view = capture, view
        entries = [entry for entry, _ in view.heads]
        self.layer = capture.layers[entries[0]]
        shapes = {capture.layers[entry].shape[1:] for entry in entries}
        if len(shapes) > 1 or len({capture.layers[entry].kind for entry in entries}) > 1:
            raise HeadlightError("These heads do not look at the same tokens: combine heads of one kind.")
        _, queries, keys = self.layer.shape
        if len(view.heads) * queries * keys > MOST_WORK:
            many = f"{len(view.heads)} heads of {keys:,} tokens"
            raise HeadlightError(f"{many} are too much for one picture: combine fewer, or shorten the text.")
        self.query_groups = self._groups(queries, of_queries=True)
        self.key_groups = self._groups(keys, of_queries=False)
        if not self.query_groups or not self.key_groups:
            raise HeadlightError("Nothing is left to show: the text has no such tokens.")
        self.query_tokens = self._labels(capture.query_tokens(entries[0]), self.query_groups)
        self.key_tokens = self._labels(capture.key_tokens(entries[0]), self.key_groups)

    # ── what the rows and columns are ──

    def _groups(self, count: int, of_queries: bool) -> list[list[int]]:
        """Token indices of each row or column."""
        words, segments = self._about(count, of_queries)
        kept = list(range(count))
        if self.view.between:
            if segments is None:
                raise HeadlightError("There is one text only: type a second one to look from one to the other.")
            wanted = BETWEEN[self.view.between][0 if of_queries else 1]
            kept = [i for i in kept if segments[i] == wanted]
        if not self.view.words:
            return [[i] for i in kept]
        if words is None:
            raise HeadlightError(
                f"The tokenizer of {self.capture.name} does not say which tokens make up a word: look at single tokens."
            )
        groups: list[list[int]] = []
        for i in kept:
            if groups and words[i] is not None and words[i] == words[groups[-1][-1]]:
                groups[-1].append(i)
            else:
                groups.append([i])
        return groups

    def _labels(self, tokens: list[str], groups: list[list[int]]) -> list[str]:
        return [word_label([tokens[i] for i in group]) if self.view.words else tokens[group[0]] for group in groups]

    def _about(self, count: int, of_queries: bool) -> tuple[Sequence[int | None] | None, Sequence[int | None] | None]:
        """The words and the segments of the tokens on this side."""
        capture, kind = self.capture, self.layer.kind
        if capture.target_tokens is not None and (kind == "decoder" or kind == "cross" and of_queries):
            return capture.target_words if capture.target_words and len(capture.target_words) == count else None, None
        fits = [part if part is not None and len(part) == count else None for part in (capture.words, capture.segments)]
        return fits[0], fits[1]

    @cached_property
    def can_leave_out(self) -> list[str]:
        """What can be left out here: the first token, each special token by its name, punctuation."""
        tokens = self.capture.key_tokens(self.view.heads[0][0])
        special = [tokens[i] for i in self._special if i < len(tokens)]
        found = [FIRST, *dict.fromkeys(special)]
        return [*found, PUNCTUATION] if any(map(is_punctuation, tokens)) else found

    @cached_property
    def _special(self) -> list[int]:
        special = self.capture.special
        reads_source = self.layer.kind != "decoder" or self.capture.target_tokens is None
        return [i for i, yes in enumerate(special) if yes] if special and reads_source else []

    @cached_property
    def _open(self) -> np.ndarray:
        """(keys,) bool: the columns that are not left out."""
        left_out, special = self.view.left_out, set(self._special)
        tokens = self.capture.key_tokens(self.view.heads[0][0])
        closed = [
            (i == 0 and FIRST in left_out)
            or (i in special and token in left_out)
            or (PUNCTUATION in left_out and is_punctuation(token))
            for i, token in enumerate(tokens)
        ]
        return ~np.array(closed, dtype=bool)

    # ── the weights ──

    def __len__(self) -> int:
        return len(self.query_groups)

    def place_of(self, token: int) -> int:
        """The row that shows a query token, or the nearest one."""
        firsts = [group[0] for group in self.query_groups]
        return max(0, int(np.searchsorted(firsts, token, side="right")) - 1)

    def token_of(self, row: int) -> int:
        """The first query token of a row."""
        return self.query_groups[row][0]

    def rows(self, rows: slice) -> np.ndarray:
        """(rows, columns) float32 with NaN for gaps."""
        groups = self.query_groups[rows]
        if not groups:
            return np.empty((0, len(self.key_groups)), dtype=np.float32)
        first, last = sorted((groups[0], groups[-1]))  # a slice may run backwards
        start = first[0]
        weights = self._tokens(slice(start, last[-1] + 1))  # (query tokens, key tokens)
        if self.view.words or self.view.between:
            return _grouped(weights, groups, start, self.key_groups)
        return weights[:: rows.step or 1]

    def row(self, row: int) -> np.ndarray:
        """(columns,) float32 with NaN for gaps."""
        return self.rows(slice(row, row + 1))[0]

    def mean_of(self, rows: Sequence[int]) -> np.ndarray:
        """(columns,) float32: the mean of several rows; a gap only where none of them can look."""
        several = np.stack([self.row(row) for row in rows])
        return _mean_over(several)

    def all(self) -> np.ndarray:
        """(rows, columns) float32 with NaN for gaps."""
        return self.rows(slice(0, len(self)))

    def pooled(self, size: int) -> np.ndarray:
        """(≤ size, ≤ size) float32: the largest weight of each bin of rows and columns; NaN where it is all gaps."""
        down, across = min(size, len(self)), min(size, len(self.key_groups))
        columns = max_pool_bins(len(self.key_groups), across)
        strips = []
        for bin_of_rows in max_pool_bins(len(self), down):
            block = np.where(np.isnan(part := self.rows(bin_of_rows)), -1.0, part).max(axis=0)
            strips.append([block[column].max() for column in columns])
        pooled = np.array(strips, dtype=np.float32)
        return np.where(pooled < 0, np.nan, pooled).astype(np.float32)

    def shown(self, size: int) -> tuple[np.ndarray, list[str], list[str]]:
        """all() with the labels of its rows and columns; beyond `size` tokens pooled(), by each bin's first."""
        if max(len(self), len(self.key_groups)) <= size:
            return self.all(), self.query_tokens, self.key_tokens
        pooled = self.pooled(size)
        queries, keys = (
            [labels[part.start] for part in max_pool_bins(len(labels), count)]
            for labels, count in zip((self.query_tokens, self.key_tokens), pooled.shape, strict=True)
        )
        return pooled, queries, keys

    def _tokens(self, rows: slice) -> np.ndarray:
        """(query tokens, key tokens) float32 with NaN for gaps, before any grouping."""
        combined, seen = None, None
        for entry, head in self.view.heads:
            weights = self.capture.attention(entry, head, rows).numpy()
            visible = self.capture.visible(entry, head, rows).numpy()
            seen = visible if seen is None else seen | visible
            if combined is None:
                combined = weights.copy()
            elif self.view.how == "max":
                np.maximum(combined, weights, out=combined)
            else:
                combined += weights
        assert combined is not None and seen is not None
        if self.view.how == "mean":
            combined /= len(self.view.heads)
        if self.view.left_out:
            before = combined.sum(axis=1, keepdims=True, dtype=np.float64)  # what remains may be too little for float32
            combined *= self._open
            after = combined.sum(axis=1, keepdims=True, dtype=np.float64)
            combined = combined * np.divide(before, after, out=np.zeros_like(before), where=after > 0)
            seen = seen & self._open & (after > 0)
        return np.where(seen, combined, np.nan).astype(np.float32)

    # ── in words ──

    @property
    def notes(self) -> list[str]:
        """What was done to the model's own weights, a sentence each; nothing if nothing was."""
        view, said = self.view, []
        if len(view.heads) > 1:
            more = " (its rows add up to that many)" if view.how == "sum" else ""
            said.append(f"The {COMBINE[view.how]} of {len(view.heads)} heads{more}.")
        names = {FIRST: "The first token", PUNCTUATION: "punctuation"}
        parts = [names.get(part, part) for part in self.can_leave_out if part in view.left_out]
        if parts:
            listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
            verb = "is" if len(parts) == 1 else "are"
            said.append(
                f"{listed[0].upper()}{listed[1:]} {verb} left out; the rest of each row is scaled up to its old sum."
            )
        if view.words:
            said.append("Tokens are grouped to words: a word’s rows are averaged, its columns summed.")
        if view.between:
            a, b = ("the first text" if side == 0 else "the second text" for side in BETWEEN[view.between])
            said.append(f"Only from {a} to {b}: what goes elsewhere is not shown, so rows add up to less than 1.")
        return said


def is_punctuation(token: str) -> bool:
    """Whether a display token is punctuation alone; a space in front does not count."""
    letters = token.lstrip("·")
    return bool(letters) and all(unicodedata.category(letter)[0] == "P" for letter in letters)


def _grouped(weights: np.ndarray, rows: list[list[int]], start: int, columns: list[list[int]]) -> np.ndarray:
    """weights (query tokens from `start` on, key tokens) → (groups, groups): columns summed, rows averaged."""
    kept = [i for group in columns for i in group]
    begins = np.cumsum([0, *(len(group) for group in columns[:-1])])
    gaps = np.isnan(weights[:, kept])
    sums = np.add.reduceat(np.where(gaps, np.float32(0), weights[:, kept]), begins, axis=1)
    sums[np.logical_and.reduceat(gaps, begins, axis=1)] = np.nan
    return np.stack([_mean_over(sums[[i - start for i in group]]) for group in rows])


def _mean_over(rows: np.ndarray) -> np.ndarray:
    """(rows, columns) → (columns,): the mean of the rows that look anywhere; NaN where none of them may look."""
    looking = rows[~np.isnan(rows).all(axis=1)]
    if not len(looking):
        return rows[0]
    mean = np.where(np.isnan(looking), 0, looking).mean(axis=0, dtype=np.float32)
    return np.where(np.isnan(looking).all(axis=0), np.float32(np.nan), mean).astype(np.float32)
