"""What is kept of one call of a model's attention.

Attention is computed from the queries and keys when somebody looks, and only the part looked at. A model that hands
out nothing but its weights is kept as those.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .attention import attention_scores, attention_weights, log_sum_exp, masked, max_pool_bins, max_pool_columns
from .errors import HeadlightError


@dataclass(frozen=True, eq=False)
class LayerCapture:
    """One call of a model's attention: q, k and v as the model used them, and all that changes the weights; or, where
    the model hands out nothing else, the weights as it `recorded` them."""

    kind: str  # "encoder", "decoder" or "cross"
    layer: int  # the model's own layer number
    query: Tensor | None  # (heads, query tokens, head_dim)
    key: Tensor | None  # (key-value heads, key tokens, head_dim)
    value: Tensor | None  # (key-value heads, key tokens, value head_dim)
    key_positions: Tensor  # (key tokens,) the token of each key row
    scaling: float = 1.0
    softcap: float | None = None
    bias: Tensor | None = None  # (1 or heads, query tokens, key tokens), as the model made it
    mask: Tensor | None = None  # (1 or heads, query tokens, key tokens): bool (True: may look) or added to the scores
    causal: bool = False  # without a mask: query i may look at keys 0 … i
    sink: Tensor | None = None  # (heads,) or (heads, query tokens): the learned sink's score
    sink_scales_output: bool = False  # the sink shrinks the output after the weights, which sum to 1
    module: str = ""  # the attention module's name in the model
    recorded: Tensor | None = None  # (heads, query tokens, key tokens): the model's own weights, in place of q, k and v

    @property
    def shape(self) -> tuple[int, int, int]:
        """(heads, query tokens, key tokens)."""
        if self.query is None or self.key is None:
            assert self.recorded is not None, "a layer has its vectors or its weights"
            heads, queries, keys = self.recorded.shape
            return heads, queries, keys
        return self.query.shape[0], self.query.shape[1], self.key.shape[1]

    @property
    def heads(self) -> int:
        return self.shape[0]

    @property
    def has_vectors(self) -> bool:
        """Whether its queries, keys and values are here."""
        return self.query is not None and self.key is not None and self.value is not None

    def key_value_head(self, head: int) -> int:
        """The key-value head that a query head reads (grouped-query attention shares them)."""
        _, key = self._vectors()
        return head // (self.heads // key.shape[0])

    def scores(self, heads: slice, rows: slice, columns: slice) -> Tensor:
        """(heads, rows, columns) float32, before the mask."""
        query, every_key = self._vectors()
        chosen = torch.arange(self.heads, device=query.device)[heads] // (self.heads // every_key.shape[0])
        key = every_key[chosen, columns] if len(chosen) > 1 else every_key[chosen[0] : chosen[0] + 1, columns]
        bias = self.added(heads, rows, columns)
        return attention_scores(query[heads, rows], key, self.scaling, self.softcap, bias)

    def added(self, heads: slice, rows: slice, columns: slice) -> Tensor | None:
        """(1 or heads, 1 or rows, columns), what is added to the scores: a bias, or what a mask of numbers adds."""
        bias = None if self.bias is None else _tile(self.bias, heads, rows, columns)
        if self.mask is not None and self.mask.dtype != torch.bool:
            tile = _tile(self.mask, heads, rows, columns).float()
            added = tile.masked_fill(tile <= masked_below(self.mask.dtype), 0.0)
            bias = added if bias is None else bias + added
        return bias

    def visible(self, heads: slice, rows: slice, columns: slice) -> Tensor | None:
        """Bool, (1 or heads, rows, columns): where a query may look; None: everywhere."""
        if self.mask is not None:
            tile = _tile(self.mask, heads, rows, columns)
            return tile if tile.dtype == torch.bool else tile > masked_below(tile.dtype)
        if not self.causal:
            return None
        _, queries, keys = self.shape
        device = self.key_positions.device if self.query is None else self.query.device
        query = torch.arange(queries, device=device)[rows, None]
        return (torch.arange(keys, device=device)[columns] <= query)[None]

    def weights(self, heads: slice, rows: slice, columns: slice) -> Tensor:
        """(heads, rows, columns) float32, equal to the model's own."""
        if self.recorded is not None:
            return self.recorded[heads, rows, columns].float()
        whole = slice(None)
        scores = masked(self.scores(heads, rows, whole), self.visible(heads, rows, whole))
        sink = None
        if self.sink is not None and not self.sink_scales_output:
            sink = self.sink[heads, None] if self.sink.ndim == 1 else self.sink[heads, rows]
        return attention_weights(scores[..., columns], log_sum_exp(scores, sink))

    def _vectors(self) -> tuple[Tensor, Tensor]:
        if self.query is None or self.key is None:
            raise HeadlightError(
                "This model does not hand out its queries and keys, so its scores cannot be seen. Look at its weights, "
                "or choose a model that hands them out (GPT-2, Llama, BERT, T5 and about 350 more)."
            )
        return self.query, self.key


def _tile(whole: Tensor, heads: slice, rows: slice, columns: slice) -> Tensor:
    """A tile of (1 or heads, 1 or query tokens, key tokens)."""
    heads = heads if whole.shape[0] > 1 else slice(None)
    return whole[heads, rows if whole.shape[1] > 1 else slice(None), columns]


def masked_below(dtype: torch.dtype) -> float:
    """An added mask this low means "may not look"; above it, it is a bias."""
    return torch.finfo(dtype).min / 2


def thumbnail(layer: LayerCapture, size: int, heads: slice = slice(None)) -> Tensor:
    """(heads, ≤ size, ≤ size) float32: the largest weight of each bin of tokens."""
    (_, queries, keys), every = layer.shape, slice(None)
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
