"""What is asked about a text: the target, what it is held against, and the model as a function of the text's vectors.

How a model reads vectors in place of tokens is found out by trying it. Knows nothing about methods.
"""

import weakref
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from .checking import probe_of
from .errors import HeadlightError
from .language import LanguageModel
from .recording import accepted_inputs
from .scorer import Aim, Candidate, Scorer, one_pass, seen_of

LIKELY = 10  # next tokens to choose from
SCORES = ("logit", "log_probability", "probability")
PROBE_TOKENS = 11

_SCALES: "weakref.WeakKeyDictionary[PreTrainedModel, float | None]" = weakref.WeakKeyDictionary()


def _entrance(lm: LanguageModel, inputs: dict[str, Tensor]) -> tuple[float, str]:
    """What the embedding's vectors must be multiplied by to be read as the tokens themselves are; or why none will do.

    Found out by doing it: Marian, for one, scales its embedding where it is given tokens, and only there."""
    model = lm.model
    if "inputs_embeds" not in accepted_inputs(model):
        return 1.0, (
            f"{type(model).__name__} takes the numbers of tokens alone, so nothing can be asked about their vectors. "
            "Choose “attention”, or a model that takes inputs_embeds."
        )
    if model not in _SCALES:
        _SCALES[model] = _scale(lm, probe_of(model, PROBE_TOKENS))
    scale = _SCALES[model]
    padding = model.config.get_text_config().to_dict().get("pad_token_id")
    if scale is not None and padding is not None and bool((inputs["input_ids"] == padding).any()):
        scale = _scale(lm, inputs)  # some models number positions by which tokens are padding
    if scale is None:
        return 1.0, (
            f"{type(model).__name__} reads this text otherwise when it is given the vectors of its tokens, so nothing "
            "can be asked about them. Choose “attention”, or another model."
        )
    return scale, ""


def _scale(lm: LanguageModel, inputs: dict[str, Tensor]) -> float | None:
    rest = dict(inputs)
    ids = rest.pop("input_ids")
    named = [getattr(module, "embed_scale", None) for module in lm.model.modules()]
    with torch.no_grad():
        own = seen_of(one_pass(lm.model, lm.predicts, inputs), lm.predicts)
        limit = max(1e-4, 8 * torch.finfo(lm.model.dtype).eps) * float(own.abs().max())
        for scale in (1.0, *{one for one in named if isinstance(one, float)}):
            given = {"inputs_embeds": _vectors(lm, ids) * scale, **rest}
            if float((seen_of(one_pass(lm.model, lm.predicts, given), lm.predicts) - own).abs().max()) <= limit:
                return scale
    return None


def aim_at(
    lm: LanguageModel,
    text: str | Tensor | list[int],
    target: int | str | None = None,
    contrast: int | str | None = None,
    *,
    token: int | None = None,
    continuation: str | Tensor | list[int] = "",
    decoder: str = "",
    score: str = "logit",
) -> Scorer:
    """What is asked about a text → its Scorer.

    target: the token that a decoder may write next: its number, or its text (“#512” is a number as text); None: the
    one that it expects. contrast: why the target rather than this one. token: the row at which it is asked (the last);
    a decoder reads no further. continuation: is read behind the text, and its last token is the target.
    decoder: what the decoder of an encoder-decoder reads (its own greedy output).
    Of an encoder, target and contrast are texts: how near this text's mean vector is to theirs (cosine); without them
    how much of the vector of `token` (the first) is left (cosine with itself).
    Raises HeadlightError where the text, the token or the target cannot be.
    """
    if score not in SCORES:
        raise HeadlightError(f"There is no score “{score}”: choose one of {', '.join(SCORES)}.")
    encoded = lm.encode(text)
    inputs, words = dict(encoded.inputs), encoded.words
    ids = inputs.pop("input_ids")
    if not lm.predicts:
        if len(continuation):
            raise HeadlightError("An encoder writes nothing, so there is no continuation: leave it out.")
        return _encoder(lm, ids, inputs, words, target, contrast, token)
    if len(continuation):
        if lm.has_target:
            raise HeadlightError("What an encoder-decoder writes is its decoder's text: give it as `decoder`.")
        more = lm.encode_behind(continuation)
        if not more.shape[1]:
            raise HeadlightError("The continuation has no tokens that this model knows: type another one.")
        ids, words = torch.cat([ids, more], dim=1), None
        if lm.context is not None and ids.shape[1] > lm.context:
            raise HeadlightError(
                f"Text and continuation are {ids.shape[1]:,} tokens, of which {lm.name} reads {lm.context:,}: "
                "shorten them."
            )
        target = int(ids[0, -1]) if target is None else target
        token = ids.shape[1] - 2 if token is None else token
        inputs = {name: _longer(given, ids.shape[1]) for name, given in inputs.items()}
    rows = ids
    if lm.has_target:
        chosen = lm.encode_target(decoder).inputs["decoder_input_ids"] if decoder.strip() else None
        rows = lm.greedy_target(inputs | {"input_ids": ids}) if chosen is None else chosen
    token = _row(token, rows.shape[1], rows.shape[1] - 1)
    follows = int(rows[0, token + 1]) if token + 1 < rows.shape[1] else None
    if lm.has_target:
        inputs["decoder_input_ids"] = rows[:, : token + 1]
    else:
        ids = ids[:, : token + 1]
        inputs = {name: given[:, : token + 1] for name, given in inputs.items()}
    count = ids.shape[1]
    with torch.no_grad():
        logits = seen_of(one_pass(lm.model, True, {"input_ids": ids, **inputs}), True)  # (1, vocabulary)
    chances = logits[0].softmax(dim=-1)
    order = chances.argsort(descending=True)
    ranks = torch.empty_like(order).scatter_(0, order, torch.arange(1, len(order) + 1, device=order.device))

    def candidate(i: int) -> Candidate:
        return Candidate(i, _labels(lm, torch.tensor([[i]]))[0], float(chances[i]), int(ranks[i]))

    notes: list[str] = []
    chosen_target = int(order[0]) if target is None else find_token(lm, target, chances, notes)
    against = None if contrast is None else find_token(lm, contrast, chances, notes)
    if against == chosen_target:
        raise HeadlightError("Target and contrast are the same token: choose another one for one of them.")
    aim = Aim(
        "next",
        _labels(lm, ids),
        token,
        0.0,
        score,
        target=candidate(chosen_target),
        contrast=None if against is None else candidate(against),
        likely=tuple(candidate(int(i)) for i in order[:LIKELY]),
        follows=None if follows is None else candidate(follows),
        notes=tuple(notes),
        words=None if words is None else tuple(words[:count]),
    )
    return _scorer(lm, aim, ids, inputs, logits)


