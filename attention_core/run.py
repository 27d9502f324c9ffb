"""The record of a run of generation: every row of the cache held once for the whole run, every step a range of rows.

Knows nothing about how a model is run.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from .errors import HeadlightError
from .layer import LayerCapture
from .record import tensors_in
from .rows import Kept, Rows
from .sampling import Candidate, Sampling, candidates
from .tokens import display_tokens

CANDIDATES = 10


@dataclass(frozen=True, eq=False)
class Reading:
    """One call of the attention by the token that was read last: its query, and all that turns scores into weights."""

    kind: str  # "decoder" or "cross"
    layer: int
    module: str
    positions: range  # of the keys it met
    query: Tensor | None  # (heads, 1, head_dim); None where the model hands out its weights alone
    kept: Kept | None = None  # the keys, where they are rows of the cache
    has_values: bool = False  # whether the values it blends are the cache's too
    recorded: Tensor | None = None  # (heads, 1, keys): its weights, where the cache keeps something else than its keys
    scaling: float = 1.0
    softcap: float | None = None
    bias: Tensor | None = None  # (1 or heads, 1, keys)
    mask: Tensor | None = None  # (1 or heads, 1, keys)
    sink: Tensor | None = None  # (heads,) or (heads, 1)
    sink_scales_output: bool = False

    def layer_capture(self) -> LayerCapture:
        """The same as a LayerCapture of one query."""
        key, value = self.kept.tensors if self.kept is not None else (None, None)
        return LayerCapture(
            kind=self.kind,
            layer=self.layer,
            query=self.query,
            key=key,
            value=value if self.has_values else None,
            key_positions=torch.arange(self.positions.start, self.positions.stop),
            scaling=self.scaling,
            softcap=self.softcap,
            bias=self.bias,
            mask=self.mask,
            sink=self.sink,
            sink_scales_output=self.sink_scales_output,
            module=self.module,
            recorded=self.recorded,
        )


class Names:
    """Display strings of token ids, looked up when they are first asked for, many at a time."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None, known: dict[int, str] | None = None):
        self._tokenizer, self.known = tokenizer, known or {}

    def __call__(self, ids: Iterable[int]) -> list[str]:
        """One a token; plain numbers without a tokenizer."""
        ids = list(ids)
        new = sorted(set(ids) - self.known.keys())
        if new and self._tokenizer is not None:
            self.known |= dict(zip(new, display_tokens(self._tokenizer, new), strict=True))
        return [self.known.get(i, str(i)) for i in ids]


@dataclass(frozen=True, eq=False)
class Facts:
    """What holds for a whole run."""

    model: str
    revision: str
    text: str
    prompt: tuple[int, ...]  # what step 0 reads
    source: tuple[int, ...]  # what the encoder of an encoder-decoder read
    sampling: Sampling
    asked: int | None  # how many new tokens; None: until it ends by itself
    context: int | None
    cache: str  # the class of the model's cache
    layers: tuple[str, ...]  # in words, what each layer keeps
    names: Names
    seconds_encoder: float = 0.0
    branched_at: int | None = None  # the step at which this run left another one
    read_again: str = ""  # in words: why the rows before that step had to be computed again
    config: PreTrainedConfig | None = None  # the model's sizes; None where a file names a model that nobody knows


