"""The browser component that shows how much each token mattered: a row a token, a column a method, bars on a zero line.

The drawing is in assets/components/relevance.js; nothing here knows about methods, models or the URL.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from attention_core.figures.blocks import span, written

from .components import chosen_in, column_of_numbers, register

MOST_ROWS = 40
DIGITS = 3  # of a column's largest number; the others have as many decimals, so that they can be compared
_GAP = float(np.float32(-1.2345e38))  # as in relevance.js

_relevance = register("relevance")


@dataclass(frozen=True)
class Column:
    """What one method says of every token."""

    name: str  # "Leave-one-out"
    values: np.ndarray | None  # (tokens,) float32, signed, NaN where there is no number; None: still being computed
    note: str = ""  # a short warning: "not converged"
    form: Literal["share", "number"] = "share"  # percentages of the absolute sum; or the largest with three digits
    error: np.ndarray | None = None  # (tokens,) float32: half of the interval around each value
    words: Sequence[str | None] | None = None  # what is said of each token after the method's name; None: its number
    signed: bool = True  # whether a number says for or against; else it says how much alone, in a colour of its own


def written_values(column: Column) -> list[str]:
    """What stands at each bar: "12.3%" of the column's absolute sum; or "−0.01", as exact as the largest, "2.34"."""
    assert column.values is not None
    values = np.asarray(column.values, dtype=np.float64)
    sizes = np.abs(values)
    if column.form == "share":
        return [written(value, ".1%") for value in values / (np.nansum(sizes) or 1.0)]
    largest = float(np.nanmax(sizes, initial=0.0)) or 1.0
    if not 1e-4 <= largest < 1e6:
        return [written(value, f".{DIGITS - 1}e") for value in values]
    decimals = max(2 if largest < 1000 else 0, DIGITS - 1 - int(np.floor(np.log10(largest))))
    return [written(value, f".{decimals}f") for value in values]


def _said(column: Column, texts: list[str], token: int) -> str:
    """What is said of one token after the method's name."""
    if column.values is None:
        return "still being computed"
    if column.words is not None and (words := column.words[token]) is not None:
        return words
    if np.isnan(column.values[token]):
        return "no number"
    exact = written(column.values[token], ".5g")
    if column.error is not None and column.error[token] > 0:
        exact += f" ± {written(column.error[token], '.2g')}"
    return f"{texts[token]} ({exact})" if exact != texts[token] else exact


def _ends(column: Column) -> tuple[float, float]:
    """Where the column's axis begins and ends: its bars and intervals all fit, and 0 lies on it."""
    values = np.asarray(column.values, dtype=np.float64)
    around = np.zeros_like(values) if column.error is None else np.nan_to_num(column.error)
    return span(np.concatenate([values, values - around, values + around]))


def _sent(column: Column, shown: list[int]) -> dict:
    """One column as the browser gets it, without its numbers."""
    texts = [] if column.values is None else written_values(column)
    return {
        "name": column.name,
        "note": column.note,
        "pending": column.values is None,
        "signed": column.signed,
        "ends": (0.0, 1.0) if column.values is None else _ends(column),
        "texts": [texts[token] if texts else "" for token in shown],
        "words": [_said(column, texts, token) for token in shown],
    }


def _numbers(columns: Sequence[np.ndarray | None], shown: list[int]) -> np.ndarray:
    """(columns, rows) float32, NaN where there is none."""
    empty = np.full(len(shown), np.nan, np.float32)
    picked = [empty if one is None else np.asarray(one, dtype=np.float32)[shown] for one in columns]
    return np.stack(picked) if picked else np.zeros((0, len(shown)), np.float32)


def not_drawn(columns: Sequence[Column], order: Sequence[int], shown: list[int], total: int) -> str:
    """How many tokens have no row, and how much of each column they are together; "" where all have one."""
    left_out = [token for token in order if token not in set(shown)]
    if not left_out:
        return ""
    parts = []
    for column in columns:
        if column.values is None:
            continue
        sizes = np.nan_to_num(np.abs(np.asarray(column.values, dtype=np.float64)))
        parts.append(f"{written(sizes[left_out].sum() / (sizes.sum() or 1.0), '.1%')} of {column.name}")
    count = f"{len(left_out):,} of {total:,} tokens {'is' if len(left_out) == 1 else 'are'} not drawn here"
    return f"{count}: together {', '.join(parts)}, signs aside." if parts else f"{count}."


def relevance_view(
    tokens: list[str],
    columns: Sequence[Column],
    order: Sequence[int],
    key: str,
    on_choose: Callable[[int], None],
    chosen: int | None = None,
    label: str = "",
) -> None:
    """How much each token mattered: a row a token, a column a method, each column to its own scale.

    tokens   display strings, spaces as ·
    columns  one to eight methods; bars to the right speak for what is explained, hatched ones to the left against it
    order    the tokens' places in the order of the rows
    chosen   the place of the token whose row is marked; None: of none
    label    what the whole picture is, for those who cannot see it
    on_choose(token) is called with the place of the token that was chosen, or that was and is chosen no longer

    Of more than 40 tokens the first ones of `order` and the chosen one are drawn, and a sentence tells of the others.
    """
    order = [int(token) for token in order]
    shown = order[:MOST_ROWS]
    apart = chosen is not None and int(chosen) not in shown
    if chosen is not None and apart:
        shown = [*shown, int(chosen)]
    data = {
        "tokens": [tokens[token] for token in shown],
        "places": shown,
        "columns": [_sent(column, shown) for column in columns],
        "z": column_of_numbers(_numbers([column.values for column in columns], shown), _GAP),
        "error": column_of_numbers(_numbers([column.error for column in columns], shown), _GAP),
        "apart": apart,
        "more": not_drawn(columns, order, shown, len(tokens)),
        "chosen": None if chosen is None else int(chosen),
        "label": label,
    }

    def choose() -> None:
        on_choose(int(chosen_in(key)["token"]))

    _relevance(data=data, key=key, on_choose_change=choose)
