"""One number of a model, as a function of the vectors of the tokens that it reads: what a relevance is about.

A decoder's number is the score of a next token (or how much higher it is than another token's); an encoder's how near
the text is to a second one, or how much of a token's vector is left. Knows nothing about methods, and nothing about how
a target is found.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from .errors import HeadlightError
from .recording import accepted_inputs

BASELINES = {
    "mean": "the mean of all tokens’ vectors",
    "zero": "zeros",
    "token": "the vector of a token without meaning",
}


@dataclass(frozen=True)
class Candidate:
    """A token that may come next."""

    id: int
    token: str
    share: float  # its probability
    rank: int  # 1: the most likely one


@dataclass(frozen=True)
class Aim:
    """What is asked about, as plain data."""

    kind: str  # "next": a token that a decoder may write; "similarity": to a second text; "vector": of one token
    tokens: tuple[str, ...]  # those that were read and get a score each
    token: int  # the row at which it is asked; in an encoder-decoder a row of the decoder
    value: float  # the number itself, for the text as it is
    score: str  # of SCORES; "cosine" for an encoder
    target: Candidate | None = None
    contrast: Candidate | None = None
    likely: tuple[Candidate, ...] = ()
    follows: Candidate | None = None  # what comes next in the text, where something does
    notes: tuple[str, ...] = ()  # what the reader should know about how the target was found
    texts: tuple[str, ...] = ()  # of an encoder: the text that it is near to, and the one that it is held against
    words: tuple[int | None, ...] | None = None  # the word of each token

    @property
    def nbytes(self) -> int:
        return 64 * len(self.tokens)


@dataclass(frozen=True, eq=False)
class Scorer:
    """The number as a function: scorer(vectors) → one for each row of the batch."""

    aim: Aim
    model: PreTrainedModel
    inputs: dict[str, Tensor]  # all but the tokens whose vectors are given
    ids: Tensor  # (1, tokens)
    vectors: Tensor  # (1, tokens, hidden) what the embedding gives for the tokens
    scale: float = 1.0  # what the embedding's vectors are multiplied by where the model leaves that to its caller
    closed: str = ""  # why nothing can be asked about the vectors of this model, where that is so
    goals: tuple[Tensor, ...] = ()  # of an encoder: unit vectors (hidden,) to be near to, and away from
    outputs: list[Any] | None = None  # what the model returned, with its weights, where somebody wants to see that

    def __call__(self, vectors: Tensor) -> Tensor:
        """(batch, tokens, hidden) → (batch,)"""
        return self.number(self._read(vectors))

    def number(self, seen: Tensor) -> Tensor:
        """What was read, (batch, vocabulary), or of an encoder (batch, tokens, hidden) → (batch,)"""
        if self.aim.kind != "next":
            return self._nearness(seen)
        scores = seen
        if self.aim.score != "logit":
            scores = scores.log_softmax(dim=-1)
        if self.aim.score == "probability":
            scores = scores.exp()
        assert self.aim.target is not None
        value = scores[:, self.aim.target.id]
        return value if self.aim.contrast is None else value - scores[:, self.aim.contrast.id]

    def watched(self, vectors: Tensor) -> Tensor:
        """(batch, tokens, hidden) → (batch,): what a reader understands best. The target's probability; with a
        contrast its share of the two; of an encoder the number itself."""
        seen, target, contrast = self._read(vectors), self.aim.target, self.aim.contrast
        if self.aim.kind != "next":
            return self._nearness(seen)
        assert target is not None
        if contrast is None:
            return seen.softmax(dim=-1)[:, target.id]
        return torch.sigmoid(seen[:, target.id] - seen[:, contrast.id])

    def _read(self, vectors: Tensor) -> Tensor:
        """(batch, tokens, hidden) → (batch, vocabulary) at the row that is asked about; of an encoder (batch, tokens,
        hidden); in float32."""
        if self.closed:
            raise HeadlightError(self.closed)
        batch = {name: given.expand(len(vectors), *given.shape[1:]) for name, given in self.inputs.items()}
        more = {} if self.outputs is None else {"output_attentions": True}
        writes = self.aim.kind == "next"
        output = one_pass(self.model, writes, {"inputs_embeds": vectors, **batch, **more})
        if self.outputs is not None:
            self.outputs.append(output)
        return seen_of(output, writes)

    def _nearness(self, hidden: Tensor) -> Tensor:
        pooled = hidden.mean(dim=1) if self.aim.kind == "similarity" else hidden[:, self.aim.token]
        near = F.normalize(pooled, dim=-1) @ torch.stack(self.goals).T  # (batch, goals)
        return near[:, 0] if len(self.goals) == 1 else near[:, 0] - near[:, 1]

    def baseline(self, kind: str = "mean") -> Tensor:
        """(1, tokens, hidden): what a token is replaced by where it is left out."""
        if kind not in BASELINES:
            raise HeadlightError(f"There is no baseline “{kind}”: choose one of {', '.join(BASELINES)}.")
        embedding = cast(Any, self.model.get_input_embeddings())
        if kind == "zero":
            return torch.zeros_like(self.vectors)
        with torch.no_grad():
            if kind == "token":
                empty = embedding(torch.tensor([[self._empty_token()]], device=self.ids.device))[0, 0]
            else:
                every = torch.arange(embedding.weight.shape[0], device=self.ids.device)
                sums = [embedding(part[None])[0].double().sum(dim=0) for part in every.split(4096)]
                empty = (torch.stack(sums).sum(dim=0) / len(every)).to(self.vectors)
        return (empty * self.scale).expand_as(self.vectors).clone()

    def _empty_token(self) -> int:
        """The token that means least: a mask, else an unknown one, else padding, else the end."""
        named = self.model.config.get_text_config().to_dict()
        given = [named.get(f"{kind}_token_id") for kind in ("mask", "unk", "pad", "eos", "bos")]
        return next((i[0] if isinstance(i, list) else i for i in given if i not in (None, [])), 0)


def one_pass(model: PreTrainedModel, writes: bool, inputs: dict[str, Any]) -> Any:
    """One pass, of which the last row's logits are wanted; of an encoder its stack alone."""
    known = accepted_inputs(model)
    more = {"logits_to_keep": 1} if "logits_to_keep" in known and writes else {}
    more |= {"use_cache": False} if "use_cache" in known else {}
    return (cast(Any, model) if writes else cast(Any, model).base_model)(**inputs, **more)


def seen_of(output: Any, writes: bool) -> Tensor:
    return output.logits[:, -1].float() if writes else output[0].float()
