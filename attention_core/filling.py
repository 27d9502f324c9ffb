"""A Worksheet filled in: the Capture's own vectors, and what the model did around them, asked of the model itself."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from .attention import blend, masked
from .checking import TOLERANCE
from .errors import HeadlightError
from .layer import LayerCapture
from .record import Capture
from .tracing import Call, Trace, trace
from .wiring import Piece, linear_part, path_to, weight_of, wiring
from .worksheet import Added, Around, Made, Origin, Rotation, Worksheet

RECORDED = "A recording holds queries, keys and values, but not the model that made them."
MOST_SUBSETS = 10  # parts of a layer of which every sum is tried


def fill_worksheet(
    capture: Capture,
    entry: int,
    head: int,
    token: int,
    model: PreTrainedModel | None = None,
    seen: Trace | None = None,
) -> Worksheet:
    """The worksheet of one row: entry of capture.layers, head, query token (row).

    model: the one that the Capture is of; without it (a recording) the row is there, its way in and out is not.
    seen: trace() of this entry, if it is at hand.
    Raises HeadlightError where the model hands out its weights alone, or there is no such entry, head or token.
    """
    layer = capture.layers[entry] if 0 <= entry < len(capture.layers) else None
    if layer is None or not 0 <= head < layer.heads or not 0 <= token < layer.shape[1]:
        raise HeadlightError(f"There is no layer entry {entry} with a head {head} and a token {token} here.")
    if layer.query is None or layer.key is None or layer.value is None:
        raise HeadlightError(
            "This model hands out its weights alone, so the way to them cannot be followed. "
            f"{capture.check.reason} Choose a model that hands out its queries and keys."
        )
    if model is not None and seen is None:
        seen = trace(model, capture.inputs, entry, layer.module)
    if seen is not None and seen.layer.shape != layer.shape:
        raise HeadlightError(
            "This text was read behind another one that was kept in a cache, and the cache is not in the Capture. "
            "Capture the whole text at once."
        )
    row, every, one = slice(token, token + 1), slice(None), slice(head, head + 1)
    shared = layer.key_value_head(head)
    visible, bias, sink = layer.visible(one, row, every), layer.added(one, row, every), _sink_of(layer, head, token)
    keys = layer.shape[2]
    missing: dict[str, str] = {}
    origins: dict[str, Origin] = {}
    if model is None or seen is None:
        missing = dict.fromkeys(("query", "key", "value", "weights", "added", "around"), RECORDED)
    else:
        origins = _origins(model, entry, head, seen, missing)
    blended = _every_head(layer, token)
    return Worksheet(
        layer=layer,
        head=head,
        token=token,
        query_token=capture.query_tokens(entry)[token],
        key_tokens=capture.key_tokens(entry),
        query=_plain(layer.query[head, token]),
        keys=_plain(layer.key[shared]),
        values=_plain(layer.value[shared]),
        visible=torch.ones(keys, dtype=torch.bool) if visible is None else visible[0, 0].cpu().expand(keys),
        bias=None if bias is None else _plain(bias[0, 0]).expand(keys),
        sink=sink,
        origins=origins,
        rotation=_rotation(layer, head, token, origins, seen),
        added=None if seen is None else _added(seen, head, token, blended, missing),
        around=None if seen is None else _around(seen, token),
        own=() if seen is None else _own(seen, head, token, blended, missing),
        bound=_bound(layer),
        missing=missing,
    )


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().float().cpu()


def _bound(layer: LayerCapture) -> float:
    """1e-5 in float32; in 16 bits what a handful of roundings may do."""
    assert layer.query is not None
    return max(TOLERANCE, 16 * torch.finfo(layer.query.dtype).eps)


def _sink_of(layer: LayerCapture, head: int, token: int) -> float | None:
    if layer.sink is None:
        return None
    return float(layer.sink[head] if layer.sink.ndim == 1 else layer.sink[head, token])


def _every_head(layer: LayerCapture, token: int) -> Tensor:
    """(heads, value head_dim): the outputs of all heads at one token, recomputed."""
    assert layer.value is not None
    weights = layer.weights(slice(None), slice(token, token + 1), slice(None))  # (heads, 1, keys)
    value = layer.value.repeat_interleave(layer.heads // layer.value.shape[0], dim=0)  # (heads, keys, value head_dim)
    blended = blend(weights, value)[:, 0]
    if layer.sink is not None and layer.sink_scales_output:
        row, every = slice(token, token + 1), slice(None)
        total = masked(layer.scores(every, row, every), layer.visible(every, row, every)).logsumexp(dim=-1)[:, 0]
        sink = layer.sink if layer.sink.ndim == 1 else layer.sink[:, token]
        blended = blended * torch.sigmoid(total - sink.to(total))[:, None]
    return _plain(blended)


def _origins(model: PreTrainedModel, entry: int, head: int, seen: Trace, missing: dict[str, str]) -> dict[str, Origin]:
    origins = {}
    for which in ("query", "key", "value"):
        found = wiring(model, entry, seen.layer.module, head, which)
        pieces = [_made(seen, piece) for piece in found.pieces] if found is not None else [None]
        if found is None or None in pieces:
            missing[which] = (
                f"No module of the layer gives this {which} as it is used: the model changes it on the way, by a "
                "rotation that it does not hand over or by another step of its own."
            )
            continue
        table = None if seen.turning is None else (_plain(seen.turning[0]), _plain(seen.turning[1]))
        size = sum(len(piece.components) for piece in found.pieces)
        kept = tuple(piece for piece in pieces if piece is not None)
        origins[which] = Origin(kept, size, found.turning, table if found.turning is not None else None)
    return origins


def _made(seen: Trace, piece: Piece) -> Made | None:
    found = linear_part(seen.before, piece) if piece.call < len(seen.before) else None
    if found is None:
        return None
    at, columns, then = found
    call = seen.before[at]
    weight, bias = weight_of(call.module), getattr(call.module, "bias", None)
    assert weight is not None
    passed = None
    if then:
        whole = functional.linear(_plain(call.given), _plain(weight), None if bias is None else _plain(bias))
        for place, read in then:
            step = seen.before[place]
            whole = step.again(whole[:, read].to(step.given.device))
        passed = _plain(whole[:, piece.columns])
    return Made(
        path=tuple(path_to(seen.before, at, seen.hidden)),
        then=tuple(seen.before[place].name for place, _ in then),
        components=tuple(piece.components),
        given=_plain(call.given),
        weight=_plain(weight[columns]),
        bias=None if bias is None else _plain(bias[columns]),
        factor=piece.factor,
        passed=passed,
    )


def _rotation(
    layer: LayerCapture, head: int, token: int, origins: dict[str, Origin], seen: Trace | None
) -> Rotation | None:
    origin = origins.get("query")
    if seen is None or origin is None or origin.turning is None or origin.table is None or layer.key is None:
        return None
    cos, sin = origin.turning.angles(origin.table)
    queries, keys = layer.shape[1:]
    return Rotation(
        turning=origin.turning,
        query_before=origin.before(token),
        angles=torch.atan2(sin[token], cos[token]),
        position=int(layer.key_positions[-1]) + 1 - queries + token if layer.kind != "cross" else token,
        turns=None if seen.turns is None else (_plain(seen.turns[0]), _plain(seen.turns[1])),
        keys=_plain(layer.key[layer.key_value_head(head)]),
        scaling=layer.scaling,
    )


def _projection(seen: Trace) -> Call | None:
    """The linear module that reads the blended values of all heads side by side."""
    queries, heads, size = seen.own.output.shape[1:]
    blended = seen.own.output[0].reshape(queries, heads * size)
    for call in seen.after:
        linear = weight_of(call.module) is not None and call.given.shape == blended.shape
        if linear and torch.equal(call.given, blended):
            return call
    return None


def _added(seen: Trace, head: int, token: int, blended: Tensor, missing: dict[str, str]) -> Added | None:
    call = _projection(seen)
    weight = None if call is None else weight_of(call.module)
    if call is None or weight is None:
        missing["added"] = (
            "This model changes what its heads blended before it is projected (a gate, a difference of two maps or a "
            "norm), so what one head adds cannot be told apart."
        )
        return None
    parts = _plain(weight).reshape(weight.shape[0], *blended.shape)  # (hidden, heads, value head_dim)
    bias = getattr(call.module, "bias", None)
    additions = torch.einsum("nhd,hd->hn", parts, blended)
    return Added(call.name, parts[:, head], additions, None if bias is None else _plain(bias))


def _own(
    seen: Trace, head: int, token: int, blended: Tensor, missing: dict[str, str]
) -> tuple[tuple[str, Tensor, Tensor], ...]:
    """What the model computed itself, beside what its modules make of our numbers."""
    found: list[tuple[str, Tensor, Tensor]] = []
    nothing = torch.empty(0)
    try:
        with torch.no_grad():
            _, weights = seen.own.eager(slice(token, token + 1))
        found.append(("weights", nothing, _plain(weights[0, head, 0])))
    except (HeadlightError, RuntimeError, TypeError, ValueError) as problem:
        missing["weights"] = f"The model's file has no attention that returns its weights for one row: {problem}"
    found.append(("head output", nothing, _plain(seen.own.output[0, token, head])))
    call = _projection(seen)
    if call is not None:
        with torch.no_grad():
            ours = call.module(blended.reshape(1, -1).to(call.given))[0]
        found.append(("attention output", _plain(ours), _plain(call.made[token])))
    replaced = seen.own.output[0].clone()
    replaced[token] = blended.to(replaced)
    found.append(("layer output", _plain(seen.again(replaced)[token]), _plain(seen.left[token])))
    return tuple(found)


def _around(seen: Trace, token: int) -> Around:
    parts = tuple((part.name, part.kind, _plain(part.made[token])) for part in seen.parts)
    entered, left = _plain(seen.entered[token]), _plain(seen.left[token])
    positions = None if seen.added is None else (seen.added[0], _plain(seen.added[1][token]))
    adds = summands(entered, left, [part for _, _, part in parts], torch.finfo(seen.left.dtype).eps)
    return Around(entered, left, parts, adds, positions)


def summands(entered: Tensor, left: Tensor, parts: Sequence[Tensor], eps: float) -> frozenset[int] | None:
    """Which of the parts, added to what entered, make what left. eps: of the model's numbers."""
    parts = [part if part.shape == left.shape else torch.full_like(left, torch.inf) for part in parts[:MOST_SUBSETS]]
    subsets = [[n for n in range(len(parts)) if chosen >> n & 1] for chosen in range(1, 1 << len(parts))]
    # the nearest: beside a residual stream of tens of thousands a part may be small
    apart = [float((entered + torch.stack([parts[n] for n in s]).sum(dim=0) - left).abs().max()) for s in subsets]
    if not apart or min(apart) > max(1e-4, 2 * eps) * float(left.abs().max()):
        return None
    return frozenset(subsets[apart.index(min(apart))])
