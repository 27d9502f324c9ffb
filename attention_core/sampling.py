"""How the next token is chosen from the scores of all: the most likely one, or drawn by chance, by transformers' own
warpers in the order in which generate() applies them.

Knows nothing about models: it takes scores (vocabulary,).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from .errors import HeadlightError


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Sampling:
    """Greedy, or with do_sample=True drawn from what temperature, top_k and top_p (in this order) leave.

    Without do_sample these three are not used, as in generate(). top_k=0 and top_p=1 leave every token. The same seed
    draws the same tokens, and those that generate() draws after torch.manual_seed(seed). stop: words that end the run.
    """

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (_is_number(self.temperature) and 0 < self.temperature < float("inf")):
            raise HeadlightError(
                f"The temperature is {self.temperature}: choose a number above 0, such as 0.7; for the most likely "
                "token at every step, turn sampling off."
            )
        if type(self.top_k) is not int or self.top_k < 0:
            raise HeadlightError(f"top_k is {self.top_k}: choose a whole number from 1, or 0 for every token.")
        if not (_is_number(self.top_p) and 0 < self.top_p <= 1):
            raise HeadlightError(f"top_p is {self.top_p}: choose a number above 0 and up to 1 (1: every token).")
        if type(self.seed) is not int or not 0 <= self.seed < 1 << 63:
            raise HeadlightError(f"The seed is {self.seed}: choose a whole number from 0.")
        words = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        if not all(isinstance(word, str) and word for word in words):
            raise HeadlightError("A stop word is empty: leave it out, or type the text that ends the run.")
        object.__setattr__(self, "stop", words)

    def warpers(self) -> LogitsProcessorList:
        """What generate() would apply, in its order; nothing for greedy."""
        chain = LogitsProcessorList()
        if self.do_sample and self.temperature != 1:
            chain.append(TemperatureLogitsWarper(float(self.temperature)))
        if self.do_sample and self.top_k:
            chain.append(TopKLogitsWarper(self.top_k))
        if self.do_sample and self.top_p < 1:
            chain.append(TopPLogitsWarper(float(self.top_p)))
        return chain

    def probabilities(self, logits: Tensor) -> Tensor:
        """logits (vocabulary,) → (vocabulary,) float32: the chance of each token once the warpers were applied."""
        scores = logits.float()[None]  # (1, vocabulary)
        none_yet = torch.zeros(1, 0, dtype=torch.long, device=scores.device)  # these warpers do not look at the text
        return self.warpers()(none_yet, scores).softmax(dim=-1)[0]  # type: ignore[arg-type, operator]


GREEDY = Sampling()


@dataclass(frozen=True)
class Candidate:
    """A token that could have come next."""

    token: int
    before: float  # its probability by the model alone
    after: float  # its probability once the warpers were applied; the same without sampling


class Chooser:
    """Chooses token after token; with sampling, by a generator of its own."""

    def __init__(self, sampling: Sampling):
        self.sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)

    def choose(self, logits: Tensor) -> int:
        """logits (vocabulary,) float32 on the CPU → the next token."""
        best = int(logits.argmax())
        if bool(logits[best].isnan()):  # NaN counts as the largest
            raise HeadlightError(
                "The model's scores are not numbers (NaN), so no token can be chosen: load it in float32, or choose "
                "another model."
            )
        if not self.sampling.do_sample:
            return best
        chances = self.sampling.probabilities(logits)
        return int(torch.multinomial(chances[None], num_samples=1, generator=self._generator))

    def skip(self, choices: int, vocabulary: int) -> None:
        """Go on as if so many tokens had been chosen already: a draw uses the same random numbers whatever it finds."""
        if self.sampling.do_sample:
            for _ in range(choices):
                torch.multinomial(torch.ones(1, vocabulary), num_samples=1, generator=self._generator)


def candidates(logits: Tensor, sampling: Sampling, chosen: int, count: int) -> tuple[Candidate, ...]:
    """The `count` most likely tokens, the most likely first, and the chosen one behind them if it is not among them."""
    before = logits.float().softmax(dim=-1)  # (vocabulary,)
    after = sampling.probabilities(logits) if sampling.do_sample else before
    ids = before.topk(min(count, len(before))).indices.tolist()
    ids += [] if chosen in ids else [chosen]
    return tuple(map(Candidate, ids, before[ids].tolist(), after[ids].tolist()))
