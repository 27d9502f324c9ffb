"""Which numbers of which module a head's query, key and value are made of, found by comparing the numbers themselves.

A head's vector is compared, column by column over a few random tokens, with what every module of the layer gave before
the attention was computed: as it is, and with its rotation undone. Fused projections, latent ones, norms per head and
permuted dimensions are all found so; no architecture is named, and what is not found is said to be unknown.
"""

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .checking import probe_of
from .tracing import Call, Trace, trace

EQUAL = 2e-5  # of the largest absolute value: two columns are the same numbers
PROBE_TOKENS = 19
PROBES_KEPT = 8


@dataclass(frozen=True)
class Turning:
    """How RoPE pairs the components of a vector: a token turns pair i by its angle i (Su et al. 2021, eq. 34)."""

    pairs: tuple[tuple[int, int], ...]  # the two components of each pair

    def angles(self, table: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """cos and sin (tokens, width) as a model has them, twice each or once → (tokens, pairs)."""
        count = len(self.pairs)
        cos, sin = (_once_each(part.float(), count) for part in table)
        return cos, sin

    def turned(self, vectors: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
        """vectors (tokens, head_dim) → each pair (x, y) becomes (x cos − y sin, x sin + y cos)."""
        cos, sin = self.angles(table)
        first, second = self._sides(vectors)
        return self._placed(vectors, first * cos - second * sin, first * sin + second * cos)

    def undone(self, vectors: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
        """The inverse of turned(); cos² + sin² need not be 1 (YaRN scales both)."""
        cos, sin = self.angles(table)
        first, second = self._sides(vectors)
        size = cos**2 + sin**2
        return self._placed(vectors, (first * cos + second * sin) / size, (second * cos - first * sin) / size)

    def _sides(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        at = torch.tensor(self.pairs, device=vectors.device)
        return vectors[..., at[:, 0]].float(), vectors[..., at[:, 1]].float()

    def _placed(self, vectors: Tensor, first: Tensor, second: Tensor) -> Tensor:
        at, result = torch.tensor(self.pairs, device=vectors.device), vectors.float().expand(*first.shape[:-1], -1)
        result = result.clone()
        result[..., at[:, 0]], result[..., at[:, 1]] = first, second
        return result


@dataclass(frozen=True)
class Piece:
    """Some components of a head's vector, and the columns of a module's output that they are."""

    call: int  # of Trace.before
    components: list[int]
    columns: list[int]
    factor: float  # the vector is the module's output times this


@dataclass(frozen=True)
class Wiring:
    """How one vector (query, key or value) of a head comes about."""

    pieces: list[Piece]
    turning: Turning | None


_PROBES: "weakref.WeakKeyDictionary[PreTrainedModel, dict[int, Trace]]" = weakref.WeakKeyDictionary()


def wiring(model: PreTrainedModel, entry: int, module: str, head: int, which: str) -> Wiring | None:
    """Where the "query", "key" or "value" of a head comes from; None where no module gives these numbers."""
    probe = _probe(model, entry, module)
    layer = probe.layer
    whole = getattr(layer, which)
    assert isinstance(whole, Tensor)
    vectors = whole[head if which == "query" else layer.key_value_head(head)].float()  # (tokens, head_dim)
    candidates: list[Turning | None] = [None]
    if which != "value" and probe.turning is not None and len(probe.turning[0]) == len(vectors):
        candidates += _turnings(probe.turning[0], vectors.shape[1])
    equal = max(EQUAL, 8 * torch.finfo(whole.dtype).eps)  # undoing a rotation of 16 bits leaves its rounding
    for turning in candidates:
        table = probe.turning
        before = vectors if turning is None or table is None else turning.undone(vectors, table)
        pieces = _pieces(before, probe.before, equal)
        if pieces is not None:
            return Wiring(pieces, turning)
    return None


def linear_part(calls: list[Call], piece: Piece) -> tuple[int, list[int], list[tuple[int, list[int]]]] | None:
    """The projection behind a piece: its place among the calls, its columns, and the modules that follow it (norms),
    each as its place and the columns of what came before that it is given."""
    after: list[tuple[int, list[int]]] = []
    at, columns = piece.call, list(piece.columns)
    while weight_of(calls[at].module) is None:
        inner = _holds(calls[at].made[:, columns].float(), calls[:at])
        if inner is not None:  # a wrapper hands on what the module inside it made
            at, columns = inner
            continue
        whole = _holds(calls[at].given.float(), calls[:at])
        if whole is None or max(columns) >= len(whole[1]):
            return None
        after.insert(0, (at, whole[1]))
        at, columns = whole[0], [whole[1][column] for column in columns]
    return at, columns, after


def path_to(calls: list[Call], at: int, hidden: Tensor) -> list[str]:
    """The modules from what enters the attention to a projection, that one included."""
    path = [calls[at].name]
    given = calls[at].given
    while given.shape != hidden.shape or not torch.equal(given, hidden):
        found = _holds(given.float(), calls[:at])
        if found is None:
            break
        at = found[0]
        path.insert(0, calls[at].name)
        given = calls[at].given
    return path


def weight_of(module: nn.Module) -> Tensor | None:
    """(out, in) of a linear module; None for any other."""
    weight: Any = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not isinstance(module, nn.Linear | Conv1D):
        return None
    weight = weight.dequantize() if type(weight.data) is not Tensor else weight
    return weight.T if isinstance(module, Conv1D) else weight


def _probe(model: PreTrainedModel, entry: int, module: str) -> Trace:
    """A pass over random tokens: on a text of one token, or of equal ones, columns may be the same by chance."""
    known = _PROBES.setdefault(model, {})
    if entry not in known:
        known[entry] = trace(model, probe_of(model, PROBE_TOKENS), entry, module)
        while len(known) > PROBES_KEPT:  # each holds its module tree
            known.pop(next(iter(known)), None)
    return known[entry]


def _turnings(cos: Tensor, head_dim: int) -> list[Turning]:
    """The ways to pair components that these cos allow: halves or neighbours, at the front or at the back."""
    width = cos.shape[-1]
    counts = [width // 2] if _twice(cos) else [width]
    found = []
    for count in counts:
        for start in {0: None, head_dim - 2 * count: None}:
            if start < 0:
                continue
            halves = tuple((start + i, start + i + count) for i in range(count))
            neighbours = tuple((start + 2 * i, start + 2 * i + 1) for i in range(count))
            found += [Turning(halves), Turning(neighbours)]
    return found


def _twice(table: Tensor) -> bool:
    half = table.shape[-1] // 2
    return table.shape[-1] % 2 == 0 and (
        torch.equal(table[:, :half], table[:, half:]) or torch.equal(table[:, ::2], table[:, 1::2])
    )


def _once_each(table: Tensor, count: int) -> Tensor:
    if table.shape[-1] == count:
        return table
    return table[..., :count] if torch.equal(table[..., :count], table[..., count:]) else table[..., ::2]


def _pieces(vectors: Tensor, calls: list[Call], equal: float) -> list[Piece] | None:
    """Every component of vectors (tokens, head_dim), found in the newest module that has it; None: some are nowhere."""
    left, pieces = list(range(vectors.shape[1])), []
    for at in reversed(range(len(calls))):
        made = calls[at].made.float()
        if not left or len(made) != len(vectors):
            continue
        for factor in _factors(vectors[:, left], made):
            columns = _same_columns(vectors[:, left] / factor, made, equal)
            found = [(component, column) for component, column in zip(left, columns, strict=True) if column is not None]
            if found:
                pieces.append(Piece(at, [c for c, _ in found], [c for _, c in found], factor))
                left = [component for component in left if component not in {c for c, _ in found}]
                break
    return pieces if not left else None


def _factors(vectors: Tensor, made: Tensor) -> list[float]:
    """1, and the number that the nearest column would have to be multiplied by (some models scale their queries)."""
    first = vectors[:, 0]
    if float(first.abs().max()) == 0:
        return [1.0]
    like = (first @ made) / (first.norm() * made.norm(dim=0).clamp(min=1e-30))  # (width,) cosines
    nearest = made[:, int(like.abs().argmax())]
    factor = float((first @ nearest) / (nearest @ nearest).clamp(min=1e-30))
    return [1.0, factor] if abs(factor) > 1e-4 else [1.0]


def _same_columns(vectors: Tensor, made: Tensor, equal: float = EQUAL) -> list[int | None]:
    """For each column of vectors (tokens, n) the column of made (tokens, width) that is the same, or None."""
    if vectors.shape == made.shape and torch.equal(vectors, made):
        return list(range(made.shape[1]))
    limit = equal * max(float(vectors.abs().max()), 1e-30)
    apart = torch.cdist(vectors.T.double(), made.T.double(), p=float("inf"))  # (n, width)
    nearest = apart.min(dim=1)
    near = zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)
    return [column if distance <= limit else None for column, distance in near]


def _holds(columns: Tensor, calls: list[Call]) -> tuple[int, list[int]] | None:
    """The newest module whose output has all these columns (tokens, n), and where."""
    for at in reversed(range(len(calls))):
        made = calls[at].made.float()
        if len(made) != len(columns) or _same_columns(columns[:, :1], made)[0] is None:  # one column tells most apart
            continue
        found = _same_columns(columns, made)
        if all(column is not None for column in found):
            return at, [column for column in found if column is not None]
    return None
