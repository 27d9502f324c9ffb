"""What each step of a run costs with the cache, and what it would cost without one, counted from shapes alone.

An operation is one product or one sum, as in roofline.py: 2 for every weight that a token passes through, and where a
query of H heads meets R rows, 2 H R (d_k + d_v) for scores and weighted sum. Only rows that a query may see count:
causal, inside a window. The scores of the whole vocabulary are computed for the last token alone, as generate() asks
for them. Norms, softmax, the states of linear attention and the encoder are left out. Knows nothing about seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from transformers import PreTrainedConfig

from .cache_layers import HIDDEN, LayerCache, layer_caches
from .errors import HeadlightError
from .roofline import parameter_counts
from .run import DecodeStep, Reading, Run


@dataclass(frozen=True)
class Cost:
    """Operations of one pass, or of many."""

    rows: int = 0  # tokens whose rows were computed
    keys_values: int = 0  # the weights that make these rows alone; a part of the projections
    projections: int = 0  # every weight that the tokens pass through: rows of layer 2 need the whole of layer 1
    unpacked: int = 0  # latent attention: rows that were kept compressed, made into keys and values once more
    dots: int = 0  # queries with keys, and weights with values

    @property
    def total(self) -> int:
        return self.projections + self.unpacked + self.dots

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(one + more for one, more in zip(_parts(self), _parts(other), strict=True)))


@dataclass(frozen=True)
class StepWork:
    """One step with the cache, and as one pass over all tokens so far."""

    number: int
    cached: Cost
    uncached: Cost
    equations: tuple[str, ...]  # in words, the numbers filled in

    @property
    def times(self) -> float:
        """How many times the work it would be without the cache."""
        return self.uncached.total / self.cached.total


@dataclass(frozen=True)
class RunWork:
    steps: tuple[StepWork, ...]

    def sums(self) -> tuple[tuple[Cost, Cost], ...]:
        """After each step, all of the run so far: (cached, uncached)."""
        found, cached, uncached = [], Cost(), Cost()
        for step in self.steps:
            cached, uncached = cached + step.cached, uncached + step.uncached
            found.append((cached, uncached))
        return tuple(found)

    @property
    def cached(self) -> Cost:
        return self.sums()[-1][0]

    @property
    def uncached(self) -> Cost:
        return self.sums()[-1][1]


def run_work(run: Run) -> RunWork:
    """Every step of a run. Raises HeadlightError where the model's sizes are not known."""
    sizes = _sizes(run.facts.config, len(run.facts.source))
    return RunWork(tuple(_step_work(step, sizes) for step in run.steps))


def step_work(step: DecodeStep) -> StepWork:
    return _step_work(step, _sizes(step.facts.config, len(step.facts.source)))


def _parts(cost: Cost) -> tuple[int, ...]:
    return cost.rows, cost.keys_values, cost.projections, cost.unpacked, cost.dots


# ── from the config ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Sizes:
    """Weights by what they are applied to."""

    token: int  # every token read; the next two and the head are not among them
    source: int  # every token of an encoder's output: keys and values of the cross-attention
    head: int  # the last token alone: the scores of the vocabulary
    keys_values: int  # of a token's rows; those of latent attention included
    unpack: int  # of latent attention: from a compressed row to keys and values; among those of every token
    layers: dict[tuple[str, int], LayerCache]
    chunk: int | None  # of layers that read in chunks


def _sizes(config: PreTrainedConfig | None, source: int) -> _Sizes:
    if config is None:
        raise HeadlightError(
            "The file does not tell the sizes of its model, so the work cannot be counted: let the model write the "
            "text again."
        )
    counts, layers = parameter_counts(config), layer_caches(config, 1, source)
    text = config.get_text_config(decoder=True)
    width = _width(text)
    head = text.vocab_size * (getattr(text, "word_embed_proj_dim", None) or width)
    cross = _width(getattr(config, "encoder", config)) * _numbers(layers, "cross") if config.is_encoder_decoder else 0
    unpack = sum(
        layer.row.key_width * (layer.per_head.numbers - layer.per_head.heads * layer.row.value_width)
        for layer in layers
        if layer.kind == "latent"
    )
    return _Sizes(
        counts.active - head - cross,
        cross,
        head,
        width * _numbers(layers, "decoder") + unpack,
        unpack,
        {(layer.side, layer.layer): layer for layer in layers},
        getattr(text, "attention_chunk_size", None),
    )


