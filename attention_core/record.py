"""What is kept of a forward pass: LayerCapture, one call of the attention, and Capture, the whole.

Attention is not among it: it is computed from the queries and keys when somebody looks, and only the part looked at.
Knows nothing about how a model is run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .attention import attention_scores, attention_weights, log_sum_exp, masked, max_pool_bins, max_pool_columns
from .errors import HeadlightError


@dataclass(frozen=True, eq=False)
class LayerCapture:
    """One call of a model's attention: q, k and v as the model used them, and all that changes the weights."""

    kind: str  # "encoder", "decoder" or "cross"
    layer: int  # the model's own layer number
    query: Tensor  # (heads, query tokens, head_dim)
    key: Tensor  # (key-value heads, key tokens, head_dim)
    value: Tensor  # (key-value heads, key tokens, value head_dim)
    key_positions: Tensor  # (key tokens,) the token of each key row
    scaling: float
    softcap: float | None = None
    bias: Tensor | None = None  # (1 or heads, query tokens, key tokens), as the model made it
    mask: Tensor | None = None  # (1 or heads, query tokens, key tokens): bool (True: may look) or added to the scores
    causal: bool = False  # without a mask: query i may look at keys 0 … i
    sink: Tensor | None = None  # (heads,) or (heads, query tokens): the learned sink's score
    sink_scales_output: bool = False  # the sink shrinks the output after the weights, which sum to 1
    module: str = ""  # the attention module's name in the model

    @property
    def heads(self) -> int:
        return self.query.shape[0]

    def key_value_head(self, head: int) -> int:
        """The key-value head that a query head reads (grouped-query attention shares them)."""
        return head // (self.heads // self.key.shape[0])

    def scores(self, heads: slice, rows: slice, columns: slice) -> Tensor:
        """(heads, rows, columns) float32, before the mask."""
        chosen = torch.arange(self.heads, device=self.query.device)[heads] // (self.heads // self.key.shape[0])
        key = self.key[chosen, columns] if len(chosen) > 1 else self.key[chosen[0] : chosen[0] + 1, columns]
        bias = None if self.bias is None else _tile(self.bias, heads, rows, columns)
        if self.mask is not None and self.mask.dtype != torch.bool:
            tile = _tile(self.mask, heads, rows, columns).float()
            added = tile.masked_fill(tile <= masked_below(self.mask.dtype), 0.0)
            bias = added if bias is None else bias + added
        return attention_scores(self.query[heads, rows], key, self.scaling, self.softcap, bias)

    def visible(self, heads: slice, rows: slice, columns: slice) -> Tensor | None:
        """Bool, (1 or heads, rows, columns): where a query may look; None: everywhere."""
        if self.mask is not None:
            tile = _tile(self.mask, heads, rows, columns)
            return tile if tile.dtype == torch.bool else tile > masked_below(tile.dtype)
        if not self.causal:
            return None
        query = torch.arange(self.query.shape[1], device=self.query.device)[rows, None]
        return (torch.arange(self.key.shape[1], device=self.query.device)[columns] <= query)[None]

    def weights(self, heads: slice, rows: slice, columns: slice) -> Tensor:
        """(heads, rows, columns) float32, equal to the model's own."""
        whole = slice(None)
        scores = masked(self.scores(heads, rows, whole), self.visible(heads, rows, whole))
        sink = None
        if self.sink is not None and not self.sink_scales_output:
            sink = self.sink[heads, None] if self.sink.ndim == 1 else self.sink[heads, rows]
        return attention_weights(scores[..., columns], log_sum_exp(scores, sink))


def _tile(whole: Tensor, heads: slice, rows: slice, columns: slice) -> Tensor:
    """A tile of (1 or heads, 1 or query tokens, key tokens)."""
    heads = heads if whole.shape[0] > 1 else slice(None)
    return whole[heads, rows if whole.shape[1] > 1 else slice(None), columns]


def masked_below(dtype: torch.dtype) -> float:
    """An added mask this low means "may not look"; above it, it is a bias."""
    return torch.finfo(dtype).min / 2


@dataclass(frozen=True)
class SelfCheck:
    """What the comparison with the model's own eager attention found on a short input."""

    weights: float  # largest absolute difference of an attention weight
    output: float  # largest absolute difference of the output, as a share of its largest value
    implementation: str  # the seam that was found exact
    calls: int = 0  # how often the model calls its attention in one pass


