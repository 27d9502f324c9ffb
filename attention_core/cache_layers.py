"""What each layer of a model keeps of a text, read from its config alone.

transformers is asked which cache layer it makes for each layer of a config (DynamicCache(config=…).layers: growing,
sliding, with a recurrent state, none); heads and widths of a row come from the layer's own config. The rows are the
same after one prefill and after reading token by token. Runs no model, and knows nothing about bytes.
"""

import importlib
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig
from transformers.cache_utils import (
    DummyLayer,
    DynamicCache,
    DynamicSlidingWindowLayer,
    LinearAttentionCacheLayerMixin,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from .errors import HeadlightError

HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KEY_VALUE_HEADS = ("num_key_value_heads", "num_kv_heads")
HEAD_DIM = ("head_dim", "attention_head_dim", "d_kv", "kv_channels")
HIDDEN = ("hidden_size", "d_model", "n_embd")
DECODER_LAYERS = ("num_decoder_layers", "decoder_layers")
STATE_SPACE = ("mamba_d_state", "state_size", "ssm_state_size", "mamba_state_dim")


@dataclass(frozen=True)
class Row:
    """One cached row of a layer: keys are (heads, key_width), values (heads, value_width)."""

    heads: int
    key_width: int
    value_width: int

    @property
    def numbers(self) -> int:
        return self.heads * (self.key_width + self.value_width)


NO_ROW = Row(0, 0, 0)


@dataclass(frozen=True)
class LayerCache:
    """What one layer keeps of each sequence. Keys are (batch, heads, rows, key_width), values likewise."""

    layer: int
    side: str  # "decoder", or "cross": of the encoder's tokens, written once
    kind: str  # "full", "sliding", "latent" or "none"
    rows: int
    row: Row
    paper_rows: int  # as the architecture's paper keeps them
    paper_row: Row
    per_head: Row  # what each query head would keep without sharing or compression
    window: int | None = None  # the rows that a query may look at, itself included
    note: str = ""  # why it keeps none, or what it keeps beside keys and values

    @property
    def numbers(self) -> int:
        return self.rows * self.row.numbers

    @property
    def paper_numbers(self) -> int:
        return self.paper_rows * self.paper_row.numbers


def layer_caches(config: PreTrainedConfig, tokens: int, encoder_tokens: int | None = None) -> tuple[LayerCache, ...]:
    """One entry a decoder layer; behind them, of an encoder-decoder, one a layer of cross-attention."""
    encoder_tokens = tokens if encoder_tokens is None else encoder_tokens
    if min(tokens, encoder_tokens) < 0:
        raise HeadlightError("A text has no negative number of tokens: choose 0 or more.")
    made = list(_made_layers(config))
    layers = [_layer(*each, tokens) for each in made]
    if config.is_encoder_decoder:
        for place, _, own in made:
            rows = _cached_row(own, False), encoder_tokens, _computed_row(own, False), _per_head(own, False)
            layers.append(LayerCache(place, "cross", "full", encoder_tokens, *rows))
    return tuple(layers)


# ── which layers transformers makes ─────────────────────────────────────────────────────────────────────────────────


def _made_layers(config: PreTrainedConfig) -> Iterator[tuple[int, Any, PreTrainedConfig]]:
    """(layer, transformers' cache layer, the layer's own config) of the part that writes text."""
    text = config.get_text_config(decoder=True)
    if not config.is_encoder_decoder and _is_encoder(text):
        raise HeadlightError(
            f"{config.model_type} reads the whole text at once and writes nothing, so it keeps no keys and values: "
            "choose a decoder to see a cache."
        )
    try:
        layers = _first(config, DECODER_LAYERS) if config.is_encoder_decoder else None
        if layers is not None and layers != text.num_hidden_layers:
            text = deepcopy(text)
            text.num_hidden_layers = layers
        yield from zip(range(text.num_hidden_layers), _cache_layers(text), text.per_layer_config, strict=True)
    except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        raise HeadlightError(
            f"transformers does not say what {text.model_type} keeps of each token ({error}): choose another model."
        ) from error


def _cache_layers(text: PreTrainedConfig) -> list[Any]:
    try:
        return DynamicCache(config=text).layers
    except KeyError:  # a few models bring a cache layer of their own, known once their code is imported
        importlib.import_module(type(text).__module__.replace(".configuration_", ".modeling_"))
        return DynamicCache(config=text).layers


def _is_encoder(config: PreTrainedConfig) -> bool:
    """Whether it fills in masked words or reads other things than text, and was not set to write (is_decoder)."""
    masked, writes = (
        config.model_type in names for names in (MODEL_FOR_MASKED_LM_MAPPING_NAMES, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    )
    # asked of the class: old files carry both words for every kind of model
    kind = type(config)
    if hasattr(kind, "is_decoder") and (masked or hasattr(kind, "add_cross_attention")):
        return not config.is_decoder
    return not writes and (masked or not hasattr(config, "use_cache"))


def _layer(place: int, made: Any, own: PreTrainedConfig, tokens: int) -> LayerCache:
    note = _without_rows(place, made, own)
    if note:
        return LayerCache(place, "decoder", "none", 0, NO_ROW, 0, NO_ROW, NO_ROW, note=note)
    window = made.sliding_window if isinstance(made, DynamicSlidingWindowLayer) else None
    sliding = window is not None
    rows = paper_rows = tokens
    if window is not None:
        # transformers slices [-window + 1:], which keeps everything for a window of one
        rows = min(tokens, window - 1) if window > 1 else tokens
        # of a window; no paper says so of layers that read in chunks
        paper_rows = min(tokens, window) if getattr(own, "sliding_window", None) == window else rows
    kind = "latent" if _is_latent(own) else "sliding" if sliding else "full"
    note = f"keeps rows, and beside them {_state(own)}" if isinstance(made, LinearAttentionCacheLayerMixin) else ""
    kept = rows, _cached_row(own, sliding), paper_rows, _computed_row(own, sliding), _per_head(own, sliding)
    return LayerCache(place, "decoder", kind, *kept, window, note)


def _without_rows(place: int, made: Any, own: PreTrainedConfig) -> str:
    """Why a layer keeps no rows; "" where it keeps some."""
    if isinstance(made, DummyLayer):
        shares = (getattr(own, "kv_sharing_modes", None) or {}) and own.kv_sharing_modes[place] == "reuse"
        return "reads the rows of an earlier layer" if shares else "has no attention"
    if isinstance(made, LinearAttentionCacheLayerMixin) and not hasattr(made, "keys"):
        return _state(own)
    if place in (getattr(own, "cross_attention_layers", None) or ()):
        return "looks at a picture, and keeps its rows only where there is one"
    return "has no attention" if _first(own, HEADS) is None else ""


def _state(own: PreTrainedConfig) -> str:
    name = "a state space" if _first(own, STATE_SPACE) is not None else "linear attention or a convolution"
    return f"{name}: a state of fixed size, which does not grow with the text"


# ── one row ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _first(config: PreTrainedConfig, names: tuple[str, ...]) -> Any:
    """The first of these attributes that a config has and that is set."""
    return next((value for name in names if (value := getattr(config, name, None)) is not None), None)


def _is_latent(config: PreTrainedConfig) -> bool:
    return bool(getattr(config, "kv_lora_rank", None))


def _widths(config: PreTrainedConfig, sliding: bool = False) -> tuple[int, int]:
    """Width of a head's keys and of its values."""
    names = ("swa_head_dim", *HEAD_DIM) if sliding else HEAD_DIM
    key = _first(config, names) or _first(config, HIDDEN) // _first(config, HEADS)
    return key, _first(config, ("v_head_dim",)) or key


def _key_value_heads(config: PreTrainedConfig, sliding: bool) -> int:
    """Key-value heads that the model computes."""
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return 1
    names = ("swa_num_key_value_heads", *KEY_VALUE_HEADS) if sliding else KEY_VALUE_HEADS
    heads = _first(config, names) or _first(config, HEADS)
    return heads * 2 if sliding and config.model_type == "mimo_v2_flash" else heads  # its code doubles them, no field


def _computed_row(config: PreTrainedConfig, sliding: bool) -> Row:
    """What the model computes for a token.

    Latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1: c_t^KV and k_t^R of equations 9 and 15): one
    compressed vector for keys and values of all heads, and one rotated key that all heads share.
    """
    if _is_latent(config):
        return Row(
            1, config.kv_lora_rank, config.qk_rope_head_dim
        )  # transformers: one as "keys", the other as "values"
    return Row(_key_value_heads(config, sliding), *_widths(config, sliding))


def _cached_row(config: PreTrainedConfig, sliding: bool) -> Row:
    row = _computed_row(config, sliding)
    if getattr(config, "new_decoder_architecture", False):  # Falcon repeats its grouped heads before they are cached
        return Row(_first(config, HEADS), row.key_width, row.value_width)
    return row


def _per_head(config: PreTrainedConfig, sliding: bool) -> Row:
    if _is_latent(config):
        return Row(_first(config, HEADS), config.qk_nope_head_dim + config.qk_rope_head_dim, config.v_head_dim)
    heads = _first(config, ("swa_num_attention_heads", *HEADS) if sliding else HEADS)
    return Row(heads, *_widths(config, sliding))
