"""The one seam into a model: its attention function, looked up by name in transformers' AttentionInterface.

Ours computes what the model's own would (torch's sdpa, or the model's eager function where sdpa does not serve it) and
keeps the query, key and value of each call when a recorder is set in this thread. Nothing is monkeypatched and no
architecture is named.
"""

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import eager_mask, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .errors import HeadlightError
from .layer import LayerCapture, masked_below

SEAM = "headlight"  # masks may be None: causal or full, as the module says
SEAM_EXPLICIT = "headlight_explicit"  # every mask is made: for modules that do not say it rightly
SEAM_ADDED = "headlight_added"  # masks are numbers added to the scores: for modules that read them as such
ROWS_AT_ONCE = 256  # of a model's own eager attention, so that no (tokens × tokens) array is made
CHOOSE = "Choose a model that reads text and attends through transformers' attention interface (GPT-2, Llama, BERT …)."


class Recorder:
    """Collects the calls of one forward pass in the thread that runs it."""

    def __init__(
        self,
        model: PreTrainedModel,
        past: int,
        copies: bool,
        on_layer: Callable[[int], None] | None,
        own_eager: bool = False,
    ):
        self.own_eager = own_eager  # run the model file's eager function: its very rounding, for the self-check
        self.instead: Callable[[int, Tensor], Tensor] | None = None  # what the model gets in place of an output
        self.call: OwnCall | None = None  # the last one
        self.names = {id(module): name for name, module in model.named_modules()}
        self.two_stacks = bool(model.config.is_encoder_decoder)
        self.past, self.copies, self.on_layer = past, copies, on_layer
        self.layers: list[LayerCapture] = []

    def add(self, module: nn.Module, key: Tensor, value: Tensor, query: Tensor, **changes: Any) -> None:
        name = self.names.get(id(module), type(module).__name__)
        kind = self._kind(name, module, query, key, changes)
        number = getattr(module, "layer_idx", None)
        if not isinstance(number, int):
            number = sum(layer.kind == kind for layer in self.layers)
        first = 0
        if kind == "decoder":
            first = max(0, self.past + query.shape[2] - key.shape[2])
        self.layers.append(
            LayerCapture(
                kind=kind,
                layer=number,
                query=_kept(query[0], self.copies),
                key=_kept(key[0], self.copies),
                value=_kept(value[0], self.copies),
                key_positions=torch.arange(first, first + key.shape[2]),
                module=name,
                **changes,
            )
        )
        if self.on_layer is not None:
            self.on_layer(len(self.layers))

    def _kind(self, name: str, module: nn.Module, query: Tensor, key: Tensor, changes: dict[str, Any]) -> str:
        path = name.lower().split(".")
        crossing = ("cross", "encoder_attn", "encdec", "enc_dec", "encoder_decoder_attention")
        if getattr(module, "is_cross_attention", False) is True or any(c in part for part in path for c in crossing):
            return "cross"
        if self.two_stacks:
            return next((part for part in path if part in ("encoder", "decoder")), "decoder")
        mask = changes["mask"]
        if mask is not None and query.shape[2] > 1 and query.shape[2] == key.shape[2]:
            seen = mask if mask.dtype == torch.bool else mask > masked_below(mask.dtype)
            return "encoder" if bool(seen[0, 0, 1:].any()) and bool(seen[0].triu(1).any()) else "decoder"
        causal = changes["causal"] or self.past > 0 or bool(getattr(module, "is_causal", False))
        return "decoder" if causal else "encoder"


def _kept(tensor: Tensor, copies: bool) -> Tensor:
    """The tensor itself, or a copy where it would keep a larger one alive (a fused q, k, v) or its cache may change."""
    part_of_larger = tensor.untyped_storage().nbytes() > tensor.nbytes
    return tensor.clone(memory_format=torch.contiguous_format) if copies or part_of_larger else tensor


