"""lab(): a finished run once more on a cache that a policy edits, step by step beside the cache that keeps every row.

The rows are those of the model's own cache (transformers' DynamicCache); the policy takes rows out of it, or rounds
them, after the prefill and after every token read. Keys keep the positions that they were computed with and a new token
has its true one, so nothing but the missing rows differs. Knows nothing about which policy is a good one.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import kl_div, pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from .errors import HeadlightError
from .generation import end_tokens
from .keeping import Policy, attention_got, kept_places, picked, rounded, rounded_bytes
from .language import LanguageModel
from .layer import LayerCapture
from .ledger import EVERY_ROW, cached, refilled
from .passes import Pen
from .recording import accepted_inputs
from .run import Facts, Run
from .sampling import Chooser

QUERIES_AT_ONCE = 256  # so that no (tokens × tokens) weights are made
CHOOSE = "Choose a model whose every layer keeps one row a token, such as small or smollm2-135m."


@dataclass(frozen=True, eq=False)
class LabStep:
    """One step of the run, read on the policy's cache. What is compared was computed on the same tokens."""

    facts: Facts = field(repr=False)  # of the run
    number: int
    divergence: float  # KL(full ‖ policy) of what comes next, in nats
    token: int  # the most likely one on the policy's cache
    full_token: int  # on the full cache
    written: int | None  # what it writes by itself, having read its own tokens; None once it has ended
    full_written: int  # what the run wrote
    cache_bytes: int  # after the step; of rounded rows counted with their scales, else measured
    full_bytes: int
    kept: tuple[Tensor, ...]  # per layer (1 or key-value heads, rows): the token of each row after the step

    @property
    def same(self) -> bool:
        """Whether the most likely token is the same."""
        return self.token == self.full_token

    @property
    def text(self) -> str:
        """Display string of `token`."""
        return self.facts.names([self.token])[0]

    @property
    def full_text(self) -> str:
        return self.facts.names([self.full_token])[0]

    def positions(self, layer: int, head: int = 0) -> list[int]:
        """The tokens whose rows a layer still has; in `least` each key-value head has its own."""
        rows = self.kept[layer]
        return rows[head if len(rows) > 1 else 0].tolist()


@dataclass(frozen=True, eq=False)
class LabRun:
    """What a policy did to a run, as far as it got."""

    policy: Policy
    steps: tuple[LabStep, ...] = field(repr=False)
    text: str  # what the model writes by itself on the policy's cache
    full_text: str  # what it wrote in the run, as far as the steps go

    @classmethod
    def of(cls, lm: LanguageModel, policy: Policy, steps: Iterable[LabStep]) -> Self:
        """What lab() gives, or gave so far."""
        steps = tuple(steps)
        if not steps:
            raise HeadlightError("The policy has read no step yet: let it read at least one.")
        own = [step.written for step in steps if step.written is not None]
        return cls(policy, steps, _text(lm, steps[0], own), _text(lm, steps[0], [step.full_written for step in steps]))

    @property
    def nbytes(self) -> int:
        """Bytes of the places that are kept of every step."""
        return sum(rows.nbytes for step in self.steps for rows in step.kept)

    @property
    def written(self) -> list[int]:
        return [step.written for step in self.steps if step.written is not None]

    @property
    def written_texts(self) -> list[str]:
        """Display strings of what it writes by itself."""
        return self.steps[0].facts.names(self.written)

    @property
    def full_texts(self) -> list[str]:
        return self.steps[0].facts.names(step.full_written for step in self.steps)

    @property
    def parted(self) -> int | None:
        """The first step at which the two texts differ."""
        return next((step.number for step in self.steps if step.written != step.full_written), None)

    @property
    def mean_divergence(self) -> float:
        """A step, in nats, without step 0: the policy has done nothing yet when its token is chosen."""
        later = [step.divergence for step in self.steps[1:]]
        return sum(later) / len(later) if later else 0.0

    @property
    def same(self) -> int:
        """At how many steps the most likely token is the same, step 0 among them."""
        return sum(step.same for step in self.steps)


def lab(
    lm: LanguageModel, run: Run, policy: Policy, on_layer: Callable[[int], None] | None = None
) -> Iterator[LabStep]:
    """The steps of the run on the policy's cache, one by one as they are asked for: as many as the run has.

    Each reads the run's own token for the comparison. The text that the model writes by itself grows along with them
    (`written`): it is chosen as the run's was, greedily or drawn with the same seed, tokens that were set by the user
    are set again, and it shares the passes until the two texts part; then a step is two passes. Step 0 is the run's
    own: the policy acts behind the prefill. on_layer: called after each attention call of a pass with their number so
    far; it may raise to stop. Raises HeadlightError, here and not at the first step, where it cannot be done.
    """
    cache = _fits(lm, run, policy)
    return _steps(lm, run, _Lane(Pen(lm, []), policy, cache, _apart(run, cache)), on_layer)


