"""Capture: the record of one forward pass, whole. It can be saved into one file and opened without the model.

Knows nothing about how a model is run.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from . import stored
from .errors import HeadlightError
from .layer import LayerCapture, thumbnail
from .saving import Reader, Writer


@dataclass(frozen=True)
class SelfCheck:
    """What the comparison with the model's own eager attention found on a short input."""

    weights: float  # largest absolute difference of an attention weight
    output: float  # largest absolute difference of the output, as a share of its largest value
    implementation: str  # the seam that was found exact, or "eager": weights alone
    calls: int = 0  # how often the model calls its attention in one pass
    reason: str = ""  # in words: why queries, keys and values are unavailable


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
    text: str = ""
    target_text: str = ""  # what the decoder of an encoder-decoder read
    second_text: str = ""  # the second text of a pair
    revision: str = ""  # of the model's weights
    likely: list[tuple[str, float]] = field(default_factory=list)  # the most likely next tokens
    predicts: bool = False  # whether the model gives a score for every next token
    words: list[int | None] | None = None  # the word of each token of input_ids; None: a special token
    target_words: list[int | None] | None = None  # the same of decoder_input_ids
    segments: list[int | None] | None = None  # which text of a pair (0 or 1) each token is of; None: a special token
    special: list[bool] | None = None  # which tokens of input_ids are special

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
        _, queries, keys = layer.shape
        shape = len(range(queries)[rows]), len(range(keys)[columns])
        return torch.ones(shape, dtype=torch.bool) if seen is None else seen[0].expand(shape).cpu()

    def thumbnails(self, size: int = 32) -> list[Tensor]:
        """One (heads, ≤ size, ≤ size) float32 per entry of `layers`: the largest weight of each bin of tokens."""
        return [thumbnail(layer, size).cpu() for layer in self.layers]

    def pooled(self, i: int, head: int, size: int) -> Tensor:
        """(≤ size, ≤ size) float32 on the CPU: the largest weight of each bin of tokens."""
        return thumbnail(self._layer(i), size, self._head(i, head))[0].cpu()

    def query_tokens(self, i: int) -> list[str]:
        """Display strings of the rows of layer entry i; plain numbers without a tokenizer."""
        labels = self.target_tokens if self._reads_target(i) else self.tokens
        count = self.layers[i].shape[1]
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

    def attentions(self, kind: str | None = None) -> tuple[Tensor, ...]:
        """The weights as transformers and BertViz have them: one (1, heads, query tokens, key tokens) float32 on the
        CPU per entry of `layers`, or per entry of one kind ("encoder", "decoder" or "cross")."""
        if kind not in (None, "encoder", "decoder", "cross"):
            raise HeadlightError(f"There is no kind of attention “{kind}”: choose encoder, decoder or cross.")
        every = slice(None)
        chosen = [layer for layer in self.layers if kind in (None, layer.kind)]
        return tuple(layer.weights(every, every, every).cpu()[None] for layer in chosen)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Everything in one safetensors file, no pickle: see to_bytes(). Written whole or not at all."""
        stored.write(path, self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """What save() wrote, equal to the bit, without the model. Raises HeadlightError: damaged, another version …"""
        return cls.from_bytes(stored.read(path))

    def to_bytes(self) -> bytes:
        """The contents of a file. Of the output: its tensors and tuples of tensors, by name; a cache is left out."""
        writer = Writer()
        facts = {name: getattr(self, name) for name in _FACTS}
        facts["check"] = asdict(self.check)
        facts["layers"] = [writer.layer(layer) for layer in self.layers]
        facts["inputs"] = {name: writer.tensor(tensor) for name, tensor in self.inputs.items()}
        facts["output"] = writer.output(self.output)
        return stored.pack(writer.tensors, {**facts, "expanded": writer.expanded})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The Capture that to_bytes() wrote; every tensor on the CPU, the output a mapping with attributes."""
        tensors, facts = stored.unpack(data)
        reader = Reader(tensors, facts)
        inputs = {name: reader.tensor(stored_as) for name, stored_as in reader.mapping("inputs").items()}
        layers = [reader.layer(n) for n in range(reader.count("layers"))]
        rest = {name: reader.fact(name, kind) for name, kind in _FACTS.items()}
        rest["likely"] = [(token, share) for token, share in rest["likely"]]
        check = reader.record("check", _CHECK)
        reader.fit_labels(inputs, rest)
        return cls(output=reader.output(), layers=layers, check=SelfCheck(**check), inputs=inputs, **rest)

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


# the kind of each plain field, as JSON holds it: checked when a file is opened
_FACTS = dict.fromkeys(("name", "text", "target_text", "second_text", "revision"), "text")
_FACTS |= {"left_out": "count", "characters": "count", "predicts": "switch", "likely": "shares"}
_FACTS |= dict.fromkeys(("tokens", "target_tokens"), "texts?") | {"special": "switches?"}
_FACTS |= dict.fromkeys(("words", "target_words", "segments"), "counts?")
_CHECK = {"weights": "number", "output": "number", "implementation": "text", "calls": "count", "reason": "text"}


def _labels(labels: list[str] | None, positions: Any, offset: int = 0) -> list[str]:
    inside = labels is not None and all(0 <= p - offset < len(labels) for p in positions)
    return [labels[p - offset] if inside and labels else str(p) for p in positions]


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