@dataclass(frozen=True, eq=False)
class OwnCall:
    """A call of a model's attention as it came: its attention can be run once more by the model file's own code."""

    module: nn.Module
    query: Tensor  # (1, heads, q, head_dim)
    key: Tensor  # (1, key-value heads, k, head_dim)
    value: Tensor  # (1, key-value heads, k, head_dim)
    mask: Tensor | None
    causal: bool
    scaling: float
    output: Tensor  # (1, q, heads, head_dim) what the model went on with
    more: dict[str, Any]

    def eager(self, rows: slice) -> tuple[Tensor, Tensor]:
        """The file's eager_attention_forward on some rows → output (1, rows, heads, head_dim), weights (1, heads, rows,
        k). HeadlightError where it has none."""
        given = self.module, self.query, self.key, self.value, self.mask, self.causal, self.scaling, 0.0, self.more
        return _own_eager_rows(*given, rows)


_RECORDER: ContextVar[Recorder | None] = ContextVar("headlight_recorder", default=None)


def _attend(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    """The attention function that transformers calls. query (batch, heads, q, head_dim), key and value (batch,
    key-value heads, k, head_dim), unrepeated → output (batch, q, heads, head_dim), None."""
    softcap = kwargs.get("softcap")
    sink = next(
        (
            s
            for s in (kwargs.get("s_aux"), kwargs.get("sinks"), getattr(module, "sinks", None))
            if isinstance(s, Tensor)
        ),
        None,
    )
    causal = kwargs.get("is_causal")
    causal = bool(getattr(module, "is_causal", True) if causal is None else causal)
    causal = causal and attention_mask is None and query.shape[2] > 1
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    selected = kwargs.pop("indices", None)
    if selected is not None:
        attention_mask, causal = _only_selected(selected, attention_mask, causal, query, key), False
    recorder, scales_output = _RECORDER.get(), False
    if softcap is None and sink is None and not (recorder is not None and recorder.own_eager):
        sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]
        output, _ = sdpa(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)
    else:
        output, row_sum = _own_eager(module, query, key, value, attention_mask, causal, scaling, dropout, kwargs)
        scales_output = sink is not None and bool((row_sum - 1).abs().max() < 1e-6)
    if recorder is not None:
        bias = kwargs.get("position_bias")
        recorder.add(
            module,
            key,
            value,
            query,
            scaling=float(scaling),
            softcap=softcap,
            bias=None if bias is None else bias[0],
            mask=None if attention_mask is None else attention_mask[0],
            causal=causal,
            sink=None if sink is None else _sink_score(sink, query.shape[1]),
            sink_scales_output=scales_output,
        )
        recorder.call = OwnCall(module, query, key, value, attention_mask, causal, float(scaling), output, kwargs)
        if recorder.instead is not None:
            output = recorder.instead(len(recorder.layers) - 1, output)
    return output, None


def _only_selected(selected: Tensor, mask: Tensor | None, causal: bool, query: Tensor, key: Tensor) -> Tensor:
    """The mask of a module that looks at its best keys only: selected (batch, q, n) holds their indices."""
    if selected.shape[:2] != (query.shape[0], query.shape[2]):
        raise HeadlightError(f"keys are selected by indices of the shape {tuple(selected.shape)}, which is not known.")
    shape = (*selected.shape[:2], key.shape[2])
    chosen = torch.zeros(shape, dtype=torch.bool, device=key.device).scatter(-1, selected.long(), True)[:, None]
    if mask is None:
        return chosen.tril() if causal else chosen
    return mask & chosen if mask.dtype == torch.bool else mask.masked_fill(~chosen, torch.finfo(mask.dtype).min)


def _sink_score(sink: Tensor, heads: int) -> Tensor:
    """(heads,), or (heads, query tokens) from one score or several for each query."""
    if sink.numel() == heads:
        return sink.detach().reshape(heads).float()
    return sink.detach()[0].float().logsumexp(dim=-1)