def _steps(lm: LanguageModel, run: Run, lane: "_Lane", on_layer: Callable[[int], None] | None) -> Iterator[LabStep]:
    facts, chooser = run.facts, Chooser(run.facts.sampling)
    own, written, ended = lane, list[int](), False
    lane.begin(list(facts.prompt), on_layer)
    for step in run.steps:
        full = _logits(step.logits)
        logits = full if step.number == 0 else lane.read(list(step.input_tokens), on_layer)
        if not ended:
            # until the two texts part, the cache that read the run's tokens is the one that read its own
            token = chooser.choose(logits if own is lane else own.read(written[-1:], on_layer))
            written.append(step.token if step.forced else token)
            ended = _ended(lm, facts, written)
            if own is lane and written[-1] != step.token:
                own = lane.fork()
        yield LabStep(
            facts=facts,
            number=step.number,
            divergence=divergence(full, logits),
            token=int(logits.argmax()),
            full_token=int(full.argmax()),
            written=written[step.number] if step.number < len(written) else None,
            full_written=step.token,
            cache_bytes=lane.nbytes,
            full_bytes=step.cache_bytes,
            kept=tuple(lane.positions),
        )


class _Lane:
    """A cache that the policy edits after each pass, with the token of every row and, for `least`, its attention."""

    def __init__(self, pen: Pen, policy: Policy, cache: DynamicCache, heads: list[int]):
        """cache: as the prefill left it; heads: per layer, how many may keep rows of their own."""
        self.pen, self.policy = pen, policy
        self.pen.cache = cache
        heads = heads if policy.kind == "least" else [1] * len(heads)
        self.positions = [torch.zeros(g, 0, dtype=torch.int32) for g in heads]  # per layer (1 or heads, rows)
        self._seen = [torch.zeros(g, 0) for g in heads] if policy.kind == "least" else []

    def begin(self, prompt: list[int], on_layer: Callable[[int], None] | None) -> None:
        """The prefill: its rows are the run's own. Only where their attention is needed are they computed again."""
        if self.policy.kind == "least":
            self.pen.cache = None
            self.read(prompt, on_layer)
        else:
            self.pen.read = len(prompt)
            self._edit(len(prompt), [])

    def read(self, ids: list[int], on_layer: Callable[[int], None] | None) -> Tensor:
        """logits (vocabulary,) behind tokens that are read on the cache as it is; then the policy acts."""
        logits, calls, _ = self.pen.write(ids, on_layer)
        self._edit(len(ids), calls)
        return logits

    def fork(self) -> "_Lane":
        """Another one with the same rows. (Two that read by turns may share what the pen knows of the model.)"""
        other = copy.copy(self)
        other.pen = copy.copy(self.pen)
        other.pen.cache = copy.deepcopy(self.pen.cache)
        other.positions, other._seen = list(self.positions), list(self._seen)
        return other

    @property
    def nbytes(self) -> int:
        rows = [tensor for _, _, key, value, _ in cached(self.pen.cache) for tensor in (key, value)]
        if self.policy.kind == "quantised":
            return sum(rounded_bytes(tensor, self.policy.bits) for tensor in rows)
        return sum(tensor.nbytes for tensor in rows)

    def _edit(self, new: int, calls: list[LayerCapture]) -> None:
        """After a pass that wrote so many rows."""
        stay = None
        for n, layer in enumerate(self.pen.cache.layers):
            if stay is None or self._seen:  # without the attention, all layers and heads keep the same tokens
                stay = self._stay(n, new, [call for call in calls if call.layer == n])
            places, self.positions[n] = stay
            if places.shape[1] < layer.keys.shape[2]:
                there = places.to(layer.keys.device)
                layer.keys, layer.values = picked(layer.keys[0], there)[None], picked(layer.values[0], there)[None]
            if self.policy.kind == "quantised":
                layer.keys, layer.values = (_new_rounded(t, new, self.policy.bits) for t in (layer.keys, layer.values))

    def _stay(self, n: int, new: int, calls: list[LayerCapture]) -> tuple[Tensor, Tensor]:
        """In layer n: the places of the rows that stay, and their tokens; each (1 or key-value heads, rows)."""
        read, old, seen = self.pen.read, self.positions[n], None
        came = torch.arange(read - new, read, dtype=torch.int32)
        every = torch.cat([old, came.expand(len(old), -1)], dim=1)
        if self._seen:
            seen = pad(self._seen[n], (0, new))
            for call in calls:
                seen = seen + _got(call, len(seen))
        places = kept_places(self.policy, every, read, seen)
        if seen is not None:
            self._seen[n] = seen.gather(1, places)
        return places, every.gather(1, places)


