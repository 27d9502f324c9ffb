"""decode(): generation one token at a time, on the cache that the model itself makes, as a lazy sequence of steps.

Step 0 reads the prompt, writes its rows and chooses token 1. Step k reads the token that step k − 1 chose, writes its
row and chooses the next. Nothing is held between two steps but the run itself: no lock, no gradient mode, no hook.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, cast

from torch import Tensor

from .errors import HeadlightError
from .language import LanguageModel
from .ledger import Ledger, layer_names, refilled
from .passes import Pen
from .run import DecodeStep, Facts, Names, Run
from .sampling import GREEDY, Chooser, Sampling

COMPARE_UP_TO = 256  # tokens: beyond, the same step without a cache is computed only when asked for
OPEN_END = 256  # rows that are made room for where no number of tokens was given


def decode(
    lm: LanguageModel,
    text_or_ids: str | Tensor | list[int],
    max_new_tokens: int | None = 8,
    *,
    sampling: Sampling = GREEDY,
    uncached: bool | None = None,
    target: str = "",
    forced: Mapping[int, int] | None = None,
    on_layer: Callable[[int], None] | None = None,
) -> Iterator[DecodeStep]:
    """Write up to max_new_tokens (None: until it ends by itself), one step at a time, as they are asked for.

    It ends at the end token, as generate() does, at a stop word, or when the context is full; `step.ends` says why.
    The model's own scores decide: penalties that its generation_config may name are not applied.
    uncached: whether each step is computed once more without a cache, and compared; None: while it has at most 256
    tokens. target: what the decoder of an encoder-decoder has written already. forced: the token of a step, by number.
    on_layer: called after each attention call of a step with their number so far; it may raise to stop the run.
    Raises HeadlightError, here and not at the first step, for whatever cannot be decoded.
    """
    read, source = _prompt(lm, text_or_ids, target)
    _fits(lm, len(read), max_new_tokens)
    forced = dict(forced or {})
    for token in forced.values():
        _known(lm, token)
    if sampling.stop and lm.tokenizer is None:
        raise HeadlightError("Stop words need a tokenizer, and this model came without one: leave them out.")
    facts = Facts(
        model=lm.name,
        revision=lm.revision,
        text=text_or_ids if isinstance(text_or_ids, str) else "",
        prompt=tuple(read),
        source=tuple(source),
        sampling=sampling,
        asked=max_new_tokens,
        context=lm.context,
        cache="",
        layers=(),
        names=Names(lm.tokenizer),
        config=lm.model.config,
    )
    ask = _Ask(uncached, forced, on_layer)
    return _steps(lm, facts, ask, Chooser(sampling), Pen(lm, source), [], read, [])


def branch(
    lm: LanguageModel,
    run: Run,
    step: int,
    token: int,
    max_new_tokens: int | None = None,
    *,
    uncached: bool | None = None,
    on_layer: Callable[[int], None] | None = None,
) -> Iterator[DecodeStep]:
    """The run once more, with another token at a step: first its steps up to there as they were, then new ones.

    The rows up to there are copied, not computed again; where rows alone do not make the cache (a window that forgot
    some, a state) the tokens are read again, and `facts.read_again` says so. max_new_tokens counts from the run's
    start; None: as many as the run was asked for.
    """
    if not 0 <= step < len(run.steps):
        raise HeadlightError(f"There is no step {step} in this run: choose 0 to {len(run.steps) - 1}.")
    if lm.name != run.facts.model or lm.revision != run.facts.revision:
        raise HeadlightError(
            f"This run is of {run.facts.model}, not of {lm.name}: open {run.facts.model} to go on from it."
        )
    _known(lm, token)
    asked = run.facts.asked if max_new_tokens is None else max_new_tokens
    _fits(lm, len(run.facts.prompt), asked)
    if asked is not None and step >= asked:
        raise HeadlightError(f"Step {step} lies behind the {asked} tokens asked for: ask for at least {step + 1}.")
    return _branched(lm, run, step, token, asked, _Ask(uncached, {}, on_layer))


@dataclass(frozen=True)
class _Ask:
    uncached: bool | None
    forced: dict[int, int]
    on_layer: Callable[[int], None] | None


def _branched(lm: LanguageModel, run: Run, at: int, token: int, asked: int | None, ask: _Ask) -> Iterator[DecodeStep]:
    old = run.steps[at]
    facts = replace(run.facts, asked=asked, branched_at=at, read_again="", context=lm.context)
    yield from (replace(step, facts=facts) for step in run.steps[:at])
    written = [step.token for step in run.steps[:at]]
    ends = _ends(lm, facts, [*written, token], old.read)
    yield replace(old, facts=facts, token=token, forced=True, ends=ends)
    if ends:
        return
    chooser, pen = Chooser(facts.sampling), Pen(lm, list(facts.source))
    pen.cache = refilled(lm.model, old)
    pen.read = old.read
    before = [*facts.prompt, *written]
    if facts.sampling.do_sample:
        chooser.skip(at + 1, _vocabulary(lm))
    if pen.cache is None:
        again = (
            "what its cache held at that step is not among the rows kept (a window forgot some, or it keeps a state)"
        )
        facts = replace(facts, read_again=f"The first {old.read} tokens were read again: {again}.")
        pen.read = 0
        pen.write(before, ask.on_layer)
    yield from _steps(lm, facts, ask, chooser, pen, before, [token], [*written, token])


def _steps(
    lm: LanguageModel,
    facts: Facts,
    ask: _Ask,
    chooser: Chooser,
    pen: Pen,
    before: list[int],
    reads: list[int],
    written: list[int],
) -> Iterator[DecodeStep]:
    """before: tokens that the cache holds; reads: what the first of these steps reads; written: chosen so far."""
    ledger = Ledger(OPEN_END if facts.asked is None else facts.asked - len(written))
    before, written = list(before), list(written)
    try:
        for number in count(len(written)):
            logits, calls, seconds = pen.write(reads, ask.on_layer)
            before += reads
            if not facts.layers:
                facts = replace(facts, cache=type(pen.cache).__name__, layers=layer_names(pen.cache, calls, lm.model))
            if pen.seconds_encoder != facts.seconds_encoder:
                facts = replace(facts, seconds_encoder=pen.seconds_encoder)
            token = chooser.choose(logits)
            token = ask.forced.get(number, token)
            written.append(token)
            state = ledger.write(pen.cache, calls, len(before))
            del calls
            compares = ask.uncached or (ask.uncached is None and len(before) <= COMPARE_UP_TO)
            other, seconds_uncached = pen.without_cache(before) if compares else (None, None)
            step = DecodeStep(
                facts=facts,
                number=number,
                input_tokens=tuple(reads),
                token=token,
                logits=logits,
                read=len(before),
                kept=state.kept,
                cross_kept=state.cross_kept,
                readings=state.readings,
                cache_bytes=state.cache_bytes,
                state_bytes=state.state_bytes,
                seconds=seconds,
                untouched=state.untouched,
                seconds_uncached=seconds_uncached,
                max_logit_difference=None if other is None else float((logits - other).abs().max()),
                same_token=None if other is None else int(logits.argmax()) == int(other.argmax()),
                forced=number in ask.forced,
                ends=_ends(lm, facts, written, len(before)),
            )
            yield step
            if step.ends:
                return
            reads = [token]
    finally:
        ledger.close()


# ── what a run may be asked ──────────────────────────────────────────────────────────────────────────────────────────


def _prompt(lm: LanguageModel, text_or_ids: str | Tensor | list[int], target: str) -> tuple[list[int], list[int]]:
    """What the decoder reads first, and what the encoder reads (nothing where there is none)."""
    if not lm.predicts:
        raise HeadlightError(
            f"{lm.name} reads a whole text at once and writes none, as encoders do, so no step could reuse the keys "
            "and values of an earlier one: it has no KV cache. Choose a decoder, such as small or smollm2-135m."
        )
    encoded = lm.encode(text_or_ids)
    ids = encoded.inputs["input_ids"][0].tolist()
    if encoded.left_out:
        whole = len(ids) + encoded.left_out
        raise HeadlightError(
            f"The text has {whole:,} tokens and {lm.name} reads at most {lm.context:,}: shorten it by at least "
            f"{encoded.left_out:,}."
        )
    if not lm.has_target:
        if target.strip():
            raise HeadlightError(f"{lm.name} reads one text: write the second one behind the first.")
        return ids, []
    if not target.strip():
        return [lm.start], ids
    begun = lm.encode_target(target)
    if begun.left_out:
        raise HeadlightError(f"The second text is {begun.left_out:,} tokens too long for {lm.name}: shorten it.")
    return begun.inputs["decoder_input_ids"][0].tolist(), ids


def _fits(lm: LanguageModel, prompt: int, asked: int | None) -> None:
    """Whether so many new tokens fit: the one chosen last needs no row."""
    if asked is not None and (type(asked) is not int or asked < 1):
        raise HeadlightError(f"{asked} new tokens were asked for: ask for at least 1.")
    room = None if lm.context is None else lm.context - prompt + 1
    if asked is not None and room is not None and asked > room:
        raise HeadlightError(
            f"There is no room for {asked:,} new tokens: {lm.name} reads at most {lm.context:,}, and {prompt:,} are "
            f"there already. Ask for at most {room:,}, or shorten the text."
        )


def _vocabulary(lm: LanguageModel) -> int:
    return int(cast(Any, lm.model.get_input_embeddings()).weight.shape[0])


def _known(lm: LanguageModel, token: int) -> None:
    if type(token) is not int or not 0 <= token < _vocabulary(lm):
        raise HeadlightError(
            f"Token {token} is outside the vocabulary of {lm.name}: choose 0 to {_vocabulary(lm) - 1:,}."
        )


def end_tokens(lm: LanguageModel) -> set[int]:
    """Where generate() ends."""
    ends = getattr(getattr(lm.model, "generation_config", None), "eos_token_id", None)
    if isinstance(ends, Tensor):
        ends = ends.flatten().tolist()
    return set(ends if isinstance(ends, list | tuple) else [] if ends is None else [ends])


def _ends(lm: LanguageModel, facts: Facts, written: list[int], read: int) -> str:
    """In words, why the run ends behind the token written last; "": it goes on."""
    if written[-1] in end_tokens(lm):
        end = str(written[-1] if lm.tokenizer is None else lm.tokenizer.convert_ids_to_tokens(written[-1]))
        return f"It wrote its end token, {end}."
    if facts.sampling.stop and lm.tokenizer is not None:
        text = str(lm.tokenizer.decode(written))
        found = next((word for word in facts.sampling.stop if word in text), None)
        if found is not None:
            return f"It wrote the stop word “{found}”."
    if facts.asked is not None and len(written) >= facts.asked:
        return f"The {facts.asked:,} tokens asked for are written." if facts.asked > 1 else "The one token is written."
    if facts.context is not None and read >= facts.context:
        return f"The context is full: {lm.name} reads at most {facts.context:,} tokens."
    return ""
