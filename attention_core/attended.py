"""Relevance by attention: what the target's row looks at, directly, through all layers, or weighted by its values.

These methods ask what was looked at, not what would change without it: none of them knows what the target is, but the
last one. (tokens,) float32 each, nothing below 0.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .errors import HeadlightError
from .layer import LayerCapture
from .maps import own_maps
from .perturbed import OnPass, needs_slope
from .projecting import output_projections, per_head
from .record import Capture
from .scorer import Scorer
from .seam import shadow

TRACED_UP_TO = 1024  # tokens: beyond, every weight of every head and its gradient do not fit
ROWS_AT_ONCE = 256


def received(
    capture: Capture,
    scorer: Scorer,
    layer: int | None = None,
    head: int | None = None,
    on_layer: OnPass = lambda done, total: None,
) -> Tensor:
    """The attention weights of the target's row: of one head, or the mean of a layer's heads, or of all.

    layer: counts the calls of those that can look at the tokens: cross-attention in an encoder-decoder."""
    rows, count = _rows(scorer), len(scorer.aim.tokens)
    found = torch.zeros(count)
    for done, entry in enumerate(chosen := _chosen(capture, layer, head)):
        on_layer(done, len(chosen))
        heads = slice(None) if head is None else slice(head, head + 1)
        found += _mean_row(capture.layers[entry], heads, rows)[:count] / len(chosen)
    return found


def value_weighted(
    capture: Capture,
    scorer: Scorer,
    layer: int | None = None,
    head: int | None = None,
    on_layer: OnPass = lambda done, total: None,
) -> Tensor:
    """The length of what each token hands on to the target's row: ‖Σ_h α_h f_h(x)‖ with f(x) = v W_O (Kobayashi et al.
    2020, section 3): a token that is looked at, but whose values are small, counts little.

    Of several layers, the mean of their shares: the lengths of one layer are not those of another."""
    names = output_projections(scorer.model)
    modules = dict(scorer.model.named_modules())
    rows, count = _rows(scorer), len(scorer.aim.tokens)
    chosen = _chosen(capture, layer, head)
    found = torch.zeros(count)
    for done, entry in enumerate(chosen):
        on_layer(done, len(chosen))
        part = replace(capture.layers[entry], sink_scales_output=False)  # what a sink takes away is not handed on
        name = names[entry] if entry < len(names) else None
        if name is None or part.value is None:
            raise HeadlightError(
                "Value-weighted attention does not apply: this model does not hand out its values, or changes what "
                "its heads blended before it is projected. Choose “attention”."
            )
        only = range(part.heads) if head is None else [head]
        projection = per_head(modules[name], part.heads).cpu()  # (hidden, heads, value head_dim)
        lengths = _lengths(part, projection, only, rows)[:count]
        found += lengths if len(chosen) == 1 else lengths / lengths.sum().clamp(min=1e-30) / len(chosen)
    return found


def _lengths(part: LayerCapture, projection: Tensor, heads: Sequence[int], rows: Sequence[int]) -> Tensor:
    """(keys,) the mean over rows of the lengths of what each key hands on."""
    assert part.value is not None
    handed = torch.stack([part.value[part.key_value_head(h)].float().cpu() @ projection[:, h].T for h in heads])
    found = torch.zeros(part.shape[2])
    for row in rows:  # handed (heads, keys, hidden)
        weights = torch.cat([part.weights(slice(h, h + 1), slice(row, row + 1), slice(None))[:, 0] for h in heads])
        found += torch.einsum("hk,hkn->kn", weights.cpu(), handed).norm(dim=-1) / len(rows)
    return found


def rollout(capture: Capture, scorer: Scorer, on_layer: OnPass = lambda done, total: None) -> Tensor:
    """Attention rollout (Abnar and Zuidema 2020, section 3): Ã = Ã_L · … · Ã_1 with Ã_l = (A_l + I) / 2, A_l the
    mean of the heads with rows scaled to 1; the target's row of it. Computed from the last layer down, row by row."""
    layers = _own_stack(capture, scorer, "Rollout")
    relevance = _start(scorer)
    for done, calls in enumerate(reversed(layers)):
        on_layer(done, len(layers))
        mixed = torch.zeros_like(relevance)
        for start in range(0, len(relevance), ROWS_AT_ONCE):
            rows = slice(start, min(start + ROWS_AT_ONCE, len(relevance)))
            heads = (part.weights(slice(h, h + 1), rows, slice(None))[0] for part in calls for h in range(part.heads))
            mean = torch.zeros(len(relevance[rows]), calls[0].shape[2])  # (rows, keys)
            for weights in heads:
                mean += weights.cpu()
            mean /= mean.sum(dim=-1, keepdim=True).clamp(min=1e-30)
            mixed += relevance[rows] @ mean[:, : len(relevance)]
        relevance = (mixed + relevance) / 2
    return relevance