def _apart(run: Run, cache: Any) -> list[int]:
    """Per layer, how many key-value heads may keep different rows: one where a head blends the values of several
    (DiffLlama), or all read the same compressed row."""
    mixed = {call.layer for call in run.steps[0].readings if call.kept is None or not call.has_values}
    return [1 if n in mixed else layer.keys.shape[1] for n, layer in enumerate(cache.layers)]


def _new_rounded(tensor: Tensor, new: int, bits: int) -> Tensor:
    """tensor (1, key-value heads, rows, head_dim) with its last rows rounded: each row is rounded once."""
    old = tensor.shape[2] - new
    return torch.cat([tensor[:, :, :old], rounded(tensor[0, :, old:], bits)[None]], dim=2)


def _got(call: LayerCapture, heads: int) -> Tensor:
    """(key-value heads, rows) float32 on the CPU: the attention that each row got in a call."""
    every, got = slice(None), []
    for start in range(0, call.shape[1], QUERIES_AT_ONCE):
        weights = call.weights(every, slice(start, start + QUERIES_AT_ONCE), every)
        got.append(attention_got(weights, heads).cpu())
    return torch.stack(got).sum(dim=0)


def divergence(full: Tensor, policy: Tensor) -> float:
    """KL(full ‖ policy) in nats, from logits (vocabulary,)."""
    ours, theirs = policy.double().log_softmax(0), full.double().log_softmax(0)
    possible = theirs > -torch.inf  # what the full cache rules out adds nothing
    return max(0.0, float(kl_div(ours[possible], theirs[possible], reduction="sum", log_target=True)))


def _ended(lm: LanguageModel, facts: Facts, written: list[int]) -> bool:
    if written[-1] in end_tokens(lm):
        return True
    if not facts.sampling.stop or lm.tokenizer is None:
        return False
    text = str(lm.tokenizer.decode(written))
    return any(word in text for word in facts.sampling.stop)


def _text(lm: LanguageModel, step: LabStep, tokens: list[int]) -> str:
    return " ".join(step.facts.names(tokens)) if lm.tokenizer is None else str(lm.tokenizer.decode(tokens))


def _logits(logits: Tensor | None) -> Tensor:
    if logits is None:
        raise HeadlightError(
            "This run was opened from a file, which does not hold the scores of all tokens, so nothing can be compared "
            "with it. Let the model write it again."
        )
    return logits


# ── what the lab can be asked ────────────────────────────────────────────────────────────────────────────────────────


def _fits(lm: LanguageModel, run: Run, policy: Policy) -> DynamicCache:
    """The cache as it was behind the prefill, from the run's rows."""
    facts = run.facts
    if lm.name != facts.model or lm.revision != facts.revision:
        raise HeadlightError(f"This run is of {facts.model}, not of {lm.name}: open {facts.model} to try it there.")
    for step in run.steps:
        _logits(step.logits)
    if lm.check.implementation == "eager":
        raise HeadlightError(
            f"{lm.name} hands out its weights alone, no queries and keys, and may count positions by the rows of its "
            f"cache: rows cannot be taken out safely. {CHOOSE}"
        )
    if facts.source:
        raise HeadlightError(f"{lm.name} has an encoder, and with it a second cache that never grows. {CHOOSE}")
    if "position_ids" not in accepted_inputs(lm.model):
        raise HeadlightError(
            f"{lm.name} counts positions by the rows of its cache: without some, all later tokens would move. {CHOOSE}"
        )
    odd = next((f"layer {n}: {what}" for n, what in enumerate(facts.layers) if not what.endswith(EVERY_ROW)), "")
    cache: Any = None if odd else refilled(lm.model, run.steps[0])
    if type(cache) is not DynamicCache or any(type(layer) is not DynamicLayer for layer in cache.layers):
        raise HeadlightError(f"Not every layer of {lm.name} keeps one row a token ({odd or facts.cache}). {CHOOSE}")
    last = run.steps[-1].read - 1
    if policy.kind == "row" and policy.row > last:
        raise HeadlightError(f"There is no row {policy.row:,} in this run: choose 0 to {last:,}.")
    return cache
