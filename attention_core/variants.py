"""The five small Transformers of assets/positions/, trained alike but for how they are told the order of the tokens;
and what was measured on them (training/measure_positions.py)."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import HeadlightError
from .language import LanguageModel
from .loading import read_tokenizer, read_weights
from .models import ASSETS as ALL_ASSETS
from .transformer import SmallForCausalLM, SmallModel

ASSETS = ALL_ASSETS / "positions"
TOKENIZER = "tokenizer"  # the folder of the one that all share
ENCODINGS = {
    "sinusoidal": "Sinusoidal",
    "learned": "Learned",
    "rope": "RoPE",
    "alibi": "ALiBi",
    "none": "No positions",
}
GET_THEM = "get the folder assets/positions/ of the project again"


def load_variant(name: str, causal: bool = True) -> LanguageModel:
    """The variant of this encoding, float32. causal False: the same weights as an encoder, in which every token sees
    every token; it gives vectors and predicts nothing, and was not trained so.

    Raises HeadlightError for a name that is not in ENCODINGS, and where the files are missing or spoilt.
    """
    if name not in ENCODINGS:
        raise HeadlightError(f"There is no encoding “{name[:200]}”: choose one of {', '.join(ENCODINGS)}.")
    folder, shown = ASSETS / name, f"positions-{name}"
    if not (folder / "config.json").exists():
        raise HeadlightError(f"The weights of {shown} are missing: {GET_THEM}.")
    kind = SmallForCausalLM if causal else SmallModel
    model = read_weights(kind, folder, "float32", "cpu", shown, is_causal=causal)
    return LanguageModel(model, read_tokenizer(ASSETS / TOKENIZER, shown), shown)


@dataclass(frozen=True)
class Change:
    """How much the loss changes, in nats per token, and the 95% interval of its mean over texts."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured on a variant with held-out stories. Losses are nats per token."""

    encoding: str
    positions: np.ndarray  # (bins,) the first position of each bin, from 0; all are equally long
    loss: np.ndarray  # (bins,) mean over texts of the loss at the bin's positions
    low: np.ndarray  # (bins,) of its 95% interval
    high: np.ndarray  # (bins,)
    trained_length: int  # tokens of a training sequence: the positions from here on were never trained
    texts: int
    trained_loss: float  # over the trained positions
    rise: Change  # from the last trained bin to the last bin
    shuffled: dict[int, Change]  # words next to the predicted token that stayed → by how much shuffling the rest hurts
    parameters: int
    tokens: int  # that it was trained on
    seconds: int  # of one processor core

    @property
    def extrapolates(self) -> bool:
        """Whether the loss at the last positions is no higher than at the last trained ones, or may be by chance."""
        return self.rise.low <= 0


def results() -> dict[str, Measured]:
    """What was measured, by encoding, in the order of ENCODINGS. HeadlightError where the file is missing or spoilt."""
    try:
        told = json.loads((ASSETS / "results.json").read_text(encoding="utf-8"))
        return {name: _measured(name, told, told["encodings"][name]) for name in ENCODINGS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HeadlightError(f"The measurements of the five encodings cannot be read: {GET_THEM}.") from error


def _measured(name: str, told: dict[str, Any], own: dict[str, Any]) -> Measured:
    loss, low, high = (np.array(own[key], dtype=float) for key in ("loss", "low", "high"))
    return Measured(
        encoding=name,
        positions=np.arange(len(loss)) * told["bin"],
        loss=loss,
        low=low,
        high=high,
        trained_length=told["trained_length"],
        texts=told["passages"],
        trained_loss=own["trained_loss"],
        rise=Change(**own["rise"]),
        shuffled={int(words): Change(**change) for words, change in own["shuffled"].items()},
        parameters=own["parameters"],
        tokens=own["tokens"],
        seconds=own["seconds"],
    )
