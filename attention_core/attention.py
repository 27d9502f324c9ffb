"""The mathematics of attention alone: scores, mask, softmax, weighted sum.

Pure functions on tensors. Knows nothing about models, tokens or how queries and keys came to be.

    weights = softmax(query · keyᵀ × scaling)        output = weights · value        (Vaswani et al. 2017, eq. 1)

What models add to it has its place here: a soft cap (Gemma Team 2024, section 2: cap · tanh(scores / cap)), a bias
for each pair of positions (Raffel et al. 2020, section 2.1), a learned sink that takes a part of every row
(Xiao et al. 2023; gpt-oss). Every function works in float32.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def attention_scores(
    query: Tensor, key: Tensor, scaling: float, softcap: float | None = None, bias: Tensor | None = None
) -> Tensor:
    """query (…, q, head_dim), key (…, k, head_dim), bias broadcast to (…, q, k) → scores (…, q, k), before the mask."""
    scores = query.float() @ key.float().transpose(-1, -2) * scaling  # (…, q, k)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    return scores if bias is None else scores + bias.float()


def masked(scores: Tensor, visible: Tensor | None) -> Tensor:
    """−∞ where a query may not look. visible: bool, broadcast to (…, q, k); None: it may look everywhere."""
    return scores if visible is None else scores.masked_fill(~visible, float("-inf"))


def log_sum_exp(scores: Tensor, sink: Tensor | None = None) -> Tensor:
    """Masked scores (…, q, k), sink broadcast to (…, q) → (…, q): the logarithm of what each row is divided by."""
    total = scores.logsumexp(dim=-1)
    return total if sink is None else torch.logaddexp(total, sink.float().expand_as(total))


def attention_weights(scores: Tensor, row_log_sum_exp: Tensor) -> Tensor:
    """exp(scores − log-sum-exp of the whole row): any tile of a row comes out right on its own.

    scores (…, q, k) masked, row_log_sum_exp (…, q) → (…, q, k). A row that may look nowhere is all zeros.
    """
    safe = row_log_sum_exp.masked_fill(row_log_sum_exp == float("-inf"), 0.0)
    return torch.exp(scores - safe[..., None])


def blend(weights: Tensor, value: Tensor) -> Tensor:
    """weights (…, q, k), value (…, k, head_dim) → the values blended by the weights, (…, q, head_dim)."""
    return weights @ value.float()


def max_pool_bins(length: int, size: int) -> list[slice]:
    """`size` bins that cover 0 … length, as F.adaptive_max_pool1d makes them (neighbours may share an index)."""
    return [slice(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]


def max_pool_columns(weights: Tensor, size: int) -> Tensor:
    """(heads, q, k) → (heads, q, size), the largest weight of each bin."""
    return F.adaptive_max_pool1d(weights, size)