def _own_eager(module, query, key, value, mask, causal, scaling, dropout, kwargs) -> tuple[Tensor, Tensor]:
    """The model file's own eager function, a few rows at a time → output, and what the weights of the rows sum to."""
    outputs, sums = [], []
    for start in range(0, query.shape[2], ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        output, weights = _own_eager_rows(module, query, key, value, mask, causal, scaling, dropout, kwargs, rows)
        outputs.append(output)
        sums.append(weights.float().sum(dim=-1))
    return torch.cat(outputs, dim=1), torch.cat(sums, dim=2)


def _own_eager_rows(module, query, key, value, mask, causal, scaling, dropout, kwargs, rows) -> tuple[Tensor, Tensor]:
    """Some rows of it → output (batch, rows, heads, head_dim), weights (batch, heads, rows, k)."""
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if eager is None:
        raise HeadlightError(
            f"{type(module).__name__} has no eager attention to compute a soft cap or a learned sink with."
        )
    columns = torch.arange(key.shape[2], device=key.device)
    part = mask[:, :, rows] if mask is not None and mask.shape[2] > 1 else mask
    if causal:
        part = (columns <= torch.arange(query.shape[2], device=key.device)[rows, None])[None, None]
    if part is not None and part.dtype == torch.bool:
        part = torch.zeros(part.shape, dtype=query.dtype, device=part.device).masked_fill(
            ~part, torch.finfo(query.dtype).min
        )
    extra = dict(kwargs)
    for name in ("position_bias", "sinks"):
        if isinstance(extra.get(name), Tensor) and extra[name].ndim == 4 and extra[name].shape[2] > 1:
            extra[name] = extra[name][:, :, rows]
    return eager(module, query[:, :, rows], key, value, part, scaling=scaling, dropout=dropout, **extra)


def _explicit_mask(*args, **kwargs):
    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})


for _name, _mask in ((SEAM, sdpa_mask), (SEAM_EXPLICIT, _explicit_mask), (SEAM_ADDED, eager_mask)):
    AttentionInterface.register(_name, _attend)
    AttentionMaskInterface.register(_name, _mask)


def shadow(model: PreTrainedModel, implementation: str) -> PreTrainedModel:
    """The same model with another attention implementation: its own module tree and config, the very same tensors.

    The model itself is never switched, so other threads may run it meanwhile.
    """
    shared: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks)
        shared |= {id(hook): hook for kind in hooks for hook in kind.values()}
    for module in model.modules():
        offloaded = getattr(module, "_hf_hook", None)  # accelerate's: the map of weights that wait elsewhere
        for hook in getattr(offloaded, "hooks", [offloaded]):
            kept = (getattr(hook, "weights_map", None), getattr(hook, "tied_params_map", None))
            shared |= {id(part): part for part in kept if part is not None}
    twin = copy.deepcopy(model, shared)
    if implementation != "eager":
        twin.set_attn_implementation(implementation)
        return twin
    for module in twin.modules():  # some models refuse to be switched, but ask their config in each pass (Falcon)
        config: Any = getattr(module, "config", None)
        if isinstance(config, PreTrainedConfig):
            config._attn_implementation = implementation
    return twin


def input_device(model: PreTrainedModel) -> torch.device:
    """Where a model's inputs go: its weights may wait elsewhere ("meta"), and then its hooks move them."""
    return torch.device("cpu") if model.device.type == "meta" else model.device


def run_recorded(
    model: PreTrainedModel,
    inputs: dict[str, Any],
    on_layer: Callable[[int], None] | None = None,
    own_eager: bool = False,
) -> tuple[Any, list[LayerCapture]]:
    """One recorded forward pass → (output, layers). The model must already use the seam."""
    cache = inputs.get("past_key_values")
    recorder = Recorder(model, past_tokens(inputs), cache is not None, on_layer, own_eager)
    with recording(recorder):
        output = model(**inputs)
    if not recorder.layers:
        raise HeadlightError(
            f"{type(model).__name__} does not go through transformers' attention interface, so its queries, keys and "
            f"values cannot be seen. {CHOOSE}"
        )
    return output, recorder.layers


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """What this thread runs meanwhile is recorded."""
    token = _RECORDER.set(recorder)
    try:
        yield
    finally:
        _RECORDER.reset(token)


def past_tokens(inputs: dict[str, Any]) -> int:
    """How many tokens the cache among the inputs holds."""
    cache = inputs.get("past_key_values")
    return int(cache.get_seq_length()) if cache is not None else 0
