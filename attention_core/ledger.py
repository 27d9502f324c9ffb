"""From a model's live cache and the recorded calls of its attention to rows that are held once: Ledger, one for a run.

Knows nothing about tokens. It asks the cache for tensors alone, so it serves whatever class the model itself makes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from .layer import LayerCapture
from .record import tensors_in
from .rows import Kept, Rows, follow, same_bits
from .run import DecodeStep, Reading

EVERY = slice(None)
EVERY_ROW = "keeps every row"


@dataclass(frozen=True, eq=False)
class Written:
    """What one pass did to the cache."""

    kept: tuple[Kept | None, ...]
    cross_kept: tuple[Kept | None, ...]
    readings: tuple[Reading, ...]
    cache_bytes: int
    state_bytes: int
    untouched: bool


@dataclass(eq=False)
class Ledger:
    """The rows of a run, each copied once; it may hold as many as `capacity` without growing."""

    capacity: int
    _rows: dict[tuple[str, int], Rows] = field(default_factory=dict)  # by kind and layer
    _states: bool = True  # whether there is anything beside rows; a cache without such a thing never gets one

    def write(self, cache: Any, calls: list[LayerCapture], read: int) -> Written:
        """After a pass, when the cache has read so many tokens. calls: the decoder's, in the model's order."""
        found, untouched, tensors = {}, True, list(cached(cache))
        by_layer: dict[tuple[str, int], list[int]] = {}
        for n, call in enumerate(calls):
            by_layer.setdefault((call.kind, call.layer), []).append(n)
        for kind, layer, key, value, lasting in tensors:
            mine = by_layer.get((kind, layer), [])
            (kept, seen), same = self._follow(kind, layer, key, value, [calls[n] for n in mine], read, lasting)
            found[kind, layer] = kept, {mine[n]: part for n, part in seen.items()}
            untouched &= same
        readings = []
        for n, call in enumerate(calls):
            _, seen = found.get((call.kind, call.layer), (None, {}))
            readings.append(_reading(call, seen.get(n), read))
        sides = {
            kind: tuple(found.get((kind, n), (None,))[0] for n in range(count)) for kind, count in _sizes(cache, calls)
        }
        held = sum(key.nbytes + value.nbytes for _, _, key, value, _ in tensors)
        return Written(sides["decoder"], sides.get("cross", ()), tuple(readings), held, _state_bytes(cache), untouched)

    def _follow(
        self, kind: str, layer: int, key: Tensor, value: Tensor, calls: list[LayerCapture], read: int, lasting: bool
    ) -> tuple[tuple[Kept, dict[int, tuple[Kept, bool]]], bool]:
        """The rows of one layer, and for each of its calls those that the last query could see, with whether the
        values that it blended are these rows' too. A call may see a row that a sliding layer forgets right after."""
        count = key.shape[1]
        first = read - count if kind == "decoder" else 0
        own_key, own_value, more, matched = key, value, 0, {}
        for n, call in enumerate(calls):
            fits = _ends_with(call.key, own_key)
            blends = fits and _ends_with(call.value, own_value)
            beyond = max(0, _visible_rows(call) - count) if fits and call.shape[2] > count else 0
            if fits and (blends or not beyond):
                matched[n] = beyond, blends
                if beyond > more:
                    assert call.key is not None and call.value is not None
                    more, key, value = beyond, call.key[:, -count - beyond :], call.value[:, -count - beyond :]
        room = key.shape[1] + (0 if lasting or kind == "cross" else self.capacity)
        rows, same = follow(self._rows.get((kind, layer)), key, value, first - more, room, lasting)
        self._rows[kind, layer] = rows
        kept = Kept(rows, first, first + count)
        seen = {
            n: (Kept(rows, first - beyond, first + count) if beyond else kept, blends)
            for n, (beyond, blends) in matched.items()
        }
        return (kept, seen), same

    def close(self) -> None:
        """Give back what was kept free for rows that did not come."""
        for rows in self._rows.values():
            rows.trim()


def _sides(cache: Any) -> list[tuple[str, Any]]:
    """The caches of the two kinds of attention in a decoder."""
    own, cross = getattr(cache, "self_attention_cache", cache), getattr(cache, "cross_attention_cache", None)
    return [("decoder", own)] if cross is None else [("decoder", own), ("cross", cross)]


def _sizes(cache: Any, calls: list[LayerCapture]) -> list[tuple[str, int]]:
    """How many layers each side has. A cache may have no place for layers that use another one's rows; that of an
    encoder-decoder may have as many as its encoder has layers."""
    sides = _sides(cache)
    sizes = []
    for kind, side in sides:
        called = 1 + max((call.layer for call in calls if call.kind == kind), default=-1)
        places = len(side.layers)
        sizes.append((kind, min(places, called) if len(sides) > 1 else max(places, called)))
    return sizes


def cached(cache: Any) -> Iterator[tuple[str, int, Tensor, Tensor, bool]]:
    """(kind, layer, key, value, lasting) of every layer that keeps rows; (key-value heads, rows, head_dim) each.
    lasting: transformers' plain layer, which joins old rows and new ones in a new tensor at each step."""
    for kind, side in _sides(cache):
        for n, layer in enumerate(side.layers):
            key, value = getattr(layer, "keys", None), getattr(layer, "values", None)
            if isinstance(key, Tensor) and isinstance(value, Tensor) and key.ndim == value.ndim == 4 and key.numel():
                yield kind, n, key[0], value[0], type(layer) is DynamicLayer


