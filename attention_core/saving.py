"""Layers, outputs and labels ↔ tensors by name and plain facts, as a file holds them.

Nothing read is trusted: every fact's kind and every tensor's shape is checked, and what does not fit is refused.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .errors import HeadlightError
from .layer import LayerCapture

_VECTORS = ("query", "key", "value")
_TENSORS = (*_VECTORS, "key_positions", "bias", "mask", "sink", "recorded")
_LAYER = {"kind": "text", "layer": "count", "scaling": "number", "softcap": "number?", "causal": "switch"}
_LAYER |= {"sink_scales_output": "switch", "module": "text"}


class Output(dict[str, Any]):
    """What a model returned, as a file keeps it: tensors and tuples of tensors, by name or as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Writer:
    """Gives every tensor a name; one that several hold (a mask) gets one, and a broadcast one is kept once."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.expanded: dict[str, list[int]] = {}  # the shapes of tensors that are kept once and repeated
        self._names: dict[tuple[Any, ...], str] = {}

    def tensor(self, tensor: Tensor | None) -> str | None:
        if tensor is None:
            return None
        same = (tensor.data_ptr(), tensor.dtype, tensor.device, tuple(tensor.shape), tensor.stride())
        if tensor.numel() == 0 or same not in self._names:
            name = f"t{len(self.tensors)}"
            once = tensor
            for axis, step in enumerate(tensor.stride()):
                once = once.narrow(axis, 0, 1) if step == 0 and tensor.shape[axis] > 1 else once
            if once.shape != tensor.shape:
                self.expanded[name] = list(tensor.shape)
            self.tensors[name] = once
            self._names[same] = name
        return self._names[same]

    def layer(self, layer: LayerCapture) -> dict[str, Any]:
        facts = {name: getattr(layer, name) for name in _LAYER}
        return facts | {name: self.tensor(getattr(layer, name)) for name in _TENSORS}

    def output(self, output: Any) -> Any:
        """Names of tensors in the shape of the output; what is no tensor and no tuple of tensors is left out."""
        if isinstance(output, Mapping):
            parts = {str(name): self.output(part) for name, part in output.items()}
            return {name: part for name, part in parts.items() if part is not None}
        if isinstance(output, list | tuple):
            parts_of = [self.output(part) for part in output]
            return None if any(part is None for part in parts_of) else parts_of
        return self.tensor(output) if isinstance(output, Tensor) else None


class Reader:
    """The other way round: facts and tensors of a file, each checked before it is used."""

    def __init__(self, tensors: dict[str, Tensor], facts: dict[str, Any]):
        self.facts, self.tensors = facts, dict(tensors)
        for name, shape in self.mapping("expanded").items():
            _fits(name in tensors and _is(shape, "counts"), f"the shape of {name!r}")
            _fits(len(shape) == tensors[name].ndim, f"the shape of {name!r}")
            pairs = zip(tensors[name].shape, shape, strict=True)
            _fits(all(have in (1, want) for have, want in pairs), f"the shape of {name!r}")
            self.tensors[name] = tensors[name].expand(shape)

    def tensor(self, name: Any) -> Tensor:
        _fits(isinstance(name, str) and name in self.tensors, f"the tensor {name!r}")
        return self.tensors[name]

    def mapping(self, name: str) -> dict[str, Any]:
        _fits(isinstance(self.facts.get(name), dict), name)
        return self.facts[name]

    def count(self, name: str) -> int:
        _fits(isinstance(self.facts.get(name), list), name)
        return len(self.facts[name])

    def fact(self, name: str, kind: str) -> Any:
        _fits(name in self.facts and _is(self.facts[name], kind), name)
        return self.facts[name]

    def record(self, name: str, kinds: dict[str, str]) -> dict[str, Any]:
        return _checked(self.mapping(name), kinds, name)

    def output(self) -> Output:
        self.mapping("output")
        return self._output(self.facts["output"], 0)

    def _output(self, part: Any, depth: int) -> Any:
        _fits(depth < 8, "the output")
        if isinstance(part, dict):
            return Output({name: self._output(inner, depth + 1) for name, inner in part.items()})
        return tuple(self._output(p, depth + 1) for p in part) if isinstance(part, list) else self.tensor(part)

    def layer(self, n: int) -> LayerCapture:
        facts, where = self.facts["layers"][n], f"layer entry {n}"
        _fits(isinstance(facts, dict), where)
        plain = _checked(facts, _LAYER, where)
        _fits(plain["kind"] in ("encoder", "decoder", "cross"), where)
        held = {name: None if facts.get(name) is None else self.tensor(facts[name]) for name in _TENSORS}
        _fit_layer(held, where)
        return LayerCapture(**plain, **held)  # type: ignore[arg-type]

    def fit_labels(self, inputs: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """As many labels as tokens."""
        for ids, names in (
            ("input_ids", ("tokens", "words", "segments", "special")),
            ("decoder_input_ids", ("target_tokens", "target_words")),
        ):
            lengths = {len(facts[name]) for name in names if facts[name] is not None}
            if ids in inputs:
                lengths.add(inputs[ids].numel())
            _fits(len(lengths) <= 1, f"the number of {names[0]}")


def _fit_layer(held: dict[str, Tensor | None], where: str) -> None:
    """The shapes of a layer's tensors, each against the others."""
    query, key, value, positions, bias, mask, sink, recorded = (held[name] for name in _TENSORS)
    if recorded is not None:
        _fits(query is None and key is None and value is None and recorded.ndim == 3, where)
        heads, queries, keys = recorded.shape
        _fits(recorded.is_floating_point(), where)
    else:
        _fits(query is not None and key is not None and value is not None, where)
        assert query is not None and key is not None and value is not None
        _fits(all(t.ndim == 3 and t.is_floating_point() for t in (query, key, value)), where)
        (heads, queries), (groups, keys) = query.shape[:2], key.shape[:2]
        _fits(groups > 0 and heads % groups == 0, where)
        _fits(query.shape[2] == key.shape[2] and value.shape[:2] == key.shape[:2], where)
    _fits(heads > 0 and queries > 0 and keys > 0, where)
    _fits(positions is not None and positions.shape == (keys,) and positions.dtype == torch.long, where)
    for added in (bias, mask):
        if added is not None:
            _fits(added.ndim == 3 and added.shape[2] == keys, where)
            _fits(added.shape[0] in (1, heads) and added.shape[1] in (1, queries), where)
    _fits(bias is None or bias.is_floating_point(), where)
    _fits(mask is None or mask.is_floating_point() or mask.dtype == torch.bool, where)
    _fits(sink is None or sink.shape in ((heads,), (heads, queries)), where)


