"""What a step of a worksheet is, and what all steps share."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..worksheet import Worksheet
from .blocks import Block, Column, Keys
from .formulas import Formula
from .words import percent

MOST_ROWS = 18  # keys in a picture: the heaviest, the chosen one and the query's own


@dataclass(frozen=True)
class Question:
    """What may be guessed before the step is shown: a number, or one of several things."""

    text: str
    answer: float  # the number, or the place among the options
    unit: str = ""
    least: float = -1e6  # of the numbers that can be meant
    most: float = 1e6
    options: tuple[str, ...] = ()  # the things; none: a number is asked for
    scores: tuple[float, ...] = ()  # of each of them, −∞ of one that cannot be meant: how far off a guess is


@dataclass(frozen=True)
class Table:
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Step:
    name: str
    title: str
    sentences: tuple[str, ...]  # at most two; the last one tells the answer where there is a question
    blocks: tuple[Block, ...] = ()
    formulas: tuple[Formula, ...] = ()
    question: Question | None = None
    table: Table | None = None
    numbers: Table | None = None  # the chosen key, number by number
    hides: frozenset[int] = frozenset()  # the columns of its keys that tell the answer
    tells: bool = True  # whether its last sentence tells the answer


def named(sheet: Worksheet, place: int, query: bool = False) -> str:
    token = sheet.query_token if query else sheet.key_tokens[place]
    return f"“{token}” ({place})"


def array(tensor: Tensor) -> np.ndarray:
    return tensor.numpy().astype(np.float32)


def how_many(vector: Tensor) -> str:
    return f"{vector.numel():,} numbers"


def most(values: Tensor) -> float:
    return float(values.abs().max())


def rows_of(sheet: Worksheet, key: int) -> list[int]:
    """Which keys are drawn, in their order: of those that may be looked at."""
    seen = np.flatnonzero(sheet.visible.numpy()).tolist()
    if len(seen) <= MOST_ROWS:
        return seen
    own = [sheet.token] if sheet.layer.kind != "cross" and sheet.token in seen else []
    heaviest = [k for k in np.argsort(-sheet.weights.numpy(), kind="stable").tolist() if k in set(seen)]
    chosen = [key] if key in seen else []
    return sorted(list(dict.fromkeys([*chosen, *own, *heaviest]))[:MOST_ROWS])


def bar(title: str, values: Tensor, rows: list[int], form: str = ".3f", scale: float | None = None) -> Column:
    """Of numbers that are never below 0."""
    return Column(title, array(values)[rows], "bar", form, scale)


def signed(title: str, values: Tensor, rows: list[int], scale: float | None = None) -> Column:
    """Of numbers that may be below 0: in the colours of the strips."""
    return Column(title, array(values)[rows], "bar", ".3f", scale, signed=True)


def of_keys(sheet: Worksheet, text: str, answer: int, scores: np.ndarray) -> Question:
    """A question for one of the keys."""
    options = tuple(f"“{token}” ({k})" for k, token in enumerate(sheet.key_tokens))
    return Question(text, answer, options=options, scores=tuple(scores.tolist()))


def keys_of(sheet: Worksheet, rows: list[int], columns: tuple[Column, ...]) -> Keys:
    """The rows' tokens with these columns."""
    left = [k for k in np.flatnonzero(sheet.visible.numpy()).tolist() if k not in set(rows)]
    share = float(sheet.weights[left].sum()) if left else 0.0
    more = f"and {len(left)} more token{'s' * (len(left) > 1)}, weight {percent(share)} in all" if left else ""
    return Keys(tuple(sheet.key_tokens[k] for k in rows), tuple(rows), columns, more)


def strongest_key(sheet: Worksheet) -> int:
    return int(sheet.weights.argmax())
