"""One forward pass after another: with the cache that the model makes, recorded, and without one for comparison.

Knows nothing about how a token is chosen.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache

from .errors import HeadlightError
from .language import LanguageModel
from .layer import LayerCapture
from .maps import own_maps
from .recording import accepted_inputs
from .seam import Recorder, input_device, recording, shadow


class _Recorder(Recorder):
    """Of many passes: what kind of call a module makes is found out in the first and then known."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._known: dict[int, LayerCapture] = {}  # by module
        self._positions: dict[tuple[int, int], Tensor] = {}  # of this pass: layers share them

    def restart(self, past: int, on_layer: Callable[[int], None] | None) -> None:
        self.layers, self.call, self._positions = [], None, {}
        self.past, self.on_layer = past, on_layer

    def add(self, module: nn.Module, key: Tensor, value: Tensor, query: Tensor, **changes: Any) -> None:
        known = self._known.get(id(module))
        if known is None:
            super().add(module, key, value, query, **changes)
            call = self.layers[-1]
            if call.kind == "encoder" and not self.two_stacks:  # one token does not say which way it looks
                self.layers[-1] = call = replace(call, kind="decoder")
            self._known[id(module)] = replace(call, query=None, key=None, value=None, bias=None, mask=None, sink=None)
            return
        count = key.shape[2]
        first = max(0, self.past + query.shape[2] - count) if known.kind == "decoder" else 0
        if (first, count) not in self._positions:
            self._positions[first, count] = torch.arange(first, first + count)
        same = known.kind, known.layer, query[0], key[0], value[0], self._positions[first, count]
        self.layers.append(LayerCapture(*same, module=known.module, **changes))
        if self.on_layer is not None:
            self.on_layer(len(self.layers))


class Pen:
    """Runs the model: with its cache, recorded, and without one."""

    def __init__(self, lm: LanguageModel, source: list[int]):
        model, way = lm.model, lm.check.implementation
        self._by_weights = way == "eager"  # a model that hands out its weights alone
        ours = model.config._attn_implementation == way and not self._by_weights
        self._model: Any = model if ours else shadow(model, way)
        self._device = input_device(model)
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted_inputs(model) else {}
        self._recorder = _Recorder(model, 0, copies=False, on_layer=None)
        self._source = source
        self._encoded: Any = None
        self.seconds_encoder = 0.0
        self._warm = False  # whether a pass without a cache was made
        self.cache: Any = None
        self.read = 0  # tokens that the cache has read

    def write(self, ids: list[int], on_layer: Callable[[int], None] | None) -> tuple[Tensor, list[LayerCapture], float]:
        """Read tokens behind those that the cache has → logits (vocabulary,), the attention's calls, seconds."""
        inputs = self._inputs(ids) | {"use_cache": True}
        if self.cache is not None:
            inputs["past_key_values"] = self.cache
            if self.cache.get_seq_length() != self.read:  # some count no tokens where their first layer keeps no rows
                places = torch.arange(self.read, self.read + len(ids), device=self._device)
                inputs["position_ids"] = places[None]
        try:
            output, seconds = self._recorded(inputs, on_layer)
        except IndexError:  # some make a cache with a place for each layer of the encoder: too few for a deeper decoder
            if self.cache is not None or not self._source:
                raise
            inputs["past_key_values"] = EncoderDecoderCache(DynamicCache(), DynamicCache())
            output, seconds = self._recorded(inputs, on_layer)
        self.cache = getattr(output, "past_key_values", None)
        if self.cache is None or not hasattr(self.cache, "get_seq_length"):
            raise HeadlightError(
                f"{type(self._model).__name__} keeps no cache of keys and values, so nothing is reused from step to "
                "step. Choose another decoder, such as small or smollm2-135m."
            )
        self.read += len(ids)
        calls = _weights_alone(output, self.read) if self._by_weights else self._recorder.layers
        self._recorder.restart(self.read, None)
        return output.logits[0, -1].detach().float().cpu().clone(), calls, seconds

    def _recorded(self, inputs: dict[str, Any], on_layer: Callable[[int], None] | None) -> tuple[Any, float]:
        self._recorder.restart(self.read, on_layer)
        began = time.perf_counter()
        with torch.no_grad(), recording(self._recorder):
            output = self._model(**inputs, **({"output_attentions": True} if self._by_weights else {}))
        return output, time.perf_counter() - began

    def without_cache(self, ids: list[int]) -> tuple[Tensor, float]:
        """All tokens so far in one pass → logits (vocabulary,), seconds. What the encoder gave is used again."""
        inputs = self._inputs(ids) | {"use_cache": False}
        with torch.no_grad():
            if not self._warm:  # the first pass of its kind is slow, and would be told as what a cache saves
                self._model(**inputs)
                self._warm = True
            began = time.perf_counter()
            output = self._model(**inputs)
        return output.logits[0, -1].detach().float().cpu(), time.perf_counter() - began

    def _inputs(self, ids: list[int]) -> dict[str, Any]:
        read = torch.tensor([ids], device=self._device)
        if not self._source:
            return {"input_ids": read} | self._last_only
        if self._encoded is None:
            began = time.perf_counter()
            with torch.no_grad():
                source = torch.tensor([self._source], device=self._device)
                self._encoded = self._model.get_encoder()(input_ids=source, return_dict=True)
            self.seconds_encoder = time.perf_counter() - began
        return {"encoder_outputs": self._encoded, "decoder_input_ids": read} | self._last_only


def _weights_alone(output: Any, read: int) -> list[LayerCapture]:
    """The weights that the model returned, where they are of queries × keys."""
    calls = []
    for kind, layer, weights in own_maps(output):
        if kind == "encoder" or not isinstance(weights, Tensor) or weights.ndim != 4:
            continue
        if kind != "cross" and weights.shape[3] > read:
            continue
        places = torch.arange(weights.shape[3])
        kind = "cross" if kind == "cross" else "decoder"
        calls.append(LayerCapture(kind, layer, None, None, None, places, recorded=weights[0].detach()))
    return calls
