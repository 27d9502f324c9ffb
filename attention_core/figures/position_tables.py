"""How order gets into a Transformer, as tables of exact numbers. Knows nothing about pages, and runs no model."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..ordering import ByDistance, Reading, Told
from ..variants import ENCODINGS, Measured
from .blocks import small, written
from .position_words import change_in_words
from .step import Table
from .words import percent

MARKS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 511)


def _marks(count: int) -> list[int]:
    return sorted({mark for mark in MARKS if mark < count} | {count - 1})


def matrix_table(table: np.ndarray, numbers: int = 4) -> Table:
    """Some rows of the encoding: the first numbers and the last one."""
    size = table.shape[1]
    columns = [*range(min(numbers, size - 1)), size - 1]
    rows = [(str(p), *(written(float(table[p, n]), ".4f") for n in columns)) for p in _marks(len(table))]
    return Table(("position", *(f"number {n}" for n in columns)), tuple(rows))


def angles_table(angles: np.ndarray, position: int) -> Table:
    """Every rotary pair at one position: (positions, pairs) in radians."""
    rows = [
        (
            str(pair),
            written(float(angles[1, pair]), ".6g"),
            written(float(angle), ".4f"),
            f"{written(float(np.degrees(angle) % 360), '.1f')}°",
            written(float(np.cos(angle)), ".4f"),
            written(float(np.sin(angle)), ".4f"),
        )
        for pair, angle in enumerate(angles[position])
    ]
    header = ("pair", "radians a token", f"radians at position {position}", "hand at", "cosine", "sine")
    return Table(header, tuple(rows))


def products_table(found: ByDistance) -> Table:
    rows = [
        (str(k), *(written(float(part[k]), ".4f") for part in (found.mean, found.low, found.high)))
        for k in _marks(len(found.mean))
    ]
    return Table(("distance", "dot product, mean", "5% of the pairs are below", "5% are above"), tuple(rows))


def penalties_table(penalties: np.ndarray) -> Table:
    """What is added to a score at some distances: (heads, distances)."""
    return _by_head("added to a score at distance", penalties, lambda value: written(value, ".4g"))


def left_table(penalties: np.ndarray) -> Table:
    """What is left of a weight for it."""
    return _by_head("left of a weight at distance", penalties, lambda value: percent(np.exp(value)))


def _by_head(what: str, penalties: np.ndarray, said: Callable[[float], str]) -> Table:
    rows = [(str(k), *(said(float(row[k])) for row in penalties)) for k in _marks(penalties.shape[1])]
    return Table((what, *(f"head {head}" for head in range(len(penalties)))), tuple(rows))


def orders_table(told: Mapping[tuple[str, bool], Told]) -> Table:
    """Five encodings, each as an encoder and as a decoder: the largest difference of a word's vector."""

    def cell(name: str, causal: bool) -> str:
        found = told[name, causal]
        return f"{found.largest:.10f}, the same" if found.same else written(found.largest, ".4f")

    rows = [(ENCODINGS[name], cell(name, False), cell(name, True)) for name in ENCODINGS if (name, True) in told]
    return Table(
        ("encoding", "Encoder: every word sees all", "Decoder: each word sees those before it"),
        tuple(rows),
    )


def words_table(told: Told, words: Sequence[str], order: Sequence[int]) -> Table:
    """Each word: where it stood, where it stands, how far its vector moved."""
    rows = [(word, str(n), str(order.index(n)), small(float(told.differences[n]))) for n, word in enumerate(words)]
    return Table(("word", "stood at", "stands at", "largest difference of its vector"), tuple(rows))


def likely_table(before: Reading, after: Reading) -> Table:
    pairs = zip(before.capture.likely, after.capture.likely, strict=True)
    rows = [(f"{one} {percent(share)}", f"{other} {percent(chance)}") for (one, share), (other, chance) in pairs]
    return Table(("as they stood", "in this order"), tuple(rows))


def attention_table(before: Reading, after: Reading, layer: int, head: int) -> Table:
    """Pairs of tokens, those first whose weight differs most in the two orders; named by their words' numbers."""
    maps = []
    for reading in (before, after):
        weights = reading.capture.attention(layer, head).numpy()
        names = _named(reading)
        maps.append({(names[q], names[k]): float(weights[q, k]) for q, k in np.argwhere(weights > 0)})
    keys = sorted(set(maps[0]) | set(maps[1]), key=lambda pair: -abs(maps[0].get(pair, 0.0) - maps[1].get(pair, 0.0)))
    rows = [(q, k, *(percent(m[q, k]) if (q, k) in m else "cannot look" for m in maps)) for q, k in keys[:40]]
    return Table(("from", "to", "as they stood", "in this order"), tuple(rows))


def _named(reading: Reading) -> list[str]:
    tokens = reading.capture.tokens or []
    seen: dict[int, int] = {}
    names = []
    for token, word in zip(tokens, reading.word_of, strict=True):
        part = seen[word] = seen.get(word, -1) + 1
        names.append(f"{token} ({word}{f', part {part}' if len(reading.words.ids[word]) > 1 else ''})")
    return names


def loss_table(measured: Mapping[str, Measured]) -> Table:
    """The curves in numbers."""
    first = next(iter(measured.values()))
    width = int(first.positions[1] - first.positions[0]) if len(first.positions) > 1 else 1
    rows = [
        (
            f"{int(start)} to {int(start) + width - 1}",
            *(
                f"{written(one.loss[n], '.3f')} ({written(one.low[n], '.3f')} to {written(one.high[n], '.3f')})"
                for one in measured.values()
            ),
        )
        for n, start in enumerate(first.positions)
    ]
    return Table(("positions", *(ENCODINGS[name] for name in measured)), tuple(rows))


def variants_table(measured: Mapping[str, Measured]) -> Table:
    """One row a variant: how good it is where it was trained, and what longer and shuffled texts cost."""
    stayed = sorted({words for one in measured.values() for words in one.shuffled})
    header = [
        "encoding",
        "parameters",
        "loss within the trained length",
        "rise at the end (95% interval)",
        *(f"rise with all but the last {words} shuffled" for words in stayed),
    ]
    rows = [
        (
            ENCODINGS[name],
            f"{one.parameters:,}",
            written(one.trained_loss, ".3f"),
            change_in_words(one.rise),
            *(change_in_words(one.shuffled[words]) if words in one.shuffled else "—" for words in stayed),
        )
        for name, one in measured.items()
    ]
    return Table(tuple(header), tuple(rows))