def _checked(facts: dict[str, Any], kinds: dict[str, str], where: str) -> dict[str, Any]:
    for name, kind in kinds.items():
        _fits(name in facts and _is(facts[name], kind), f"{where}: {name}")
    return {name: facts[name] for name in kinds}


def _is(value: Any, kind: str) -> bool:
    """Whether a value that JSON gave is of a kind: "text", "count", "number", "switch"; "…s" a list, "…?" or None."""
    if kind.endswith("?"):  # a list may lack single values too
        inner = kind[:-1]
        if inner == "counts":
            return value is None or (isinstance(value, list) and all(_is(v, "count?") for v in value))
        return value is None or _is(value, inner)
    if kind == "shares":
        pairs = value if isinstance(value, list) else [None]
        return all(isinstance(p, list) and len(p) == 2 and _is(p[0], "text") and _is(p[1], "number") for p in pairs)
    if kind in ("texts", "counts", "switches"):
        single = {"texts": "text", "counts": "count", "switches": "switch"}[kind]
        return isinstance(value, list) and all(_is(v, single) for v in value)
    if kind == "switch":
        return isinstance(value, bool)
    if kind == "count":
        return type(value) is int and 0 <= value < 1 << 62
    return isinstance(value, str) if kind == "text" else type(value) in (int, float)


def _fits(condition: bool, what: str) -> None:
    if not condition:
        raise HeadlightError(f"The file holds no recorded run that fits together ({what}): record and save it again.")
