"""One attention row, every intermediate number: from the vectors that enter a layer to what its head hands on.

    scores = query · keyᵀ × scaling        weights = softmax(scores)        output = weights · value
                                                                            (Vaswani et al. 2017, eq. 1)

Recomputed here from the Capture's queries, keys and values, and set beside what the model itself computed. float32 on
the CPU. Knows nothing about models (filling.py asks them) nor about figures.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .attention import attention_weights, blend, log_sum_exp, masked
from .layer import LayerCapture
from .wiring import Turning


@dataclass(frozen=True, eq=False)
class Made:
    """Some components of a head's vector, made by one projection: weight · given + bias, times a factor."""

    path: tuple[str, ...]  # the modules from what enters the attention to the projection, that one last
    then: tuple[str, ...]  # modules that the result still passes (a norm)
    components: tuple[int, ...]
    given: Tensor  # (tokens, in)
    weight: Tensor  # (components, in)
    bias: Tensor | None  # (components,)
    factor: float
    passed: Tensor | None  # (tokens, components) what the modules of `then` make of the products; None: nothing follows

    def product(self, token: int) -> Tensor:
        """(components,) weight · given + bias, before what follows."""
        product = self.weight @ self.given[token]
        return product if self.bias is None else product + self.bias

    def vector(self, token: int) -> Tensor:
        """(components,) of the head's vector before its rotation."""
        return (self.product(token) if self.passed is None else self.passed[token]) * self.factor


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a head's query, key or value comes from, for every token."""

    pieces: tuple[Made, ...]
    size: int  # head_dim
    turning: Turning | None  # RoPE
    table: tuple[Tensor, Tensor] | None  # cos and sin (tokens, width), as the layer got them

    def before(self, token: int) -> Tensor:
        """(head_dim,) before rotation."""
        vector = torch.zeros(self.size)
        for piece in self.pieces:
            vector[list(piece.components)] = piece.vector(token)
        return vector

    def after(self, token: int) -> Tensor:
        """(head_dim,) as the attention uses it."""
        before = self.before(token)
        if self.turning is None or self.table is None:
            return before
        return self.turning.turned(before, (self.table[0][token], self.table[1][token]))


@dataclass(frozen=True, eq=False)
class Rotation:
    """What turning the vectors by position does to the scores."""

    turning: Turning
    query_before: Tensor  # (head_dim,)
    angles: Tensor  # (pairs,) radians, −π … π: of the query's token
    position: int  # of the query's token
    turns: tuple[Tensor, Tensor] | None  # cos and sin (positions, width): the token may be moved there
    keys: Tensor  # (keys, head_dim), each at its own place
    scaling: float

    @property
    def positions(self) -> int:
        return 0 if self.turns is None else len(self.turns[0])

    def moved(self, position: int) -> Tensor:
        """(keys,) q · k × scaling, if the query stood at another position."""
        return self.keys @ self._at(position) * self.scaling

    def by_position(self, key: int) -> Tensor:
        """(positions,) the score of one key, with the query at each position."""
        assert self.turns is not None
        return self.turning.turned(self.query_before, self.turns) @ self.keys[key] * self.scaling

    def _at(self, position: int) -> Tensor:
        assert self.turns is not None
        return self.turning.turned(self.query_before, (self.turns[0][position], self.turns[1][position]))


@dataclass(frozen=True, eq=False)
class Added:
    """What each head adds to the residual stream: its part of the output projection, applied to its output."""

    name: str  # of the projection
    weight: Tensor  # (hidden, head_dim) this head's columns
    heads: Tensor  # (heads, hidden)
    bias: Tensor | None  # (hidden,)

    @property
    def sum(self) -> Tensor:
        """(hidden,)"""
        return self.heads.sum(dim=0) if self.bias is None else self.heads.sum(dim=0) + self.bias

    @property
    def shares(self) -> Tensor:
        """(heads,) of the length of the heads' sum, each head's part in its direction: they sum to 1."""
        whole = self.heads.sum(dim=0)
        return self.heads @ whole / (whole @ whole).clamp(min=1e-30)


@dataclass(frozen=True, eq=False)
class Around:
    """The layer around the attention, at the query's token."""

    entered: Tensor  # (hidden,) the residual stream before
    left: Tensor  # (hidden,) and after
    parts: tuple[tuple[str, str, Tensor], ...]  # name, kind and result (hidden,) of each part, in order
    adds: frozenset[int] | None  # those whose results, added to what entered, are what left; None: no plain sum
    positions: tuple[str, Tensor] | None  # the module that numbers positions, and what it added to the token


@dataclass(frozen=True, eq=False)
class Compared:
    """A recomputed array beside the model's own."""

    name: str
    ours: Tensor
    own: Tensor
    bound: float  # the largest relative difference that rounding explains
    unit: float | None = None  # what a difference is relative to; None: the largest absolute value

    @property
    def absolute(self) -> float:
        return float((self.ours - self.own).abs().max()) if self.own.numel() else 0.0

    @property
    def largest(self) -> float:
        return self.unit or max(float(self.own.abs().max()), 1e-30)

    @property
    def relative(self) -> float:
        return self.absolute / self.largest

    @property
    def agrees(self) -> bool:
        return self.relative <= self.bound  # false for NaN too


