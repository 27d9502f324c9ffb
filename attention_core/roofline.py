"""Is a decode step bound by memory or by compute: bytes, operations, and the roof of a device.

A step of decoding reads every weight once, for all sequences of the batch, and each sequence's own cache. With W the
bytes of weights, C the bytes of one sequence's cache, F the operations of one token and B sequences:

    intensity = B F / (W + B C)          operations a byte
    seconds  ≥ max(B F / compute, (W + B C) / bandwidth)

The roofline is Williams, Waterman and Patterson 2009 (Communications of the ACM 52(4)); its use for decoding is Pope
et al. 2022 (arXiv 2211.05102, section 2). Knows nothing about what is drawn.
"""

from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedConfig

from .cache_layers import layer_caches
from .errors import HeadlightError

CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk")
MOST_SEQUENCES = 1 << 20


@dataclass(frozen=True)
class Device:
    """`gib` is what its maker calls GB of memory; bandwidth in bytes, compute in dense 16-bit operations a second."""

    name: str
    gib: float
    source: str
    bandwidth: float | None = None
    compute: float | None = None

    @property
    def bytes(self) -> int:
        return int(self.gib * 2**30)


DEVICES: tuple[Device, ...] = (
    Device("Phone (Pixel 8)", 8, "Google, Pixel 8 technical specifications"),
    Device("Laptop (MacBook Air M4)", 16, "Apple, MacBook Air (M4, 2025) technical specifications", 120e9),
    Device("RTX 4090", 24, "NVIDIA Ada GPU architecture whitepaper, appendix A", 1008e9, 165.2e12),
    Device("A100 80 GB (SXM)", 80, "NVIDIA A100 datasheet", 2039e9, 312e12),
    Device("H100 (SXM)", 80, "NVIDIA H100 datasheet; dense is half of the printed sparse figure", 3350e9, 989.4e12),
    Device("H200 (SXM)", 141, "NVIDIA H200 datasheet; dense is half of the printed sparse figure", 4800e9, 989.4e12),
)


@dataclass(frozen=True)
class Parameters:
    """A model's weights by what a decode step does with them."""

    total: int
    dense: int  # used by every token: all but embedding tables that are only looked up, the encoder, and the experts
    experts: int  # all routed experts together
    share: float  # of the routed experts that one token uses

    @property
    def active(self) -> int:
        return self.dense + round(self.experts * self.share)

    def read(self, batch: int) -> float:
        """Weights that a step of so many tokens reads: an expert counts if any of them chose it.

        With independent, even choices an expert is left alone by B tokens with probability (1 − share)^B.
        """
        return self.dense + self.experts * (1 - (1 - self.share) ** batch)


@dataclass(frozen=True)
class Roofline:
    """One decode step of a batch, every sequence with so many tokens in its cache."""

    device: Device
    batch: int
    tokens: int
    weight_bytes: float  # read in this step
    cache_bytes: float  # read in this step, all sequences
    operations: float
    intensity: float  # operations a byte
    ridge: float  # from this intensity on the device is bound by compute
    bound: str  # "memory" or "compute"
    seconds: float  # it cannot be faster
    changes_at: int | None  # the smallest batch that is bound by compute; None: none is, however large
    needed_bytes: float  # all weights and all caches
    fits: bool
    equations: tuple[str, ...]  # the same in words, numbers filled in


_counted: dict[tuple[type, str], Parameters] = {}  # a few numbers a config; building takes up to two seconds


def parameter_counts(config: PreTrainedConfig) -> Parameters:
    """Counted on the model itself, built without memory for its weights (torch's meta device). Nothing is run."""
    text = config if config.is_encoder_decoder else config.get_text_config(decoder=True)
    key = type(text), text.to_json_string(use_diff=False)
    if key not in _counted:
        _counted[key] = _count(text)
    return _counted[key]


