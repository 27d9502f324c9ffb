"""Which tokens mattered, how far the methods agree and which of them to believe, as tables of exact numbers.

Knows nothing about pages, and runs no model.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from ..attribution import METHODS, Explanation
from ..credibility import Curves, Verdict
from .blocks import written
from .relevance_words import digits, exact, of_head
from .step import Table


def relevance_table(explanations: Sequence[Explanation]) -> Table:
    """Every score; of drawn ones the standard error too."""
    header, columns = ["token", "place"], []
    for explanation in explanations:
        name = explanation.method
        header.append(METHODS[name].title + of_head(explanation))
        columns.append([exact(value, name) for value in explanation.scores.tolist()])
        if explanation.spread is not None:
            header.append("its standard error")
            columns.append([digits(value) for value in explanation.spread.tolist()])
    tokens = explanations[0].tokens if explanations else ()
    rows = [(token, str(i), *(column[i] for column in columns)) for i, token in enumerate(tokens)]
    return Table(tuple(header), tuple(rows))


def agreement_table(names: Sequence[str], ranks: np.ndarray, overlap: np.ndarray, count: int) -> Table:
    """Every pair of methods."""
    rows = [
        (names[i], names[j], written(ranks[i, j], ".3f"), f"{round(float(overlap[i, j]) * count)} of {count}")
        for i, j in combinations(range(len(names)), 2)
    ]
    return Table(("method", "and", "rank agreement", "most relevant tokens in common"), tuple(rows))


def curves_table(verdicts: Mapping[str, Verdict]) -> Table:
    """The areas of every method, and those of random orders."""
    header = (
        "method",
        "area while tokens go",
        "while they come",
        "between the two",
        "random orders",
        "beats",
        "so it is",
    )
    rows = [
        (
            title,
            *(written(value, ".4f") for value in (v.deletion, v.insertion, v.gain)),
            f"{written(v.low, '.4f')} to {written(v.high, '.4f')}",
            f"{v.beaten} of {v.draws}",
            v.word,
        )
        for title, v in verdicts.items()
    ]
    return Table(header, tuple(rows))


def points_table(curves: Mapping[str, Curves], random: Curves | None) -> Table:
    """Every point of the curves: what is watched while tokens go, and while they come."""
    drawn = dict(curves) | ({"random orders, on average": random} if random is not None else {})
    header = [name for title in drawn for name in (f"{title}, going", f"{title}, coming")]
    removed = [int(count) for part in [*drawn.values()][:1] for count in part.removed]
    columns = [heights.mean(axis=0) for part in drawn.values() for heights in (part.deletion, part.insertion)]
    rows = [(str(count), *(written(float(column[n]), ".4f") for column in columns)) for n, count in enumerate(removed)]
    return Table(("tokens gone or come", *header), tuple(rows))
