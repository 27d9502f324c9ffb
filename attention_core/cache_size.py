"""How large a key-value cache is: bytes, the equation with its numbers filled in, and what papers would keep instead.

What is counted are keys and values, by shape: batch × heads × rows × width × bytes. After one prefill and after reading
token by token the shapes are the same; a sliding layer's rows are views of a longer tensor, which shapes do not show.
Runs no model and knows nothing about weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig

from .cache_layers import LayerCache, Row, layer_caches
from .errors import HeadlightError

BITS = (32, 16, 8, 4)
ATTENTIONS = ("MHA", "GQA", "MQA", "MLA")


def cache_bytes(
    config: PreTrainedConfig,
    tokens: int = 128,
    dtype: torch.dtype = torch.float32,
    batch: int = 1,
    encoder_tokens: int | None = None,
) -> int:
    """The bytes of all keys and values after a model of this config has read so many tokens.

    An encoder-decoder keeps two caches: of the decoder's `tokens`, and of the encoder's (None: as many), written once.
    Layers without keys count nothing: their state does not grow. Raises HeadlightError for an encoder: it keeps none.
    """
    _check(batch)
    return sum(layer.numbers for layer in layer_caches(config, tokens, encoder_tokens)) * batch * dtype.itemsize


@dataclass(frozen=True)
class CacheReport:
    """A cache, layer by layer and in sum; all counts are for the whole batch."""

    tokens: int
    encoder_tokens: int | None
    batch: int
    layers: tuple[LayerCache, ...]
    numbers: int  # elements of keys and values
    paper_numbers: int
    bytes: dict[int, int]  # by bits of an element, without the scales that 8 and 4 bits need beside them
    paper_bytes: dict[int, int]
    equations: dict[int, str]  # by bits
    differences: tuple[str, ...]  # where the papers keep other rows than transformers, and which
    silent: tuple[str, ...]  # layers that keep no keys, or a state beside them, and why

    def layer_bytes(self, bits: int) -> tuple[int, ...]:
        """Of each entry of `layers`."""
        return tuple(_bytes(self.batch * layer.numbers, bits) for layer in self.layers)


def cache_report(
    config: PreTrainedConfig,
    tokens: int,
    dtype_bits: Sequence[int] = BITS,
    batch: int = 1,
    encoder_tokens: int | None = None,
) -> CacheReport:
    """What every layer keeps, its bytes by width of an element, and where the architecture's paper keeps other rows.

    - Latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1.4 and table 1) keeps d_c + d_h^R elements a token and
      layer: the compressed vector and the rotated key. transformers keeps these very two.
    - A sliding window of W (Mistral 7B, arXiv 2310.06825, section 2, "Rolling Buffer Cache") keeps W rows. transformers
      keeps W − 1: the next token brings its own.
    - Grouped heads (Ainslie et al. 2023, arXiv 2305.13245) are kept once a group. In transformers Falcon repeats
      them first.
    """
    _check(batch)
    layers = layer_caches(config, tokens, encoder_tokens)
    numbers = batch * sum(layer.numbers for layer in layers)
    paper = batch * sum(layer.paper_numbers for layer in layers)
    if not config.is_encoder_decoder:
        encoder_tokens = None
    elif encoder_tokens is None:
        encoder_tokens = tokens
    return CacheReport(
        tokens,
        encoder_tokens,
        batch,
        layers,
        numbers,
        paper,
        {bits: _bytes(numbers, bits) for bits in dtype_bits},
        {bits: _bytes(paper, bits) for bits in dtype_bits},
        {bits: _equation(layers, batch, bits) for bits in dtype_bits},
        _differences(layers),
        _silent(layers),
    )


def as_attention(
    config: PreTrainedConfig,
    kind: str,
    tokens: int = 128,
    bits: int = 32,
    batch: int = 1,
    encoder_tokens: int | None = None,
) -> int | None:
    """Bytes of the cache if this model's layers used this kind of attention; None where the config does not say how.

    Rows as in the model itself: a window stays a window. Elements a token and layer, with H query heads, G key-value
    heads and widths d_k, d_v of a head (DeepSeek-V2, arXiv 2405.04434, table 1):

        MHA   H (d_k + d_v)                      every query head keeps its own
        GQA   G (d_k + d_v), 1 < G < H           Ainslie et al. 2023, arXiv 2305.13245
        MQA   d_k + d_v                          Shazeer 2019, arXiv 1911.02150
        MLA   kv_lora_rank + qk_rope_head_dim    DeepSeek-V2, section 2.1
    """
    _check(batch)
    if kind not in ATTENTIONS:
        raise HeadlightError(f"{kind} is none of {', '.join(ATTENTIONS)}: choose one of them.")
    layers = [layer for layer in layer_caches(config, tokens, encoder_tokens) if layer.kind != "none"]
    rows = [_as(kind, layer) for layer in layers]
    if not layers or None in rows:
        return None
    numbers = sum(layer.rows * row.numbers for layer, row in zip(layers, rows, strict=True) if row is not None)
    return _bytes(batch * numbers, bits)


def _as(kind: str, layer: LayerCache) -> Row | None:
    """One row of a layer, if it used this kind of attention."""
    own, latent = layer.per_head, layer.kind == "latent"
    if kind == "MLA":
        return layer.row if latent else None
    if kind == "GQA":
        groups = layer.paper_row.heads
        return Row(groups, own.key_width, own.value_width) if not latent and 1 < groups < own.heads else None
    return own if kind == "MHA" else Row(1, own.key_width, own.value_width)


def _check(batch: int) -> None:
    if batch < 1:
        raise HeadlightError("A cache belongs to at least one sequence: choose a batch of 1 or more.")


def _bytes(numbers: int, bits: int) -> int:
    return -(-numbers * bits // 8)


# ── in words ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _equation(layers: Sequence[LayerCache], batch: int, bits: int) -> str:
    """ "2 × 30 layers × 3 key-value heads × 64 × 128 tokens × 4 bytes = 5,898,240 bytes"; a sum where layers differ."""
    alike: dict[tuple[str, bool, bool, int, Row], int] = {}
    for layer in layers:
        if layer.kind != "none":
            key = layer.side, layer.kind == "latent", layer.window is not None, layer.rows, layer.row
            alike[key] = alike.get(key, 0) + 1
    terms = [_term(*key, count, batch, bits) for key, count in alike.items()]
    total = _bytes(batch * sum(layer.numbers for layer in layers), bits)
    return f"{' + '.join(terms) or '0'} = {total:,} bytes"


def _term(side: str, latent: bool, sliding: bool, rows: int, row: Row, layers: int, batch: int, bits: int) -> str:
    alike = row.key_width == row.value_width and not latent
    if latent:
        per_head = [f"({row.key_width} compressed + {row.value_width} rotated)"]
    else:
        widths = f"{row.key_width}" if alike else f"({row.key_width} of the key + {row.value_width} of the value)"
        per_head = [f"{row.heads} key-value {_plural('head', row.heads)}", widths]
    tokens = f"{rows:,} {_plural('token', rows)}"
    if sliding:
        tokens = f"{rows:,} {_plural('row', rows)} inside the window"
    if side == "cross":
        tokens += " of the encoder"
    size = bits // 8 if bits % 8 == 0 else bits / 8
    factors = [
        *(["2"] if alike else []),
        *([f"{batch} sequences"] if batch > 1 else []),
        f"{layers} {_plural('layer', layers)}",
        *per_head,
        tokens,
        f"{size} {_plural('byte', size)}",
    ]
    return " × ".join(factors)


def _plural(word: str, count: float) -> str:
    return word if count == 1 else f"{word}s"


def _differences(layers: Sequence[LayerCache]) -> tuple[str, ...]:
    sentences = []
    windows = sorted({layer.window for layer in layers if layer.window and layer.rows != layer.paper_rows})
    if windows:
        sizes = " and ".join(f"{window:,}" for window in windows)
        sentences.append(
            f"With a window of {sizes} the paper's rolling buffer keeps that many rows (Mistral 7B, section 2); "
            "transformers keeps one fewer, because the next token brings its own."
        )
    repeated = [layer for layer in layers if layer.row.heads != layer.paper_row.heads]
    if repeated:
        kept, computed = repeated[0].row.heads, repeated[0].paper_row.heads
        sentences.append(
            f"The model computes {computed} key-value {_plural('head', computed)} and could keep these; "
            f"transformers repeats them to {kept} before it keeps them."
        )
    return tuple(sentences)


def _silent(layers: Sequence[LayerCache]) -> tuple[str, ...]:
    """ "Layers 0, 2: …", one line a reason."""
    reasons: dict[str, list[int]] = {}
    for layer in layers:
        if layer.note:
            reasons.setdefault(layer.note, []).append(layer.layer)
    return tuple(
        f"{'Layer' if len(places) == 1 else 'Layers'} {', '.join(map(str, places))}: {note}"
        for note, places in reasons.items()
    )