def _count(config: PreTrainedConfig) -> Parameters:
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    try:
        with torch.device("meta"):
            # float32: another dtype would be the whole process's default while the model is built
            model = auto.from_config(deepcopy(config), dtype=torch.float32)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise HeadlightError(
            f"The weights of {config.model_type} cannot be counted ({error}): choose another model."
        ) from error
    head = model.get_output_embeddings()
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    unused = tables - {id(head.weight)} if head is not None else tables
    if config.is_encoder_decoder:
        unused |= {id(weight) for weight in model.get_encoder().parameters()} - {id(head.weight)}
    sizes = {name: weight for name, weight in model.named_parameters() if id(weight) not in unused}
    experts = sum(weight.numel() for name, weight in sizes.items() if ".experts." in name)
    dense = sum(weight.numel() for weight in sizes.values()) - experts
    total = sum(weight.numel() for weight in model.parameters())
    return Parameters(total, dense, experts, _share(config) if experts else 0.0)


def _share(config: PreTrainedConfig) -> float:
    chosen = next((value for name in CHOSEN if (value := getattr(config, name, None))), None)
    there = next((value for name in ("num_local_experts", "num_experts") if (value := getattr(config, name, None))), 0)
    if chosen is None or not there:
        raise HeadlightError(f"{config.model_type} does not say how many experts a token uses: choose another model.")
    return chosen / there


def roofline(
    config: PreTrainedConfig,
    tokens: int,
    batch: int,
    device: Device,
    weight_bits: int = 16,
    cache_bits: int = 16,
    encoder_tokens: int | None = None,
) -> Roofline:
    """Where one decode step stands under a device's roof.

    Operations of a token: 2 for every weight it uses (a product and a sum), and in each layer with H query heads and R
    rows 2 H R (d_k + d_v) for scores and weighted sum; on compressed rows, as the paper computes them (DeepSeek-V2,
    arXiv 2405.04434, section 2.1.2: W^UK absorbed), 2 H R (2 d_c + d_h^R). Norms, softmax and the new row are left out,
    and of an encoder-decoder its encoder. Arithmetic is 16-bit whatever the stored width.
    """
    if batch < 1:
        raise HeadlightError("A step decodes at least one sequence: choose a batch of 1 or more.")
    if device.bandwidth is None or device.compute is None:
        raise HeadlightError(f"How fast {device.name} reads and computes is not published: choose another device.")
    weights, layers = parameter_counts(config), layer_caches(config, tokens, encoder_tokens)
    cache = sum(layer.numbers for layer in layers) * cache_bits / 8
    attention = sum(
        2 * layer.per_head.heads * layer.rows * (2 * layer.row.key_width + layer.row.value_width)
        if layer.kind == "latent"
        else 2 * layer.rows * layer.per_head.numbers
        for layer in layers
    )
    operations, ridge = 2 * weights.active + attention, device.compute / device.bandwidth
    intensity = partial(_intensity, weights, weight_bits, cache, operations)
    read = weights.read(batch) * weight_bits / 8
    step_bytes, step_operations = read + batch * cache, batch * operations
    seconds = max(step_operations / device.compute, step_bytes / device.bandwidth)
    needed = weights.total * weight_bits / 8 + batch * cache
    equations = (
        f"bytes: {read:,.0f} of weights + {batch:,} × {cache:,.0f} of cache = {step_bytes:,.0f}",
        f"operations: {batch:,} × (2 × {weights.active:,} weights + {attention:,} in attention) = {step_operations:,}",
        f"intensity: {step_operations:,} / {step_bytes:,.0f} = {intensity(batch):,.2f} operations a byte",
        f"{device.name}: {device.compute:,.0f} / {device.bandwidth:,.0f} = {ridge:,.2f} operations a byte",
    )
    return Roofline(
        device,
        batch,
        tokens,
        read,
        batch * cache,
        step_operations,
        intensity(batch),
        ridge,
        "compute" if intensity(batch) >= ridge else "memory",
        seconds,
        _first_batch(intensity, ridge),
        needed,
        needed <= device.bytes,
        equations,
    )


def _intensity(weights: Parameters, weight_bits: int, cache: float, operations: int, batch: int) -> float:
    """Operations a byte; it grows with the batch, because all sequences share what is read of the weights."""
    return batch * operations / (weights.read(batch) * weight_bits / 8 + batch * cache)


def _first_batch(intensity: partial[float], ridge: float) -> int | None:
    low, high = 0, MOST_SEQUENCES  # low stays below the ridge, high reaches it
    if intensity(high) < ridge:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if intensity(middle) >= ridge else (middle, high)
    return high
