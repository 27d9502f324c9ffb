"""Which rows of a key-value cache a policy keeps, and rows rounded to a few bits: Policy and pure functions on tensors.

Knows nothing about models, and nothing about caches but that a row is a token's key and value.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .errors import HeadlightError

USES = {  # which settings each kind has
    "full": (),
    "window": ("window",),
    "sinks": ("first", "window"),
    "least": ("window",),
    "row": ("row",),
    "quantised": ("bits",),
}
ROUNDED = (8, 4)  # bits
SCALE_BYTES, ZERO_BYTES = 4, 1  # of a rounded row: its scale as a float32, its zero point as a whole number up to 255


@dataclass(frozen=True)
class Policy:
    """What is done to the cache after every pass. Rows that stay keep the positions that they were computed with.

    full       nothing
    window     the last `window` rows stay
    sinks      the `first` rows and the last `window` stay (StreamingLLM, Xiao et al. 2023, arXiv 2309.17453; there
               positions are counted anew within the cache, here they are kept as they were)
    least      in each layer and key-value head the `window` rows stay that were looked at most (heavy hitters: H2O,
               Zhang et al. 2023, arXiv 2306.14048; see most_seen()); in each layer where heads share their rows
    row        the row of the token at place `row` goes, in all layers
    quantised  every row is rounded to `bits`

    What a kind does not use is put back to its default, so that policies that do the same are equal.
    """

    kind: str = "full"
    window: int = 24
    first: int = 4
    row: int = 0
    bits: int = 8

    def __post_init__(self) -> None:
        if self.kind not in USES:
            raise HeadlightError(f"There is no policy “{self.kind}”: choose {', '.join(USES)}.")
        for field in fields(self):
            if field.name != "kind" and field.name not in USES[self.kind]:
                object.__setattr__(self, field.name, field.default)
        if type(self.window) is not int or self.window < 1:
            raise HeadlightError(f"{self.window} rows were to stay: keep at least 1.")
        if type(self.first) is not int or self.first < 1:
            raise HeadlightError(f"{self.first} first rows were to stay: keep at least 1, or choose the window alone.")
        if type(self.row) is not int or self.row < 0:
            raise HeadlightError(f"There is no row {self.row}: rows count from 0.")
        if self.bits not in ROUNDED:
            raise HeadlightError(f"Rows cannot be rounded to {self.bits} bits here: choose 8 or 4.")

    @property
    def title(self) -> str:
        """In words, what stays."""
        last = "the last row" if self.window == 1 else f"the last {self.window:,} rows"
        return {
            "full": "Every row",
            "window": last.capitalize(),
            "sinks": f"The first {'row' if self.first == 1 else f'{self.first:,} rows'} and {last}",
            "least": "The row looked at most" if self.window == 1 else f"The {self.window:,} rows looked at most",
            "row": f"Every row but number {self.row:,}",
            "quantised": f"Every row, rounded to {self.bits} bits",
        }[self.kind]


def kept_places(policy: Policy, positions: Tensor, read: int, seen: Tensor | None = None) -> Tensor:
    """positions (heads, rows): the token of each row, rising, of `read` tokens; seen (heads, rows): the attention that
    each row has got so far, for `least` alone → (heads, kept): the places of the rows that stay, rising."""
    if policy.kind == "least":
        assert seen is not None, "least needs the attention"
        return most_seen(seen, read - positions, policy.window)
    stays = torch.ones_like(positions, dtype=torch.bool)
    if policy.kind in ("window", "sinks"):
        stays = positions >= read - policy.window
    if policy.kind == "sinks":
        stays |= positions < policy.first
    if policy.kind == "row":
        stays = positions != policy.row
    return stays.nonzero()[:, 1].view(len(positions), -1)


def most_seen(seen: Tensor, queries: Tensor, count: int) -> Tensor:
    """seen (heads, rows): attention, summed over all queries that met the row; queries (heads, rows): how many these
    were → (heads, ≤ count): the places of the rows with the most attention a query, rising.

    H2O compares the plain sums, in which a row is worth less the newer it is, and keeps half of the room for the newest
    rows. Here a row is worth its attention a query instead, so that none goes for being new alone.
    """
    best = (seen / queries).topk(min(count, seen.shape[1]), dim=1).indices
    return best.sort(dim=1).values


def attention_got(weights: Tensor, heads: int) -> Tensor:
    """weights (query heads, queries, rows) → (heads, rows): what each row got, summed over the queries and over the
    query heads that read the same key-value head."""
    return weights.sum(dim=1).unflatten(0, (heads, -1)).sum(dim=1)


def picked(rows: Tensor, places: Tensor) -> Tensor:
    """rows (heads, rows, head_dim), places (1 or heads, kept) → (heads, kept, head_dim), a copy."""
    heads, _, width = rows.shape
    return rows.gather(1, places[:, :, None].expand(heads, -1, width))


def rounded(rows: Tensor, bits: int) -> Tensor:
    """rows (heads, rows, head_dim) → the same, each number one of 2^bits: a row of a head has a scale and a zero point
    of its own, and its range holds zero."""
    flat = rows.float().flatten(0, 1)  # (heads × rows, head_dim)
    if not flat.numel():
        return rows
    low, high = flat.amin(dim=1).clamp(max=0), flat.amax(dim=1).clamp(min=0)
    steps = (1 << bits) - 1
    scale = ((high - low) / steps).clamp(min=torch.finfo(torch.float32).tiny)
    zero = (-low / scale).round().clamp(0, steps).int()
    return torch.fake_quantize_per_channel_affine(flat, scale, zero, 0, 0, steps).view_as(rows).to(rows.dtype)


def rounded_bytes(rows: Tensor, bits: int) -> int:
    """What rows (heads, rows, head_dim) take where each number has so many bits, their scales and zero points with
    them."""
    heads, count, width = rows.shape
    return heads * count * (-(-width * bits // 8) + SCALE_BYTES + ZERO_BYTES)
