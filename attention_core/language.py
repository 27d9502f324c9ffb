"""LanguageModel: a model that reads text. Knows nothing about where a model comes from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from .errors import HeadlightError
from .record import Capture
from .recording import WEIGHTS_ALONE_UP_TO, accepted_inputs, capture, use_seam
from .seam import input_device
from .tokens import display_tokens, word_numbers

GREEDY_TOKENS = 32  # of an encoder-decoder's own output, where no target was given


@dataclass(frozen=True)
class Encoded:
    """A text as a model reads it."""

    inputs: dict[str, Tensor]  # what the tokenizer gave, each (1, tokens)
    left_out: int  # tokens that did not fit
    characters: int  # how much of the text was read
    words: list[int | None] | None = None  # the word of each token; None: no word (special), or not known at all
    segments: list[int | None] | None = None  # 0 and 1: which text of a pair; None: neither


class LanguageModel:
    """A model, its tokenizer and a name. The model's attention goes through the seam from now on; it was checked.

    Without a tokenizer everything takes input_ids, (1, tokens) or (tokens,). revision: the commit it was loaded from.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        name: str = "",
        revision: str = "",
    ):
        if model.training:
            raise HeadlightError("The model is in training mode, where dropout changes the weights: call model.eval().")
        self.model, self.tokenizer, self.name = model, tokenizer, name or type(model).__name__
        self.revision = revision
        self.check = use_seam(model)

    @property
    def context(self) -> int | None:
        """The largest number of tokens it can read, or None where its positions have no end."""
        limits = [
            getattr(self.model.config.get_text_config(), "max_position_embeddings", None),
            getattr(self.tokenizer, "model_max_length", None),
            WEIGHTS_ALONE_UP_TO if self.check.implementation == "eager" else None,
        ]
        # a tokenizer without a limit says so by an absurdly large one
        return min((n for n in limits if isinstance(n, int) and 0 < n < 1 << 40), default=None)

    @property
    def predicts(self) -> bool:
        """Whether it gives a score for every next token (a decoder), rather than vectors (an encoder)."""
        return self.model.can_generate()

    @property
    def has_target(self) -> bool:
        """Whether it reads two texts: a source in its encoder, a target in its decoder."""
        return bool(self.model.config.is_encoder_decoder)

    def encode(self, text: str | Tensor | list[int], second: str = "") -> Encoded:
        """Exactly tokenizer(text), or tokenizer(text, second), cut where the model's context ends; ids as they are."""
        if not isinstance(text, str):
            return self._given_ids(torch.as_tensor(text))
        if self.tokenizer is None:
            raise HeadlightError(f"{self.name} came without a tokenizer: give input_ids instead of a text.")
        if not text.strip():
            raise HeadlightError("The text is empty: type a sentence.")
        texts = (text, second) if second.strip() else (text,)
        encoded = self._tokenized(*texts)
        tokens, limit, characters = len(encoded["input_ids"]), self.context, len(text)
        left_out = max(0, tokens - limit) if limit else 0
        if left_out:
            encoded = self._tokenized(*texts, truncation=True, max_length=limit)
        offsets = encoded.pop("offset_mapping", None)
        segments = encoded.sequence_ids() if self.tokenizer.is_fast else None
        if left_out and offsets is not None:
            ends = [end for (_, end), part in zip(offsets, segments or [], strict=True) if part == 0]
            characters = max(ends, default=0)
        if not encoded["input_ids"]:
            raise HeadlightError("The text has no tokens that this model knows: type a sentence.")
        words = word_numbers(encoded, offsets, texts) if offsets is not None else None
        known = accepted_inputs(self.model)
        inputs = {k: torch.tensor([v], device=input_device(self.model)) for k, v in encoded.items() if k in known}
        return Encoded(inputs, left_out, characters, words, segments if len(texts) > 1 else None)

    def encode_target(self, text: str) -> Encoded:
        """A target as the decoder reads it: shifted to the right, behind the token that it starts from."""
        if self.tokenizer is None:
            raise HeadlightError(f"{self.name} came without a tokenizer: give decoder_input_ids instead of a target.")
        encoded = self._tokenized(text_target=text)
        whole = encoded["input_ids"]
        kept = len(whole) - (whole[-1:] == [self.tokenizer.eos_token_id])  # the end is not read, it is predicted
        ids = [self.start, *whole[:kept]]
        offsets, words = encoded.pop("offset_mapping", None), None
        if offsets is not None:
            words = [None, *word_numbers(encoded, offsets, (text,))[:kept]]
        limit = self.context or len(ids)
        read = torch.tensor([ids[:limit]], device=input_device(self.model))
        return Encoded({"decoder_input_ids": read}, len(ids) - read.shape[1], len(text), words and words[:limit])

    def encode_behind(self, text: str | Tensor | list[int]) -> Tensor:
        """(1, tokens): a text that stands behind what is written already, without what a tokenizer puts around a whole
        text. Where a model reads two texts it is one of the target's language."""
        if not isinstance(text, str):
            return self._given_ids(torch.as_tensor(text)).inputs["input_ids"]
        if self.tokenizer is None:
            raise HeadlightError(f"{self.name} came without a tokenizer: give the numbers of tokens instead.")
        given = {"text_target": text} if self.has_target else {"text": text}
        ids = self._tokenized(**given, add_special_tokens=False)["input_ids"]
        return torch.tensor([ids], dtype=torch.long, device=input_device(self.model))

    def _tokenized(self, *texts: str, **how: Any) -> BatchEncoding:
        assert self.tokenizer is not None
        try:
            return self.tokenizer(*texts, return_offsets_mapping=self.tokenizer.is_fast, verbose=False, **how)
        except (UnicodeError, TypeError) as error:
            raise HeadlightError("The text has characters that are not valid Unicode: type them again.") from error

    @property
    def start(self) -> int:
        """The token that a decoder begins with."""
        named = self.model.config.get_text_config().to_dict()
        generation = getattr(self.model, "generation_config", None)
        candidates = (
            named.get("decoder_start_token_id"),
            getattr(generation, "decoder_start_token_id", None),
            named.get("bos_token_id"),
        )
        return next((i for i in candidates if isinstance(i, int)), 0)

    def greedy_target(self, inputs: dict[str, Tensor]) -> Tensor:
        """The decoder's own greedy output for these inputs, (1, at most GREEDY_TOKENS + 1), its end token left out."""
        if not self.predicts:
            return torch.full((1, 1), self.start, device=input_device(self.model))
        greedy = {"max_new_tokens": GREEDY_TOKENS, "do_sample": False, "num_beams": 1}
        how = inputs | greedy | {"decoder_start_token_id": self.start}
        model = cast(Any, self.model)
        with torch.no_grad():
            try:
                written = model.generate(**how)
            except IndexError:  # its cache has a place for each layer of the encoder: too few for a deeper decoder
                written = model.generate(**how, use_cache=False)
        ends = self.model.generation_config.eos_token_id  # type: ignore[union-attr]
        ends = ends if isinstance(ends, list) else [ends]
        return written[:, :-1] if written.shape[1] > 1 and int(written[0, -1]) in ends else written

    def _words_of(self, written: Tensor) -> list[int | None] | None:
        """The words of the decoder's own output, where its text gives the same tokens (1, tokens) again."""
        if self.tokenizer is None or not self.tokenizer.is_fast:
            return None
        again = self.encode_target(str(self.tokenizer.decode(written[0], skip_special_tokens=True)))
        return again.words if torch.equal(again.inputs["decoder_input_ids"], written) else None

    def _given_ids(self, ids: Tensor) -> Encoded:
        ids = ids if ids.ndim == 2 else ids[None]
        if ids.numel() == 0:
            raise HeadlightError("There are no tokens: give at least one id.")
        if ids.ndim != 2 or ids.shape[0] != 1:
            raise HeadlightError(f"Ids of one text are needed, (1, tokens) or (tokens,), not {tuple(ids.shape)}.")
        vocabulary = cast(Any, self.model.get_input_embeddings()).weight.shape[0]
        if not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
            raise HeadlightError(f"An id is outside the vocabulary of {self.name}: they go from 0 to {vocabulary - 1}.")
        read = ids[:, : self.context]
        return Encoded({"input_ids": read.to(input_device(self.model))}, ids.shape[1] - read.shape[1], 0)

    def capture(
        self,
        text: str | Tensor | list[int],
        *,
        target: str = "",
        second: str = "",
        all_logits: bool = False,
        on_layer: Callable[[int], None] | None = None,
        **inputs: Any,
    ) -> Capture:
        """One forward pass over the text → Capture with the last position's logits (all_logits=True: every one's).

        target: what the decoder of an encoder-decoder reads; without one, its own greedy output of at most 32 tokens.
        second: the second text of a sentence pair. on_layer and inputs: as in capture().
        Raises HeadlightError for an empty text.
        """
        encoded = self.encode(text, second)
        known = accepted_inputs(self.model)
        trims = not all_logits and "logits_to_keep" in known
        if trims:
            inputs.setdefault("logits_to_keep", 1)
        target_text, target_words, left_out = "", None, encoded.left_out
        if self.has_target and not {"decoder_input_ids", "decoder_inputs_embeds"} & set(inputs):
            if target.strip():
                reads = self.encode_target(target)
                inputs["decoder_input_ids"] = reads.inputs["decoder_input_ids"]
                target_text, target_words = target, reads.words
                left_out += reads.left_out
            else:
                written = self.greedy_target(encoded.inputs)
                inputs["decoder_input_ids"], target_words = written, self._words_of(written)
        record = capture(self.model, on_layer=on_layer, **encoded.inputs, **inputs)
        logits = getattr(record.output, "logits", None)
        if self.predicts and not trims and not all_logits and logits is not None and logits.shape[1] > 1:
            record.output.logits = logits[:, -1:].clone()
        ids = encoded.inputs["input_ids"]
        special = set(self.tokenizer.all_special_ids) if self.tokenizer is not None else set()
        record = replace(
            record,
            name=self.name,
            revision=self.revision,
            text=text if isinstance(text, str) else "",
            target_text=target_text,
            second_text=second if isinstance(text, str) and second.strip() else "",
            left_out=left_out,
            characters=encoded.characters,
            tokens=self.labels(ids),
            target_tokens=self.labels(inputs.get("decoder_input_ids")),
            words=encoded.words,
            target_words=target_words,
            segments=encoded.segments,
            special=[i in special for i in ids.flatten().tolist()] if special else None,
            predicts=self.predicts,
        )
        return replace(record, likely=self.next_tokens(record))

    def labels(self, ids: Tensor | None) -> list[str] | None:
        """Display strings of ids (1, tokens)."""
        if self.tokenizer is None or ids is None:
            return None
        return display_tokens(self.tokenizer, ids.flatten().tolist())

    def next_tokens(self, record: Capture, count: int = 5) -> list[tuple[str, float]]:
        """The most likely next tokens after the text and their probabilities; nothing for an encoder."""
        if not self.predicts:
            return []
        chances = record.output.logits[0, -1].float().softmax(dim=-1)  # (vocabulary,)
        best = chances.topk(min(count, len(chances)))
        return list(
            zip(self.labels(best.indices) or map(str, best.indices.tolist()), best.values.tolist(), strict=True)
        )
