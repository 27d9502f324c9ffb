"""What one step of the worksheet shows, as blocks under each other: the page and the printed sheet draw the same ones.

Numbers and words alone, no colours and no sizes. A float32 NaN means "cannot look there"; −inf is a score that a mask
has ruled out.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

DIALS_UP_TO = 64  # of more pairs the first ones are drawn


def written(value: float, form: str) -> str:
    """A number as people read it: a true minus, ∞ as ∞, — where the query cannot look."""
    if np.isnan(value):
        return "—"
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = format(float(value), form)
    return (text.lstrip("-") if not any(c in "123456789" for c in text) else text).replace("-", "−")


def small(value: float) -> str:
    """A difference as people read it: 2.6 × 10⁻⁷."""
    if not np.isfinite(value) or value == 0 or 1e-3 <= value < 1e4:
        return written(value, ".3g")
    mantissa, power = f"{value:.1e}".split("e")
    return f"{mantissa} × 10{str(int(power)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def largest(values: np.ndarray, scale: float | None = None) -> float:
    """What a full colour stands for: the scale, or the largest finite amount of any shape, or 1 where all are 0."""
    if scale is not None:
        return float(scale)
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0.0)) or 1.0


def span(values: np.ndarray, scale: float | None = None) -> tuple[float, float]:
    """Where bars of any shape of values begin and end, low ≤ 0 ≤ high; infinite ones do not count."""
    finite = values[np.isfinite(values)]
    low, high = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
    if scale is not None:
        low, high = (-float(scale) if low < 0 else 0.0), float(scale)
    return (low, high) if high > low else (0.0, 1.0)


@dataclass(frozen=True)
class Strip:
    """One vector as a row of coloured cells: blue below 0, orange above."""

    label: str
    values: np.ndarray  # (n,) float32
    note: str = ""  # short, at the right end: "norm 4.21"
    scale: float | None = None  # full colour at ± this; None: at its own largest amount
    then: str = ""  # what is done to it before the next strip: an arrow with these words


@dataclass(frozen=True)
class Strips:
    """Vectors under each other, each as wide as the picture."""

    strips: tuple[Strip, ...]
    title: str = ""


@dataclass(frozen=True)
class Column:
    """One thing that is known of every key."""

    title: str
    values: np.ndarray  # (rows,) float32; for a strip (rows, n)
    kind: Literal["bar", "strip", "number"]
    form: str = ".3f"  # how bars and numbers are written, as format() takes it
    scale: float | None = None  # full colour or full bar at this; None: at the column's own largest amount
    wide: float = 1.0  # its share of the room; a number takes what it needs
    signed: bool = False  # bars in the colours of the strips, as numbers may be below 0


@dataclass(frozen=True)
class Keys:
    """One row per key token, about 20 at most; one of them may be chosen."""

    tokens: tuple[str, ...]
    places: tuple[int, ...]  # their positions in the text
    columns: tuple[Column, ...]
    more: str = ""  # a sentence under the rows: "and 10 more keys, together 3.2%"
    title: str = ""
    covered: frozenset[int] = field(default_factory=frozenset)  # indices of columns that wait for a guess


@dataclass(frozen=True)
class Dials:
    """Pairs of numbers as hands of small dials, before and after each was turned."""

    label: str
    before: np.ndarray  # (pairs, 2) float32
    after: np.ndarray  # (pairs, 2) float32
    angles: np.ndarray  # (pairs,) float32, radians
    note: str = ""


@dataclass(frozen=True)
class Bars:
    """Numbers as bars, one of which may be marked: this head among all heads."""

    labels: tuple[str, ...]
    values: np.ndarray  # (n,) float32
    marked: int | None = None
    title: str = ""
    form: str = ".2f"
    unit: str = ""


@dataclass(frozen=True)
class Groups:
    """Which query heads share a key-value head: as many in each group, one head marked."""

    heads: int
    each: int
    marked: int
    title: str = ""

    @property
    def words(self) -> str:
        shared, last = self.marked // self.each, self.each - 1
        first = shared * self.each
        return f"Query heads {first} to {first + last} share key-value head {shared}; head {self.marked} is this one."


Block = Strips | Keys | Dials | Bars | Groups
