"""A needle in a haystack: a sentence placed farther and farther back in a text, and asked for at its end.

At each distance the text is read twice, with the needle and without it: how likely is the answer, and which heads of
the row that writes it look at where it was said? Knows nothing about who waits for it.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from .errors import HeadlightError
from .language import LanguageModel
from .record import Capture
from .recording import accepted_inputs

DISTANCES = (5, 20, 50, 100, 200, 400, 1000)  # tokens, about: whole sentences stand between
FEWEST_WORDS = 3
LONGEST = 200  # characters of a needle
AHEAD = 2  # plain sentences before the needle, so that it is not the first of the text
WHO = ("farmer", "girl", "boy", "woman", "old man", "dog", "bird", "child")
DID = ("walked to", "looked at", "went to", "sat by", "ran to", "stood by")
WHERE = ("the river", "the house", "the garden", "the window", "the tree", "the road", "the door", "the hill")

OnPass = Callable[[int, int], None]  # passes done, of how many
OnLayer = Callable[[int], None]


@dataclass(frozen=True)
class Needle:
    """“My friend is called Anna.”, asked by “My friend is called”, answered by “Anna”."""

    asks: str
    answer: str

    @property
    def said(self) -> str:
        return f"{self.asks} {self.answer}."


def as_needle(sentence: str) -> Needle:
    """The last word is the answer. Raises HeadlightError where too little is left to ask with."""
    words = sentence.strip().rstrip(".!?").split()
    if len(words) < FEWEST_WORDS or len(sentence) > LONGEST:
        raise HeadlightError(
            f"A needle is a sentence of at least {FEWEST_WORDS} words and at most {LONGEST} characters, whose last "
            "word is asked for: type one such as “My friend is called Anna.”"
        )
    return Needle(" ".join(words[:-1]), words[-1])


@dataclass(frozen=True, eq=False)
class Found:
    """What a model makes of the needle at one distance."""

    text: str  # what was read
    distance: int  # tokens from the answer's first token to the row that should write it again
    tokens: int  # of the whole text
    place: int  # of the answer's first token in it
    chance: float  # that the answer is written: the product over its tokens
    rank: int  # 1: every token of the answer is the most likely one; else the worst place among all tokens
    without: float  # the chance where the needle is left out of the same text
    likely: tuple[tuple[str, float], ...]  # the most likely next tokens
    weights: Tensor  # (layers, heads) float32: how much of the last row falls on the answer's tokens


@dataclass(frozen=True, eq=False)
class Hunted:
    """The needle at every distance so far."""

    needle: Needle
    answer_tokens: tuple[str, ...]
    found: tuple[Found, ...]
    entries: tuple[int, ...]  # the model's own number of each layer in weights
    skipped: int  # distances that the model's context has no room for

    @property
    def nbytes(self) -> int:
        return sum(one.weights.nbytes for one in self.found)

    def best_heads(self, count: int) -> list[tuple[int, int]]:
        """(row of weights, head) of those that look at the answer most, by the mean over distances."""
        mean = torch.stack([one.weights for one in self.found]).mean(dim=0)  # (layers, heads)
        order = mean.flatten().argsort(descending=True, stable=True)[:count].tolist()
        return [divmod(place, mean.shape[1]) for place in order]


def plain_sentences() -> list[str]:
    """Sentences without names, all different, in an order that is always the same."""
    sentences = [f"The {who} {did} {where}." for who, did, where in product(WHO, DID, WHERE)]
    random.Random(0).shuffle(sentences)
    return sentences


def hunting(lm: LanguageModel, sentence: str, on_pass: OnPass = lambda done, total: None) -> Iterator[Hunted]:
    """The needle at each distance, the nearest first: after each of them all that is known so far.

    Raises HeadlightError for a model that does not write on from a text, or a sentence that is no needle.
    """
    needle = as_needle(sentence)
    if not lm.predicts or lm.has_target or lm.tokenizer is None or not lm.tokenizer.is_fast:
        raise HeadlightError(
            f"{lm.name} reads a text but does not write on from it, so it cannot be asked for the needle: choose a "
            "decoder, a model that writes."
        )
    haystack = Haystack(lm, needle)
    distances = [d for d in DISTANCES if haystack.room is None or d <= haystack.room]
    if not distances:
        raise HeadlightError("This needle does not fit into what the model can read: type a shorter one.")
    found: list[Found] = []
    for distance in distances:
        text = haystack.text(distance)
        done, total = 2 * len(found), 2 * len(distances)
        one, entries = haystack.look(text, _within(on_pass, done, total))
        without = haystack.chance(text.without, _within(on_pass, done + 1, total))[0]
        found.append(Found(**one, without=without))
        yield Hunted(needle, haystack.answer_tokens, tuple(found), entries, len(DISTANCES) - len(distances))


def _within(on_pass: OnPass, done: int, total: int) -> OnLayer:
    """Told at every layer of a pass: whoever waits may stop there."""
    return lambda layer: on_pass(done, total)


@dataclass(frozen=True)
class Text:
    text: str
    ids: list[int]
    answer: range  # the places of the needle's answer
    without: list[int]  # the same text without the needle


class Haystack:
    """Texts with the needle in them, as one model reads them."""

    def __init__(self, lm: LanguageModel, needle: Needle):
        self.lm, self.needle, self.sentences = lm, needle, plain_sentences()
        ids, answer = self._ids(f"{self._before} {needle.said} {needle.asks}", len(self._before) + 1)
        self.answer = [ids[place] for place in answer]
        self.answer_tokens = tuple(lm.labels(torch.tensor(self.answer)) or ())
        # the answer is read behind the text, up to its last token
        self.room = None if lm.context is None else lm.context - len(ids) - len(self.answer)

    @property
    def _before(self) -> str:
        return " ".join(self.sentences[:AHEAD])

    def text(self, distance: int) -> Text:
        """With as many plain sentences between as come nearest to the distance, but do not pass it."""
        low, high = 0, len(self.sentences) - AHEAD  # of sentences between: more are always farther
        while low < high:
            middle = (low + high + 1) // 2
            _, ids, answer = self._built(middle)
            low, high = (middle, high) if len(ids) - 1 - answer[0] <= distance else (low, middle - 1)
        text, ids, answer = self._built(low)
        between = " ".join(self.sentences[: AHEAD + low])
        return Text(text, ids, answer, self._tokenized(f"{between} {self.needle.asks}")[0])

    def _built(self, between: int) -> tuple[str, list[int], range]:
        after = " ".join([*self.sentences[AHEAD : AHEAD + between], self.needle.asks])
        text = f"{self._before} {self.needle.said} {after}"
        return text, *self._ids(text, len(self._before) + 1)

    def _ids(self, text: str, needle_at: int) -> tuple[list[int], range]:
        """A text, and the places of the answer's tokens in it; needle_at: where in the text the needle begins."""
        ids, offsets = self._tokenized(text)
        begin = needle_at + len(self.needle.asks) + 1
        end = begin + len(self.needle.answer)
        places = [n for n, (start, stop) in enumerate(offsets) if stop > begin and start < end]
        return ids, range(places[0], places[-1] + 1)

    def _tokenized(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        assert self.lm.tokenizer is not None
        encoded = self.lm.tokenizer(text, return_offsets_mapping=True, verbose=False)
        return list(encoded["input_ids"]), list(encoded["offset_mapping"])

    def look(self, text: Text, on_layer: OnLayer) -> tuple[dict[str, Any], tuple[int, ...]]:
        """All of a Found but the chance without the needle; and the layers whose weights are in it."""
        chance, rank, likely, capture = self.chance(text.ids, on_layer)
        last = len(text.ids) - 1
        columns = slice(text.answer.start, text.answer.stop)
        layers = [layer for layer in capture.layers if layer.shape[1] > last and layer.shape[2] > last]
        rows = [layer.weights(slice(None), slice(last, last + 1), columns)[:, 0].sum(dim=-1).cpu() for layer in layers]
        heads = max((len(row) for row in rows), default=0)
        weights = torch.zeros(len(rows), heads)
        for place, row in enumerate(rows):
            weights[place, : len(row)] = row
        known = {
            "text": text.text,
            "distance": last - text.answer.start,
            "tokens": len(text.ids),
            "place": text.answer.start,
            "chance": chance,
            "rank": rank,
            "likely": likely,
            "weights": weights,
        }
        return known, tuple(layer.layer for layer in layers)

    def chance(self, ids: list[int], on_layer: OnLayer) -> tuple[float, int, tuple[tuple[str, float], ...], Capture]:
        """The chance of the answer behind a text, its rank, what else may come, and the pass."""
        kept = len(self.answer)
        trims = "logits_to_keep" in accepted_inputs(self.lm.model)
        how: dict[str, Any] = {"logits_to_keep": kept} if trims else {"all_logits": True}
        capture = self.lm.capture([*ids, *self.answer[:-1]], on_layer=on_layer, **how)
        chances = capture.output.logits[0, -kept:].float().log_softmax(dim=-1)  # (answer tokens, vocabulary)
        own = chances[torch.arange(kept), torch.tensor(self.answer)]  # (answer tokens,)
        rank = 1 + int((chances > own[:, None]).sum(dim=-1).max())
        best = chances[0].exp().topk(min(5, chances.shape[1]))
        names = self.lm.labels(best.indices) or [str(i) for i in best.indices.tolist()]
        likely = tuple(zip(names, best.values.tolist(), strict=True))
        return float(own.sum().exp()), rank, likely, capture