@dataclass(frozen=True, eq=False)
class Capture:
    """The record of one forward pass. Attention is computed from it when somebody looks."""

    output: Any  # what the model returned
    layers: list[LayerCapture]  # one per call of the attention, in the model's order
    check: SelfCheck
    inputs: dict[str, Tensor] = field(default_factory=dict)
    tokens: list[str] | None = None  # display strings of input_ids
    target_tokens: list[str] | None = None  # of decoder_input_ids, where the model has an encoder and a decoder
    name: str = ""
    left_out: int = 0  # tokens that did not fit into the model's context
    characters: int = 0  # how many characters of the text were read

    def scores(self, i: int, head: int, rows: slice | None = None, columns: slice | None = None) -> Tensor:
        """(query tokens, key tokens) float32 on the CPU: q · k × scaling, soft cap and bias in, before the mask."""
        tile = self._layer(i).scores(self._head(i, head), rows or slice(None), columns or slice(None))
        return tile[0].cpu()

    def attention(self, i: int, head: int, rows: slice | None = None, columns: slice | None = None) -> Tensor:
        """(query tokens, key tokens) float32 on the CPU, equal to the model's own weights; only that tile is computed.

        Rows sum to 1, or to less where the model has a learned sink. A query that may look nowhere (padding): zeros.
        """
        tile = self._layer(i).weights(self._head(i, head), rows or slice(None), columns or slice(None))
        return tile[0].cpu()

    def visible(self, i: int, head: int, rows: slice | None = None, columns: slice | None = None) -> Tensor:
        """(query tokens, key tokens) bool on the CPU: where the model allows this query to look."""
        layer, rows, columns = self._layer(i), rows or slice(None), columns or slice(None)
        seen = layer.visible(self._head(i, head), rows, columns)
        shape = layer.query[0, rows].shape[0], layer.key[0, columns].shape[0]
        return torch.ones(shape, dtype=torch.bool) if seen is None else seen[0].expand(shape).cpu()

    def thumbnails(self, size: int = 32) -> list[Tensor]:
        """One (heads, ≤ size, ≤ size) float32 per entry of `layers`: the largest weight of each bin of tokens."""
        return [_thumbnail(layer, size).cpu() for layer in self.layers]

    def pooled(self, i: int, head: int, size: int) -> Tensor:
        """(≤ size, ≤ size) float32 on the CPU: the largest weight of each bin of tokens."""
        return _thumbnail(self._layer(i), size, self._head(i, head))[0].cpu()

    def query_tokens(self, i: int) -> list[str]:
        """Display strings of the rows of layer entry i; plain numbers without a tokenizer."""
        labels = self.target_tokens if self._reads_target(i) else self.tokens
        count = self.layers[i].query.shape[1]
        first = 0 if self._layer(i).kind == "cross" else int(self.layers[i].key_positions[-1]) + 1 - count
        return _labels(labels, range(first, first + count), offset=first if labels and len(labels) == count else 0)

    def key_tokens(self, i: int) -> list[str]:
        """Display strings of the columns of layer entry i."""
        cross = self._layer(i).kind == "cross"
        labels = self.target_tokens if self._reads_target(i) and not cross else self.tokens
        return _labels(labels, self.layers[i].key_positions.tolist())

    @cached_property
    def nbytes(self) -> int:
        """Bytes of every tensor it holds, shared storage once."""
        held = {}
        for tensor in tensors_in([vars(layer) for layer in self.layers] + [self.output, self.inputs]):
            storage = tensor.untyped_storage()
            held[storage.data_ptr()] = storage.nbytes()
        return sum(held.values())

    def _layer(self, i: int) -> LayerCapture:
        if not -len(self.layers) <= i < len(self.layers):
            raise HeadlightError(f"There is no layer entry {i}: choose 0 to {len(self.layers) - 1}.")
        return self.layers[i]

    def _head(self, i: int, head: int) -> slice:
        heads = self._layer(i).heads
        if not 0 <= head < heads:
            raise HeadlightError(f"There is no head {head} in layer entry {i}: choose 0 to {heads - 1}.")
        return slice(head, head + 1)

    def _reads_target(self, i: int) -> bool:
        return self.target_tokens is not None and self._layer(i).kind != "encoder"


def _labels(labels: list[str] | None, positions: Any, offset: int = 0) -> list[str]:
    inside = labels is not None and all(0 <= p - offset < len(labels) for p in positions)
    return [labels[p - offset] if inside and labels else str(p) for p in positions]


def _thumbnail(layer: LayerCapture, size: int, heads: slice = slice(None)) -> Tensor:
    queries, keys, every = layer.query.shape[1], layer.key.shape[1], slice(None)
    if queries <= size and keys <= size:
        return layer.weights(heads, every, every)
    rows = [slice(i, i + 1) for i in range(queries)] if queries <= size else max_pool_bins(queries, size)
    strips = []
    for strip in rows:
        pieces = [
            layer.weights(heads, slice(start, min(start + 64, strip.stop)), every).amax(dim=1, keepdim=True)
            for start in range(strip.start, strip.stop, 64)
        ]
        strip_weights = torch.cat(pieces, dim=1).amax(dim=1, keepdim=True)  # (heads, 1, keys)
        strips.append(max_pool_columns(strip_weights, size) if keys > size else strip_weights)
    return torch.cat(strips, dim=1)


def tensors_in(thing: Any) -> list[Tensor]:
    """Every tensor in nested outputs, dicts, tuples and caches."""
    if isinstance(thing, Tensor):
        return [thing]
    if isinstance(thing, Mapping):
        return [t for part in thing.values() for t in tensors_in(part)]
    if isinstance(thing, list | tuple):
        return [t for part in thing for t in tensors_in(part)]
    if hasattr(thing, "layers") and hasattr(thing, "get_seq_length"):
        return [
            t
            for part in thing.layers
            for t in (getattr(part, "keys", None), getattr(part, "values", None))
            if isinstance(t, Tensor)
        ]
    return []