def attention_x_gradient(scorer: Scorer, on_pass: OnPass = lambda done, total: None) -> Tensor:
    """Ā = mean over heads of (∇A ⊙ A)⁺ of each layer, rolled out by R = R + Ā R (Chefer et al. 2021, eq. 5 and 6); the
    target's row.

    The identity that R begins with is taken off: what stays where it was says nothing about the others."""
    tokens = scorer.vectors.shape[1]
    if "decoder_input_ids" in scorer.inputs:
        raise HeadlightError(
            "Attention × gradient does not apply to an encoder-decoder: it is rolled out through one stack of layers. "
            "Choose another method."
        )
    needs_slope(scorer, "Attention × gradient")
    if tokens > TRACED_UP_TO:
        raise HeadlightError(
            f"Attention × gradient keeps every weight, so it takes up to {TRACED_UP_TO:,} tokens: shorten the text."
        )
    on_pass(0, 1)
    seen: list[Any] = []
    watched = replace(scorer, model=shadow(scorer.model, "eager"), outputs=seen)
    with torch.enable_grad():
        vectors = scorer.vectors.detach().clone().requires_grad_(True)
        value = watched(vectors)[0]
        kept = [weights for _, _, weights in own_maps(seen[0])]
        _needs_every_layer(scorer.model, len(kept), "Attention × gradient")
        if not all(_is_map(weights, tokens) for weights in kept):
            raise HeadlightError(f"Attention × gradient does not apply: {OTHER_WEIGHTS}")
        gradients = torch.autograd.grad(value, kept, allow_unused=True)
    if any(gradient is None for gradient in gradients):  # XLNet returns a copy of its weights
        raise HeadlightError(f"Attention × gradient does not apply: {OTHER_WEIGHTS}")
    begin = _start(scorer)
    relevance = begin.clone()
    for weights, gradient in reversed(list(zip(kept, gradients, strict=True))):
        mean = (gradient[0].float() * weights[0].float()).clamp(min=0).mean(dim=0).detach().cpu()
        relevance = relevance + relevance @ mean  # (tokens,) @ (tokens, tokens)
    return relevance - begin


OTHER_WEIGHTS = (
    "the weights that this model returns are not those that it computes with, token by token. Choose another method."
)


def _is_map(weights: Any, tokens: int) -> bool:
    """Whether these are weights (1, heads, tokens, tokens) that a slope can be asked of."""
    return isinstance(weights, Tensor) and weights.requires_grad and tuple(weights.shape[2:]) == (tokens, tokens)


def _needs_every_layer(model: PreTrainedModel, attending: int, name: str) -> None:
    """HeadlightError where some layers hand information on otherwise (a linear attention, a state)."""
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", attending)
    if attending < layers:
        raise HeadlightError(
            f"{name} does not apply: of the {layers} layers of this model {attending} have attention weights, and what "
            "the others hand on would be missing. Choose another method."
        )


def _chosen(capture: Capture, layer: int | None, head: int | None) -> list[int]:
    """Entries of capture.layers: the wanted layer, or every one whose heads look at the tokens that were read."""
    kinds = {entry.kind for entry in capture.layers}
    kind = "cross" if "cross" in kinds else "decoder" if "decoder" in kinds else "encoder"
    entries = [n for n, entry in enumerate(capture.layers) if entry.kind == kind]
    if layer is None:
        if head is not None:
            raise HeadlightError("A head is named by its layer too: give both.")
        return entries
    if not 0 <= layer < len(entries):
        raise HeadlightError(f"There is no layer {layer} here: they count from 0 to {len(entries) - 1}.")
    heads = capture.layers[entries[layer]].heads
    if head is not None and not 0 <= head < heads:
        raise HeadlightError(f"There is no head {head} here: they count from 0 to {heads - 1}.")
    return [entries[layer]]


def _own_stack(capture: Capture, scorer: Scorer, name: str) -> list[list[LayerCapture]]:
    """The layers of the one stack that all look at the same tokens; of each the calls of its attention (DiffLlama makes
    two of the same weights)."""
    tokens = scorer.vectors.shape[1]
    if "decoder_input_ids" in scorer.inputs:
        raise HeadlightError(
            f"{name} does not apply to an encoder-decoder: it is made for one stack of layers. Choose another method."
        )
    if any(entry.shape[1] < tokens or entry.shape[1] != entry.shape[2] for entry in capture.layers):
        raise HeadlightError(f"{name} does not apply: the layers of this model do not all look at the same tokens.")
    layers = [list(calls) for _, calls in groupby(capture.layers, key=lambda entry: entry.layer)]
    _needs_every_layer(scorer.model, len(layers), name)
    return layers


def _rows(scorer: Scorer) -> list[int]:
    """The rows that the target is read from: its own, or every one where their mean is."""
    return list(range(len(scorer.aim.tokens))) if scorer.aim.kind == "similarity" else [scorer.aim.token]


def _start(scorer: Scorer) -> Tensor:
    """(tokens,) the share of each of these rows."""
    rows, start = _rows(scorer), torch.zeros(scorer.vectors.shape[1])
    start[rows] = 1 / len(rows)
    return start


def _mean_row(part: LayerCapture, heads: slice, rows: Sequence[int]) -> Tensor:
    """(keys,) the mean over heads and rows."""
    found = [part.weights(heads, slice(row, row + 1), slice(None)).mean(dim=(0, 1)).cpu() for row in rows]
    return torch.stack(found).mean(dim=0)
