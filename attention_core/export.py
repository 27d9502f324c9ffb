"""The numbers behind the pictures, as files: CSV, Parquet, npz. Knows nothing about pictures or pages.

Everything is written piece by piece, so that memory stays bounded however many heads there are.
"""

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv, parquet
from torch import Tensor

from .attribution import METHODS, Explanation
from .errors import HeadlightError
from .record import Capture

FORMS = ("csv", "parquet", "npz")
MOST_NUMBERS = 50_000_000
UTF8_MARK = b"\xef\xbb\xbf"  # programs read past it, spreadsheets need it
_AT_ONCE = 1_000_000  # numbers computed and written together
_WORDS = pa.dictionary(pa.int32(), pa.string())
_LONG = pa.schema(
    [
        ("kind", _WORDS),
        ("layer", pa.int32()),
        ("head", pa.int32()),
        ("query", pa.int32()),
        ("query_token", _WORDS),
        ("key", pa.int32()),
        ("key_token", _WORDS),
        ("weight", pa.float32()),
    ]
)


def plain_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def head_table(
    weights: np.ndarray, visible: np.ndarray, query_tokens: list[str], key_tokens: list[str]
) -> pd.DataFrame:
    """(queries, keys) weights as a table, a row per query token; where a query may not look stands nothing."""
    shown = np.where(visible, weights, np.nan)
    table = pd.DataFrame(shown, columns=[plain_cell(t) for t in key_tokens])
    table.insert(0, "from ↓ to →", [plain_cell(t) for t in query_tokens], allow_duplicates=True)
    return table


def relevance_csv(explanations: Sequence[Explanation]) -> str:
    """One line a token, one column a method, the scores as they are; what was asked stands in the columns' names."""
    aim = explanations[0].aim
    table = pd.DataFrame({"place": range(len(aim.tokens)), "token": [plain_cell(token) for token in aim.tokens]})
    asked = f"for {explanations[0].target}" if explanations[0].target else f"for token {aim.token}"
    if aim.contrast is not None or len(aim.texts) > 1:
        asked += f" rather than {aim.contrast.token if aim.contrast is not None else aim.texts[1]}"
    for explanation in explanations:
        method = METHODS[explanation.method]
        told = [(name, getattr(explanation.settings, name)) for name in method.reads]
        read = [f"{name} {value}" for name, value in told if value is not None]
        name = f"{method.title} {asked} ({', '.join([aim.score.replace('_', ' '), *read])})"
        table[name] = explanation.scores.numpy()
        if explanation.spread is not None:
            table[f"{method.title}, standard error"] = explanation.spread.numpy()
    return UTF8_MARK.decode() + table.to_csv(index=False)


@dataclass(frozen=True)
class _Tile:
    """Some rows of one head."""

    entry: int
    head: int
    first: int  # the first row's query
    weights: np.ndarray  # (rows, keys) float32
    visible: np.ndarray  # (rows, keys) bool


def count_numbers(capture: Capture, entry: int | None = None, head: int | None = None) -> int:
    """How many weights one head, one entry of `capture.layers` or the whole capture has, gaps included."""
    shapes = [capture.layers[i].shape for i in _entries(capture, entry)]
    return sum((heads if head is None else 1) * queries * keys for heads, queries, keys in shapes)


def check_count(capture: Capture, entry: int | None = None, head: int | None = None) -> None:
    """Raises HeadlightError where there are more numbers than a file may have."""
    count = count_numbers(capture, entry, head)
    if count > MOST_NUMBERS:
        less = "one head or a shorter text" if head is None else "a shorter text"
        raise HeadlightError(
            f"These are {count:,} numbers, more than the {MOST_NUMBERS:,} that fit into a file: choose {less}."
        )


def numbers(capture: Capture, form: str, entry: int | None = None, head: int | None = None) -> bytes:
    """The file of write_numbers() as bytes; a CSV with the mark that tells spreadsheets it is UTF-8."""
    file = io.BytesIO()
    if form == "csv":
        file.write(UTF8_MARK)
    write_numbers(capture, form, file, entry, head)
    return file.getvalue()


