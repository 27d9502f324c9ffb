"""A model's cache by the number of tokens: its bytes whatever they are, and what kind of attention keeps them.

Knows nothing about what is drawn, and runs no model.
"""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from transformers import PreTrainedConfig

from ..cache_layers import LayerCache, layer_caches
from ..known_models import KNOWN

FEWEST, MOST = 8, 1_000_000  # tokens
DOUBLING = (*(1 << power for power in range(4, 20)), MOST)
WIDTHS = {32: "fp32", 16: "bf16", 8: "int8", 4: "int4"}  # by bits of a number
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def amount(size: float) -> str:
    """ "16 GiB": three digits, in units of 1,024."""
    unit = 0
    while size >= 1023.5 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    if not unit and size == 1:
        return "1 byte"
    return f"{size:,.0f} {UNITS[unit]}" if size >= 99.95 else f"{size:.3g} {UNITS[unit]}"


@dataclass(frozen=True)
class Growing:
    """A model's cache, whatever the number of tokens up to MOST."""

    name: str
    layers: tuple[LayerCache, ...]  # after MOST tokens: what a layer keeps then, it has kept since it was full
    context: int | None = None  # the tokens that the model was made for

    @cached_property
    def _alike(self) -> Counter[tuple[int, int, bool]]:
        """How many layers keep rows of so many numbers, at most so many, and whether these are the decoder's."""
        return Counter((layer.row.numbers, layer.rows, layer.side == "decoder") for layer in self.layers)

    def numbers(self, tokens: np.ndarray) -> np.ndarray:
        """tokens (n,) int64 → elements of keys and values of one text (n,) int64."""
        total = np.zeros_like(tokens)
        for (numbers, rows, grows), layers in self._alike.items():
            total += layers * numbers * (np.minimum(tokens, rows) if grows else rows)
        return total

    def bytes(self, tokens: int, bits: int, batch: int = 1) -> int:
        return -(-int(self.numbers(np.array([tokens]))[0]) * batch * bits // 8)

    def full_at(self, size: int, bits: int, batch: int = 1) -> int:
        """The most tokens whose cache has room in so many bytes; MOST where a million have."""
        return bisect_right(range(MOST + 1), size, key=lambda tokens: self.bytes(tokens, bits, batch)) - 1

    @property
    def kind(self) -> str:
        """ "MHA", "GQA", "MQA", "MLA", or "" where no layer keeps rows."""
        kinds = {_kind(layer) for layer in self.layers if layer.kind != "none"}
        return kinds.pop() if len(kinds) == 1 else " and ".join(sorted(kinds))


def growing(
    name: str, config: PreTrainedConfig, context: int | None = None, encoder_tokens: int | None = None
) -> Growing:
    return Growing(name, layer_caches(config, MOST, encoder_tokens), context)


@cache
def known(name: str) -> Growing:
    """One of KNOWN, by its name."""
    model = next(model for model in KNOWN if model.name == name)
    return growing(name, model.config(), model.context)


def _kind(layer: LayerCache) -> str:
    if layer.kind == "latent":
        return "MLA"
    heads = layer.paper_row.heads
    return "MHA" if heads == layer.per_head.heads else "MQA" if heads == 1 else "GQA"


def token_choices(tokens: int) -> list[int]:
    """From a text's own tokens (as 0) to a million, doubling."""
    return [0, *(count for count in DOUBLING if count > tokens)]