@dataclass(frozen=True, eq=False)
class DecodeStep:
    """One step of generation: what was read, what the cache holds after it, and what was chosen."""

    facts: Facts
    number: int
    input_tokens: tuple[int, ...]  # the whole prompt at step 0, then one
    token: int  # chosen; it has no row yet
    logits: Tensor | None  # (vocabulary,) float32 on the CPU; None in a run that was opened from a file
    read: int  # tokens read so far, these included
    kept: tuple[Kept | None, ...]  # per layer; None for a layer that keeps no rows
    cross_kept: tuple[Kept | None, ...]  # of an encoder-decoder
    readings: tuple[Reading, ...]  # the attention of the token read last, in the model's order
    cache_bytes: int  # its keys and values, those of the cross-attention included: measured, by shape
    state_bytes: int  # what else it holds beside them (the states of linear attention and the like)
    seconds: float  # of the forward pass
    untouched: bool  # the rows of earlier steps were found unchanged, bit for bit
    seconds_uncached: float | None = None  # of one pass over all tokens so far without a cache, where it was made
    max_logit_difference: float | None = None
    same_token: bool | None = None  # whether that pass leads to the same most likely token
    forced: bool = False  # the token was set by the user
    ends: str = ""  # in words: why the run ends here; "": it goes on
    likely: tuple[Candidate, ...] = ()  # the candidates, where there are no logits to find them in

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """The most likely tokens, the most likely first, and the chosen one with them."""
        if self.logits is None:
            return self.likely
        return candidates(self.logits, self.facts.sampling, self.token, CANDIDATES)

    @property
    def input_token(self) -> int:
        """The token read last."""
        return self.input_tokens[-1]

    @property
    def input_texts(self) -> list[str]:
        return self.facts.names(self.input_tokens)

    @property
    def text(self) -> str:
        """Display string of the chosen token."""
        return self.facts.names([self.token])[0]

    @property
    def candidate_texts(self) -> list[str]:
        return self.facts.names(c.token for c in self.candidates)

    @property
    def cache(self) -> tuple[tuple[Tensor, Tensor] | None, ...]:
        """Per layer (key, value) after the step, each (key-value heads, rows, head_dim) as the cache has it."""
        return tuple(None if kept is None else kept.tensors for kept in self.kept)

    @property
    def cross_cache(self) -> tuple[tuple[Tensor, Tensor] | None, ...]:
        """The same of the cross-attention, over the source; empty without an encoder."""
        return tuple(None if kept is None else kept.tensors for kept in self.cross_kept)

    @property
    def positions(self) -> tuple[range | None, ...]:
        """Per layer, the tokens that its rows stand for."""
        return tuple(None if kept is None else kept.positions for kept in self.kept)

    @property
    def dropped(self) -> tuple[range | None, ...]:
        """Per layer, the tokens whose rows a sliding window has forgotten by now."""
        return tuple(None if kept is None else range(0, kept.start) for kept in self.kept)

    @property
    def computed(self) -> range:
        """The tokens whose rows this step computed; those of all earlier tokens were reused."""
        return range(self.read - len(self.input_tokens), self.read)

    @property
    def layers(self) -> list[LayerCapture]:
        """One entry a call of the attention, with one query: the token read last. Weights are computed when asked."""
        return [reading.layer_capture() for reading in self.readings]

    def attention(self, i: int, head: int) -> Tensor:
        """(1, keys) float32 on the CPU, equal to the model's own weights; `layers[i].key_positions` says which keys."""
        if not -len(self.readings) <= i < len(self.readings):
            raise HeadlightError(f"There is no layer entry {i}: choose 0 to {len(self.readings) - 1}.")
        layer = self.readings[i].layer_capture()
        if not 0 <= head < layer.heads:
            raise HeadlightError(f"There is no head {head} in layer entry {i}: choose 0 to {layer.heads - 1}.")
        return layer.weights(slice(head, head + 1), slice(None), slice(None))[0].cpu()


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is over: all its steps."""

    steps: tuple[DecodeStep, ...] = field(repr=False)

    @classmethod
    def of(cls, steps: Iterable[DecodeStep]) -> Self:
        """Everything that decode() or branch() gives, once it has given it."""
        steps = tuple(steps)
        if not steps:
            raise HeadlightError("This run has no steps yet: let it write at least one token.")
        return cls(steps)

    @property
    def facts(self) -> Facts:
        return self.steps[-1].facts

    @property
    def tokens(self) -> list[int]:
        """The chosen tokens."""
        return [step.token for step in self.steps]

    @property
    def texts(self) -> list[str]:
        return self.facts.names(self.tokens)

    @property
    def ends(self) -> str:
        return self.steps[-1].ends

    @property
    def rows(self) -> list[Rows]:
        """Everything that holds rows, each once, in the order of layers: the decoder's, then the cross-attention's."""
        kept = [k for step in self.steps for k in (*step.kept, *step.cross_kept)]
        kept += [r.kept for step in self.steps for r in step.readings]
        return list({id(k.rows): k.rows for k in kept if k is not None}.values())

    @property
    def nbytes(self) -> int:
        """Bytes of every tensor it holds, shared storage once."""
        held = {}
        for tensor in tensors_in([vars(part) for step in self.steps for part in (step, *step.readings)]):
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return sum(held.values()) + sum(rows.nbytes for rows in self.rows)