def write_numbers(
    capture: Capture, form: str, file: IO[bytes], entry: int | None = None, head: int | None = None
) -> None:
    """The weights of one head, of one entry of `capture.layers`, or of all heads.

    form     "csv", "parquet" or "npz"
    file     open for writing bytes; it need not be seekable
    entry    index into capture.layers; None: all
    head     of that entry; None: all

    The CSV of one head is its matrix, a row per query, with empty cells where a query may not look. Every other CSV and
    every Parquet file has a row per weight (kind, layer, head, query, query_token, key, key_token, weight) and leaves
    out the rows where a query may not look. npz has, for each entry, entry0_weights (heads, queries, keys) with NaN
    where a query may not look, entry0_query_tokens and entry0_key_tokens; entry0_query (heads, queries, head_dim),
    entry0_key and entry0_value (key-value heads, keys, head_dim) where the model hands them out; and what the entries
    are: kind, layer. Of one head: (queries, keys), (queries, head_dim), (keys, head_dim). All is float32.

    Raises HeadlightError above 50 million numbers.
    """
    if form not in FORMS:
        raise HeadlightError(f"There is no file form “{form}”: choose {', '.join(FORMS)}.")
    if head is not None and entry is None:
        raise HeadlightError("A head without its layer was asked for: choose a layer too.")
    check_count(capture, entry, head)
    if form == "npz":
        _write_npz(capture, file, entry, head)
    elif form == "parquet":
        with parquet.ParquetWriter(file, _LONG) as writer:
            for tile in _tiles(capture, entry, head):
                writer.write_table(_long(capture, tile))
    elif entry is not None and head is not None:
        _write_matrix(capture, file, entry, head)
    else:
        with csv.CSVWriter(file, _LONG) as writer:
            for tile in _tiles(capture, entry, head):
                writer.write_table(_long(capture, tile, plain_cell))


def _entries(capture: Capture, entry: int | None) -> list[int]:
    if entry is None:
        return list(range(len(capture.layers)))
    if not 0 <= entry < len(capture.layers):
        raise HeadlightError(f"There is no layer entry {entry}: choose 0 to {len(capture.layers) - 1}.")
    return [entry]


def _tiles(capture: Capture, entry: int | None, head: int | None) -> Iterator[_Tile]:
    """Every head's rows, a million weights at a time at most."""
    for i in _entries(capture, entry):
        heads, queries, keys = capture.layers[i].shape
        step = max(1, _AT_ONCE // max(keys, 1))
        for h in range(heads) if head is None else [head]:
            for first in range(0, queries, step):
                rows = slice(first, min(first + step, queries))
                weights, visible = capture.attention(i, h, rows), capture.visible(i, h, rows)
                yield _Tile(i, h, first, weights.numpy(), visible.numpy())


def _long(capture: Capture, tile: _Tile, cell: Any = str) -> pa.Table:
    """A tile as a table with a row for each weight that is no gap; cell: what is done to a token."""
    layer = capture.layers[tile.entry]
    query, key = np.nonzero(tile.visible)
    query, key = (query + tile.first).astype(np.int32), key.astype(np.int32)
    same = np.zeros(len(query), dtype=np.int32)

    def words(places: np.ndarray, tokens: list[str]) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(places, pa.array([cell(t) for t in tokens], pa.string()))

    columns = [
        words(same, [layer.kind]),
        same + np.int32(layer.layer),
        same + np.int32(tile.head),
        query,
        words(query, capture.query_tokens(tile.entry)),
        key,
        words(key, capture.key_tokens(tile.entry)),
        tile.weights[tile.visible],
    ]
    return pa.Table.from_arrays([pa.array(column) for column in columns], schema=_LONG)


def _write_matrix(capture: Capture, file: IO[bytes], entry: int, head: int) -> None:
    """head_table(), some rows at a time."""
    queries, keys = capture.query_tokens(entry), capture.key_tokens(entry)
    for tile in _tiles(capture, entry, head):
        rows = queries[tile.first : tile.first + len(tile.weights)]
        table = head_table(tile.weights, tile.visible, rows, keys)
        file.write(table.to_csv(index=False, header=tile.first == 0, lineterminator="\n").encode())


def _write_npz(capture: Capture, file: IO[bytes], entry: int | None, head: int | None) -> None:
    """As numpy.savez() writes it, but one piece of an array at a time."""
    entries = _entries(capture, entry)
    with zipfile.ZipFile(file, "w") as archive:
        _member(archive, "kind", np.array([capture.layers[i].kind for i in entries]))
        _member(archive, "layer", np.array([capture.layers[i].layer for i in entries]))
        for i in entries:
            layer = capture.layers[i]
            heads, queries, keys = layer.shape
            shape = (heads, queries, keys) if head is None else (queries, keys)
            with _opened(archive, f"entry{i}_weights") as member:
                np.lib.format.write_array_header_2_0(member, _header(shape))
                for tile in _tiles(capture, i, head):
                    member.write(np.where(tile.visible, tile.weights, np.float32(np.nan)).tobytes())
            _member(archive, f"entry{i}_query_tokens", np.array(capture.query_tokens(i)))
            _member(archive, f"entry{i}_key_tokens", np.array(capture.key_tokens(i)))
            if layer.query is None or layer.key is None or layer.value is None:
                continue
            shared = None if head is None else layer.key_value_head(head)
            _member(archive, f"entry{i}_query", _floats(layer.query, head))
            _member(archive, f"entry{i}_key", _floats(layer.key, shared))
            _member(archive, f"entry{i}_value", _floats(layer.value, shared))


def _header(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}


def _floats(vectors: Tensor, head: int | None) -> np.ndarray:
    return (vectors if head is None else vectors[head]).float().cpu().numpy()


def _opened(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A member of the archive with a fixed date: equal numbers make equal files."""
    return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)


def _member(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with _opened(archive, name) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)