def _state_bytes(cache: Any) -> int:
    """Bytes of what it holds beside keys and values."""
    beside = [
        part
        for _, side in _sides(cache)
        for holder in (side, *side.layers)
        for name, part in vars(holder).items()
        if name not in ("layers", "keys", "values", "_sliding_window_tensor", "cumulative_length")
    ]
    return sum(tensor.nbytes for tensor in tensors_in(beside))


def layer_names(cache: Any, calls: list[LayerCapture], model: PreTrainedModel) -> tuple[str, ...]:
    """In words, what each layer of the decoder keeps."""
    kinds = getattr(model.config.get_text_config(decoder=True), "layer_types", None) or []
    names, (_, own) = [], _sides(cache)[0]
    rows = {n for kind, n, *_ in cached(cache) if kind == "decoder"}
    for n in range(_sizes(cache, calls)[0][1]):
        layer = own.layers[n] if n < len(own.layers) else None
        kind = str(kinds[n]).replace("_", " ") if n < len(kinds) else ""
        state = hasattr(layer, "conv_states") or hasattr(layer, "recurrent_states")
        if n not in rows:
            shares = not state and kind in ("", "full attention", "sliding attention")
            what = "uses the rows of another layer" if shares else "keeps a state of fixed size and no rows"
            names.append(f"{kind}: {what}" if kind else what)
        elif layer is not None and getattr(layer, "is_sliding", False):
            window = int(layer.sliding_window)
            names.append(f"sliding window of {window}: keeps the last {window - 1} rows")
        else:
            names.append(EVERY_ROW + (", and a state beside them" if state else ""))
    return tuple(names)


def _ends_with(whole: Tensor | None, tail: Tensor) -> bool:
    """Whether the last rows of `whole` (key-value heads, rows, head_dim) are the tail, bit for bit."""
    if whole is None or whole.shape[1] < tail.shape[1]:
        return False
    if whole.data_ptr() == tail.data_ptr() and whole.shape == tail.shape and whole.stride() == tail.stride():
        return True
    if (whole.shape[0], whole.shape[2]) != (tail.shape[0], tail.shape[2]):
        return False
    end = whole.narrow(1, whole.shape[1] - tail.shape[1], tail.shape[1])
    return (end.data_ptr() == tail.data_ptr() and end.stride() == tail.stride()) or same_bits(end, tail)


def _visible_rows(call: LayerCapture) -> int:
    """How many of the last keys there are up to the first that the last query may look at."""
    _, queries, keys = call.shape
    seen = call.visible(EVERY, slice(queries - 1, queries), EVERY)  # (1 or heads, 1, keys)
    if seen is None or bool(seen[..., 0].any()):
        return keys
    places = seen.flatten(0, 1).any(dim=0).nonzero()
    return keys - int(places[0]) if len(places) else keys


def _reading(call: LayerCapture, seen: tuple[Kept, bool] | None, read: int) -> Reading:
    """The last query of a call; on rows of the cache where its keys are such, else with its weights."""
    _, queries, keys = call.shape
    last = slice(queries - 1, queries)
    plain = call.kind, call.layer, call.module
    query = None if call.query is None else _alone(call.query[:, last] if queries > 1 else call.query)
    if seen is None:
        first = read - keys if call.kind == "decoder" else 0
        weights = call.weights(EVERY, last, EVERY).clone()
        return Reading(*plain, range(first, first + keys), query, recorded=weights)
    kept, blends = seen
    columns = slice(keys - (kept.stop - kept.start), keys)
    mask = None if call.mask is None else call.mask[:, -1:, columns]
    if mask is not None and bool((mask if mask.dtype == torch.bool else mask == 0).all()):
        mask = None
    bias = None if call.bias is None else call.bias[:, -1:, columns].clone()
    sink = call.sink if call.sink is None or call.sink.ndim == 1 else call.sink[:, -1:].clone()
    return Reading(
        *plain,
        kept.positions,
        query,
        kept=kept,
        has_values=blends,
        scaling=call.scaling,
        softcap=call.softcap,
        bias=bias,
        mask=None if mask is None else mask.clone(),
        sink=sink,
        sink_scales_output=call.sink_scales_output,
    )


def _alone(tensor: Tensor) -> Tensor:
    """The tensor, or a copy where it would keep a larger one alive."""
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor


def refilled(model: PreTrainedModel, step: DecodeStep) -> Any:
    """A cache as it was after a step, made from its rows; None where rows alone do not make it: a window that has
    forgotten some, a state beside them, a class of the model's own."""
    own = DynamicCache(config=model.config.get_text_config(decoder=True))
    if len(own.layers) != len(step.kept) and all(name == EVERY_ROW for name in step.facts.layers):
        own = DynamicCache()  # the config counts the layers of the encoder; plain layers are made as they are filled
    sides = [(step.kept, own)]
    if step.cross_kept:
        sides.append((step.cross_kept, DynamicCache()))
    if step.facts.cache != (EncoderDecoderCache if step.cross_kept else DynamicCache).__name__:
        return None
    for kept, cache in sides:
        if cache.layers and len(cache.layers) != len(kept):
            return None
        for layer in cache.layers:
            plain = type(layer) is DynamicLayer
            if not plain and not (type(layer) is DynamicSlidingWindowLayer and step.read < layer.sliding_window):
                return None
        for n, part in enumerate(kept):
            if part is None or (cache is own and (part.start, part.stop) != (0, step.read)):
                return None
            key, value = part.tensors
            cache.update(key[None].to(model.device), value[None].to(model.device), n)
    return EncoderDecoderCache(*(cache for _, cache in sides)) if step.cross_kept else own
