"""What each relevance method reaches on a task in which one token alone decides, as it was measured: in words and as a
table. Knows nothing about how that was done (training/measure_lookup.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..attribution import METHODS
from .step import Table
from .words import percent


def planted_in_words(measured: Mapping[str, Any]) -> list[str]:
    """measured: the contents of assets/lookup/measurements.json."""
    first, deletion, whole = measured["first"], measured["deletion"], measured["first_without_gaps"]
    best = sorted(first, key=lambda name: -first[name])
    slowest = max(deletion, key=lambda name: deletion[name])
    return [
        "A small Transformer was trained to look up a value behind its key. Which token decides is known there: change "
        f"it, and the answer follows. In {measured['sequences']:,} texts that it had never seen, so often did a method "
        f"put that token first: {', '.join(_reached(first, best))}.",
        f"Taken away in the order of {METHODS[slowest].title}, the tokens let the answer fall most slowly.",
        "This model had met texts with gaps. Trained without them it answers as well, but what it says where a token "
        f"is missing is an accident: then {' and '.join(_reached(whole, ['occlusion', 'shapley']))}.",
    ]


def _reached(shares: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return [f"{METHODS[name].title} {percent(shares[name])}" for name in names]


def planted_table(measured: Mapping[str, Any]) -> Table:
    rows = [
        (
            METHODS[name].title,
            percent(share),
            percent(measured["first_without_gaps"][name]),
            *(f"{measured[part][name]:.3f}" for part in ("deletion", "gain")),
        )
        for name, share in measured["first"].items()
    ]
    header = ("the deciding token first", "trained without gaps", "area while tokens go", "between the two curves")
    return Table(("method", *header), tuple(rows))