@dataclass(frozen=True, eq=False)
class Worksheet:
    """One row of one head. What the model is needed for (origins, rotation, added, around) is None without it, and
    `missing` says why."""

    layer: LayerCapture
    head: int
    token: int  # the query's row
    query_token: str
    key_tokens: list[str]
    query: Tensor  # (head_dim,)
    keys: Tensor  # (keys, head_dim)
    values: Tensor  # (keys, value head_dim)
    visible: Tensor  # (keys,) bool
    bias: Tensor | None  # (keys,) added to the scores
    sink: float | None  # the learned sink's score
    origins: dict[str, Origin]  # "query", "key", "value", of those that were found
    rotation: Rotation | None
    added: Added | None
    around: Around | None
    own: tuple[tuple[str, Tensor, Tensor], ...]  # name, ours, the model's: of what only the model can compute
    bound: float
    missing: dict[str, str]  # "query", "key", "value", "weights", "added", "around": why it is not here

    # ── compare ──

    @cached_property
    def products(self) -> Tensor:
        """(keys, head_dim) query × key, component by component."""
        return self.keys * self.query

    @cached_property
    def dots(self) -> Tensor:
        """(keys,) query · key"""
        return self.products.sum(dim=-1)

    # ── scale, cap, add, mask ──

    @cached_property
    def scaled(self) -> Tensor:
        """(keys,)"""
        return self.dots * self.layer.scaling

    @cached_property
    def capped(self) -> Tensor:
        """(keys,) cap · tanh(score / cap), where the model has a soft cap (Gemma Team 2024, section 2)."""
        cap = self.layer.softcap
        return self.scaled if cap is None else cap * torch.tanh(self.scaled / cap)

    @cached_property
    def scores(self) -> Tensor:
        """(keys,) with what is added to them, before the mask."""
        return self.capped if self.bias is None else self.capped + self.bias

    @cached_property
    def masked(self) -> Tensor:
        """(keys,) −∞ where the token may not look"""
        return masked(self.scores, self.visible)

    # ── softmax ──

    @property
    def takes_part(self) -> float | None:
        """The sink's score where it takes a part of the row; some models shrink the output by it instead."""
        return None if self.layer.sink_scales_output else self.sink

    @cached_property
    def exponentials(self) -> Tensor:
        """(keys,) e^(score − largest score)"""
        return torch.exp(self.masked - self.largest) if bool(self.visible.any()) else torch.zeros_like(self.masked)

    @cached_property
    def largest(self) -> float:
        scores = float(self.masked.max())
        return scores if self.takes_part is None else max(scores, self.takes_part)

    @cached_property
    def divisor(self) -> float:
        """What the exponentials are divided by: their sum, and the sink's."""
        sink = 0.0 if self.takes_part is None else float(torch.exp(torch.tensor(self.takes_part - self.largest)))
        return float(self.exponentials.sum()) + sink

    @cached_property
    def weights(self) -> Tensor:
        """(keys,) float32; they sum to 1, or to less where a learned sink takes the rest."""
        return self.weights_at(1.0)

    def weights_at(self, temperature: float) -> Tensor:
        """(keys,) the weights if every score were divided by a temperature first; 1: the model's."""
        sink = None if self.takes_part is None else torch.tensor(self.takes_part / temperature)
        scores = self.masked / temperature
        return attention_weights(scores, log_sum_exp(scores, sink))

    # ── blend ──

    @cached_property
    def terms(self) -> Tensor:
        """(keys, value head_dim) weight × value"""
        return self.weights[:, None] * self.values

    @cached_property
    def shrink(self) -> float:
        """What the output is multiplied by after the blend: less than 1 where the sink acts on it."""
        if self.sink is None or not self.layer.sink_scales_output:
            return 1.0
        return float(torch.sigmoid(self.masked.logsumexp(dim=-1) - self.sink))

    @cached_property
    def output(self) -> Tensor:
        """(value head_dim,) the head's output"""
        return blend(self.weights[None], self.values)[0] * self.shrink

    # ── proof ──

    @cached_property
    def proof(self) -> tuple[Compared, ...]:
        """Everything that was recomputed, beside what the model itself computed."""
        made = []
        for name in ("query", "key", "value"):
            origin = self.origins.get(name)
            if origin is not None:
                used = {"query": self.query[None], "key": self.keys, "value": self.values}[name]
                places = [self.token] if name == "query" else range(len(used))
                made.append((name, torch.stack([origin.after(token) for token in places]), used))
        compared = [Compared(name, ours, own, self.bound) for name, ours, own in made]
        for name, ours, own in self.own:
            ours = {"weights": self.weights, "head output": self.output}.get(name, ours)
            compared.append(Compared(name, ours, own, self.bound, unit=1.0 if name == "weights" else None))
        return tuple(compared)
