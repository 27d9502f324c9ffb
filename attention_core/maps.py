"""The attention weights that a model's own eager attention returns, for models that hand out nothing else.

Knows nothing about queries and keys.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .errors import HeadlightError
from .layer import LayerCapture
from .seam import CHOOSE, past_tokens


def own_maps(output: Any) -> list[tuple[str, int, Any]]:
    """(kind, layer, weights) of every layer whose weights a model returns, in the order of its calls: the encoder, then
    each decoder layer and its cross-attention. The kind is "self" where the model has one stack only."""
    parts = {kind: getattr(output, f"{kind}_attentions", None) or () for kind in ("encoder", "decoder", "cross")}
    parts["self"] = getattr(output, "attentions", None) or ()
    maps = [("encoder", n, weights) for n, weights in enumerate(parts["encoder"])]
    for n in range(max(len(parts[kind]) for kind in ("self", "decoder", "cross"))):
        maps += [(kind, n, parts[kind][n]) for kind in ("self", "decoder", "cross") if n < len(parts[kind])]
    return maps


def lengths(inputs: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """How many queries and keys each kind of attention must have for these inputs, of those that there are."""

    def length(*names: str) -> int:
        return next((int(inputs[name].shape[1]) for name in names if isinstance(inputs.get(name), Tensor)), 0)

    source, past = length("input_ids", "inputs_embeds"), past_tokens(inputs)
    target = length("decoder_input_ids", "decoder_inputs_embeds")
    if inputs.get("encoder_outputs") is not None:
        source = int(inputs["encoder_outputs"][0].shape[1])
    if not target:
        return {"self": (source, past + source)}
    return {"encoder": (source, source), "decoder": (target, past + target), "cross": (target, source)}


def improper(maps: list[tuple[str, int, Any]], inputs: dict[str, Any], expected: dict[str, tuple[int, int]]) -> str:
    """Which weights are not (heads, queries, keys) of tokens with rows that sum to 1, in words; "" where all are.

    A row's sum may be off by 1e-4, or by eps where the weights were rounded to 16 bits: rounding errors of at most
    eps / 2 each of numbers that sum to 1, once in the softmax and once more in its cast."""
    for kind, number, weights in maps:
        where = f"layer {number}" if kind == "self" else f"layer {number} ({kind})"
        if not isinstance(weights, Tensor):
            return f"{where} returns no attention weights"
        if weights.ndim != 4 or tuple(weights.shape[2:]) != expected.get(kind):
            shape, (queries, keys) = tuple(weights.shape[1:]), expected.get(kind, (0, 0))
            return (
                f"{where} returns an array of the shape {shape}, not (heads, {queries}, {keys}): it looks at windows, "
                "blocks or summaries rather than from token to token"
            )
        reads = _reads(kind, "query", inputs, weights)
        sums = weights[0].float().sum(dim=-1)[:, reads] if reads is not None else weights[0].float().sum(dim=-1)
        off = (sums - 1).abs().max().item() if sums.numel() else 0.0
        if not off <= max(1e-4, torch.finfo(weights.dtype).eps):
            return f"the weights that {where} returns do not sum to 1 in each row, but are off by up to {off:.2g}"
    return ""


def _reads(kind: str, side: str, inputs: dict[str, Any], weights: Tensor) -> Tensor | None:
    """Bool, one for each query or key token: which are real, where the inputs name padding among them."""
    target = kind == "decoder" or (kind == "cross" and side == "query")
    mask = inputs.get("decoder_attention_mask" if target else "attention_mask")
    count = weights.shape[2 if side == "query" else 3]
    if not isinstance(mask, Tensor) or mask.ndim != 2 or mask.shape[1] < count:
        return None
    real = mask[0, -count:].bool()
    return None if bool(real.all()) else real


def run_eager(
    model: PreTrainedModel, inputs: dict[str, Any], on_layer: Callable[[int], None] | None = None
) -> tuple[Any, list[LayerCapture]]:
    """One pass through a model's own eager attention → (output, layers with their weights alone).

    The model must be a shadow: it is watched, so that on_layer is called as its layers return their weights.
    Raises HeadlightError where those are not of tokens × tokens.
    """
    expected = lengths(inputs)  # before the pass, in which a cache grows
    key_counts = {keys for _, keys in expected.values()}
    seen: dict[int, tuple[str, Tensor]] = {}  # by id; the tensor too, so that no id is used twice

    def watch(name: str, output: Any) -> None:
        for part in output if isinstance(output, tuple | list) else ():
            if id(part) not in seen and isinstance(part, Tensor) and part.ndim == 4 and part.shape[3] in key_counts:
                # keys and values of a cache have four axes too, but do not sum to 1
                if abs(part[0, :, -1].float().sum(dim=-1).max().item() - 1) > 1e-2:
                    continue
                seen[id(part)] = name, part
                if on_layer is not None:
                    on_layer(len(seen))

    for name, module in model.named_modules():
        module.register_forward_hook(lambda module, args, output, name=name: watch(name, output))
    output = model(**{name: given for name, given in inputs.items() if name != "return_dict"}, output_attentions=True)
    maps = own_maps(output)
    problem = improper(maps, inputs, expected) if maps else "it returns no attention weights"
    if problem:
        raise HeadlightError(f"{type(model).__name__} cannot be shown by its weights: {problem}. {CHOOSE}")
    masks: dict[tuple[str, bool], Tensor | None] = {}
    layers = []
    for kind, number, weights in maps:
        name = seen[id(weights)][0] if id(weights) in seen else ""
        layers.append(_weights_alone(kind, number, weights, name, model, inputs, masks))
    for done in range(len(seen) + 1, len(layers) + 1):
        if on_layer is not None:
            on_layer(done)
    rest = {name: part for name, part in output.items() if not name.endswith("attentions")}
    return type(output)(**rest), layers


def _weights_alone(
    kind: str,
    number: int,
    weights: Tensor,
    module: str,
    model: PreTrainedModel,
    inputs: dict[str, Any],
    masks: dict[tuple[str, bool], Tensor | None],
) -> LayerCapture:
    """weights (1, heads, q, k) → their layer. Whether it is causal is read from the weights themselves."""
    recorded = weights[0].detach()
    _, queries, keys = recorded.shape
    real, open_keys = _reads(kind, "query", inputs, weights), _reads(kind, "key", inputs, weights)
    later = recorded.triu(1 + keys - queries)
    later = later if real is None else later[:, real]
    causal = kind != "cross" and not bool(later.any()) and (keys > 1 or model.can_generate())
    if (kind, causal) not in masks:  # one for all layers of a kind
        mask = None
        if open_keys is not None or (causal and keys > queries):
            mask = torch.ones(1, queries, keys, dtype=torch.bool, device=recorded.device)
            mask = mask.tril(keys - queries) if causal else mask
            mask = mask & open_keys if open_keys is not None else mask
        masks[kind, causal] = mask
    mask = masks[kind, causal]
    if mask is not None:  # a padding query that may look nowhere: zeros, as everywhere
        recorded = recorded.masked_fill(~mask.any(dim=-1, keepdim=True), 0.0)
    return LayerCapture(
        kind=kind if kind != "self" else "decoder" if causal else "encoder",
        layer=number,
        query=None,
        key=None,
        value=None,
        key_positions=torch.arange(keys),
        mask=mask,
        causal=causal and mask is None,
        module=module,
        recorded=recorded,
    )