def _width(config: PreTrainedConfig) -> int:
    return next(value for name in HIDDEN if (value := getattr(config, name, None)) is not None)


def _numbers(layers: Iterable[LayerCache], side: str) -> int:
    """Of one token's rows in all layers, as the model computes them."""
    return sum(layer.paper_row.numbers for layer in layers if layer.side == side)


# ── one step ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _step_work(step: DecodeStep, sizes: _Sizes) -> StepWork:
    new, read, source = len(step.input_tokens), step.read, len(step.facts.source)
    first = new == read
    cached, how_cached = _pass(step, sizes, new, source if first else 0, read - new)
    uncached, how_uncached = _pass(step, sizes, read, source, 0)
    lines = [f"with the cache, {line}" for line in how_cached] + [f"without it, {line}" for line in how_uncached]
    return StepWork(step.number, cached, uncached, tuple(lines))


def _pass(step: DecodeStep, sizes: _Sizes, new: int, source: int, unpacks: int) -> tuple[Cost, list[str]]:
    """What reading the last `new` tokens costs, `source` tokens of an encoder with them, and its equations."""
    groups: dict[tuple[int, int, int, int], int] = {}  # calls by heads, widths of key and value, pairs
    for reading in step.readings:
        key = *_shape(reading, sizes), _pairs(reading, step, sizes, step.read - new)
        groups[key] = groups.get(key, 0) + 1
    dots = sum(2 * calls * heads * pairs * (k + v) for (heads, k, v, pairs), calls in groups.items())
    each, head = 2 * sizes.token, 2 * sizes.head
    made = 2 * (sizes.keys_values * new + sizes.source * source)
    cost = Cost(new, made, each * new + 2 * sizes.source * source + head, 2 * sizes.unpack * unpacks, dots)
    pairs_in_words = [
        f"2 × {calls} {_plural('layer', calls)} × {heads} {_plural('head', heads)} × {pairs:,} "
        f"{_plural('pair', pairs)} of a query and a key × ({k} + {v})"
        for (heads, k, v, pairs), calls in groups.items()
    ]
    terms = [f"2 × {sizes.token:,} weights × {new:,} {_plural('token', new)}"]
    if sizes.source and source:
        terms.append(f"2 × {sizes.source:,} weights × {source:,} {_plural('token', source)} of the source")
    if sizes.unpack and unpacks:
        terms.append(f"2 × {sizes.unpack:,} weights × {unpacks:,} {_plural('row', unpacks)} kept compressed")
    terms += [f"2 × {sizes.head:,} weights for the scores of the next token", f"{dots:,} in dot products"]
    return cost, [
        f"dot products: {' + '.join(pairs_in_words) or '0'} = {dots:,} operations",
        f"all: {' + '.join(terms)} = {cost.total:,} operations",
    ]


def _shape(reading: Reading, sizes: _Sizes) -> tuple[int, int, int]:
    """Heads, and the widths of a key and of a value, of one call of the attention."""
    layer = sizes.layers.get((reading.kind, reading.layer))
    known = layer.per_head if layer is not None else None
    if reading.query is not None:
        heads, _, key = reading.query.shape
    else:
        assert reading.recorded is not None and known is not None, "a reading has its query or its weights"
        heads, key = reading.recorded.shape[0], known.key_width
    if reading.kept is not None and reading.has_values:
        return heads, key, reading.kept.tensors[1].shape[2]
    return heads, key, known.value_width if known is not None and known.heads else key


def _pairs(reading: Reading, step: DecodeStep, sizes: _Sizes, first: int) -> int:
    """How many keys the queries of the tokens from `first` on may see, together."""
    if reading.kind == "cross":
        return (step.read - first) * len(reading.positions)
    layer = sizes.layers.get((reading.kind, reading.layer))
    window = layer.window if layer is not None else None
    if window is not None and window == sizes.chunk:
        return sum(query % window + 1 for query in range(first, step.read))
    if window is None and len(reading.positions) < step.read:  # it reads the rows of another layer, which has a window
        window = len(reading.positions)
    return _triangle(step.read, window) - _triangle(first, window)


def _triangle(queries: int, window: int | None) -> int:
    """1 + 2 + … for so many queries, none of them more than the window."""
    inside = queries if window is None else min(queries, window)
    return inside * (inside + 1) // 2 + (queries - inside) * inside


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
