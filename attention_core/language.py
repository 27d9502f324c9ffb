"""LanguageModel: a model that reads text. Knows nothing about where a model comes from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .errors import HeadlightError
from .record import Capture
from .recording import accepted_inputs, capture, use_seam
from .tokens import display_tokens


@dataclass(frozen=True)
class Encoded:
    """A text as a model reads it."""

    inputs: dict[str, Tensor]  # what the tokenizer gave, each (1, tokens)
    left_out: int  # tokens that did not fit
    characters: int  # how much of the text was read


class LanguageModel:
    """A model, its tokenizer and a name. The model's attention goes through the seam from now on; it was checked.

    Without a tokenizer everything takes input_ids, (1, tokens) or (tokens,).
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None, name: str = ""):
        if model.training:
            raise HeadlightError("The model is in training mode, where dropout changes the weights: call model.eval().")
        self.model, self.tokenizer, self.name = model, tokenizer, name or type(model).__name__
        self.check = use_seam(model)

    @property
    def context(self) -> int | None:
        """The largest number of tokens it can read, or None where its positions have no end."""
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if not isinstance(limit, int) or limit <= 0:
            return None
        return min(limit, getattr(self.tokenizer, "model_max_length", limit))

    @property
    def predicts(self) -> bool:
        """Whether it gives a score for every next token (a decoder), rather than vectors (an encoder)."""
        return self.model.can_generate()

    def encode(self, text: str | Tensor | list[int]) -> Encoded:
        """Exactly tokenizer(text), cut where the model's context ends; ids are taken as they are."""
        if not isinstance(text, str):
            return self._given_ids(torch.as_tensor(text))
        if self.tokenizer is None:
            raise HeadlightError(f"{self.name} came without a tokenizer: give input_ids instead of a text.")
        if not text.strip():
            raise HeadlightError("The text is empty: type a sentence.")
        try:
            encoded = self.tokenizer(text, verbose=False)
        except (UnicodeError, TypeError) as error:
            raise HeadlightError("The text has characters that are not valid Unicode: type them again.") from error
        tokens, limit, characters = len(encoded["input_ids"]), self.context, len(text)
        left_out = max(0, tokens - limit) if limit else 0
        if left_out:
            encoded = self.tokenizer(
                text, truncation=True, max_length=limit, return_offsets_mapping=self.tokenizer.is_fast
            )
            offsets = encoded.pop("offset_mapping", [(0, len(text))])
            characters = max(end for _, end in offsets)
        if not encoded["input_ids"]:
            raise HeadlightError("The text has no tokens that this model knows: type a sentence.")
        known = accepted_inputs(self.model)
        inputs = {k: torch.tensor([v], device=self.model.device) for k, v in encoded.items() if k in known}
        return Encoded(inputs, left_out, characters)

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
        return Encoded({"input_ids": read.to(self.model.device)}, ids.shape[1] - read.shape[1], 0)

    def capture(
        self,
        text: str | Tensor | list[int],
        *,
        all_logits: bool = False,
        on_layer: Callable[[int], None] | None = None,
        **inputs: Any,
    ) -> Capture:
        """One forward pass over the text → Capture with the last position's logits (all_logits=True: every one's).

        on_layer and inputs: as in capture(). Raises HeadlightError for an empty text.
        """
        encoded = self.encode(text)
        known = accepted_inputs(self.model)
        trims = not all_logits and "logits_to_keep" in known
        if trims:
            inputs.setdefault("logits_to_keep", 1)
        if self.model.config.is_encoder_decoder and not {"decoder_input_ids", "decoder_inputs_embeds"} & set(inputs):
            start = self.model.config.get_text_config().to_dict().get("decoder_start_token_id")
            inputs["decoder_input_ids"] = torch.full((1, 1), start or 0, device=self.model.device)
        record = capture(self.model, on_layer=on_layer, **encoded.inputs, **inputs)
        logits = getattr(record.output, "logits", None)
        if self.predicts and not trims and not all_logits and logits is not None and logits.shape[1] > 1:
            record.output.logits = logits[:, -1:].clone()
        return replace(
            record,
            name=self.name,
            left_out=encoded.left_out,
            characters=encoded.characters,
            tokens=self.labels(encoded.inputs["input_ids"]),
            target_tokens=self.labels(inputs.get("decoder_input_ids")),
        )

    def labels(self, ids: Tensor | None) -> list[str] | None:
        """Display strings of ids (1, tokens)."""
        if self.tokenizer is None or ids is None:
            return None
        return display_tokens(self.tokenizer, ids.flatten().tolist())

    def next_tokens(self, record: Capture, count: int = 5) -> list[tuple[str, float]]:
        """The most likely next tokens after the text and their probabilities; nothing for an encoder."""
        if not self.predicts:
            return []
        best = record.output.logits[0, -1].float().softmax(dim=-1).topk(count)
        return list(
            zip(self.labels(best.indices) or map(str, best.indices.tolist()), best.values.tolist(), strict=True)
        )