def _encoder(
    lm: LanguageModel,
    ids: Tensor,
    inputs: dict[str, Tensor],
    words: list[int | None] | None,
    target: int | str | None,
    contrast: int | str | None,
    token: int | None,
) -> Scorer:
    if isinstance(target, int) or isinstance(contrast, int):
        raise HeadlightError("An encoder writes no next token: give a second text as the target, or none.")
    texts = tuple(text for text in (target, contrast) if text is not None and text.strip())
    if contrast is not None and len(texts) == 1:
        raise HeadlightError("A text to hold it against needs a first one: give a second text as the target.")
    kind, token = "similarity" if texts else "vector", _row(token, ids.shape[1], 0)
    with torch.no_grad():
        hidden = seen_of(one_pass(lm.model, False, {"input_ids": ids, **inputs}), False)  # (1, tokens, hidden)
        others = [seen_of(one_pass(lm.model, False, dict(lm.encode(text).inputs)), False) for text in texts]
    goals = [other[0].mean(dim=0) for other in others] or [hidden[0, token]]
    aim = Aim(kind, _labels(lm, ids), token, 0.0, "cosine", texts=texts, words=None if words is None else tuple(words))
    return _scorer(lm, aim, ids, inputs, hidden, tuple(F.normalize(goal, dim=-1) for goal in goals))


def _scorer(
    lm: LanguageModel,
    aim: Aim,
    ids: Tensor,
    inputs: dict[str, Tensor],
    seen: Tensor,
    goals: tuple[Tensor, ...] = (),
) -> Scorer:
    """seen: what the model made of the tokens themselves."""
    scale, closed = _entrance(lm, {"input_ids": ids, **inputs})
    scorer = Scorer(aim, lm.model, inputs, ids, _vectors(lm, ids) * scale, scale, closed, goals)
    return replace(scorer, aim=replace(aim, value=float(scorer.number(seen)[0])))


def find_token(lm: LanguageModel, named: int | str, chances: Tensor, notes: list[str]) -> int:
    """The number of a token from its number or its text; of several readings of a text the likeliest, with a note."""
    if isinstance(named, str) and named.startswith("#") and named[1:].isascii() and named[1:].isdigit():
        named = int(named[1:])
    if isinstance(named, int):
        if not 0 <= named < len(chances):
            raise HeadlightError(f"There is no token {named}: they go from 0 to {len(chances) - 1}.")
        return named
    typed = named.replace("·", " ")
    if not typed.strip():
        raise HeadlightError("The target is empty: type a word, or choose one from the list.")
    readings = [lm.encode_behind(typed)[0]]
    if not typed[0].isspace():
        readings.append(lm.encode_behind(f" {typed}")[0])  # most words stand behind a space
    unknown = getattr(lm.tokenizer, "unk_token_id", None)
    if typed != getattr(lm.tokenizer, "unk_token", None):
        readings = [ids for ids in readings if unknown not in ids.tolist()]
    whole = [ids for ids in readings if len(ids) == 1] or [ids for ids in readings if len(ids)]
    if not whole:
        raise HeadlightError(f"“{_short(named)}” has no token that {lm.name} knows: type another word.")
    best = max(whole, key=lambda ids: float(chances[ids[0]]))
    found = int(best[0])
    label = _labels(lm, best[:1][None])[0]
    if len(best) > 1 and not label.strip("·▁ "):
        raise HeadlightError(
            f"“{_short(named)}” is no token of this model, which writes it in {len(best)} pieces, the first a mere "
            "space: type another word, or choose a token from the list."
        )
    if len(best) > 1:
        notes.append(f"“{_short(typed)}” is {len(best)} tokens of this model: its first, “{label}”, is taken.")
    elif label != named and label.replace("·", " ") != typed:
        notes.append(f"“{typed}” is read as “{label}” (· is a space).")
    return found


def _row(token: int | None, count: int, default: int) -> int:
    if token is None:
        return default
    if not 0 <= token < count:
        raise HeadlightError(f"There is no token {token} here: they count from 0 to {count - 1}.")
    return token


def _vectors(lm: LanguageModel, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return cast(Any, lm.model.get_input_embeddings())(ids).detach()


def _labels(lm: LanguageModel, ids: Tensor) -> tuple[str, ...]:
    return tuple(lm.labels(ids) or map(str, ids.flatten().tolist()))


def _longer(given: Tensor, count: int) -> Tensor:
    """A mask or the like (1, tokens), with its last value repeated."""
    return torch.cat([given, given[:, -1:].expand(1, count - given.shape[1])], dim=1)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"
