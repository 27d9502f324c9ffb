"""A model of the Hugging Face Hub: found on this machine first, else asked for within four seconds, then downloaded.

Only config, tokenizer and safetensors are fetched: no code, no pickle. Knows nothing of what a model is.
"""

import queue
import threading
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, ModelInfo, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from .checkpoint import cause, is_complete
from .errors import HeadlightError
from .loading import OnStage

SECONDS = 4.0  # for the Hub's answer, a name server that never answers included
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
WANTED = (*WEIGHTS, "*.json", "*.txt", "*.model", "*.spm", "*.tiktoken", "*.jinja")


def is_hub_id(name: str) -> bool:
    """Whether a name has the form owner/name."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.count("/") == 1


def hub_size(name: str) -> int | None:
    """Bytes that would be downloaded: 0 when the model is here already, None when the Hub cannot be reached.

    Raises HeadlightError for a model that it does not have, does not give, or that has no safetensors.
    """
    if _here(name) is not None:
        return 0
    try:
        return _missing_bytes(_ask(name))
    except ConnectionError:
        return None


def hub_folder(name: str, say: OnStage) -> tuple[Path, str]:
    """The folder of a model, downloaded if need be, and its commit."""
    folder = _here(name)
    if folder is None:
        try:
            found = _ask(name)
            say(f"Downloading {name}: {_missing_bytes(found) / 1e6:,.0f} MB")
            folder = Path(snapshot_download(name, allow_patterns=_wanted(found)))
        except ConnectionError as error:
            raise HeadlightError(
                f"{name} is not on this machine and the Hub cannot be reached ({error}): connect, or give a folder."
            ) from error
        except HeadlightError:
            raise
        except Exception as error:  # network, disk or server may fail in any way: it becomes a sentence
            raise HeadlightError(_refusal(name, error)) from error
    return folder, folder.name


def _here(name: str) -> Path | None:
    """The model's folder in the Hub's own cache, if everything is there."""
    try:
        folder = Path(snapshot_download(name, local_files_only=True, allow_patterns=["config.json"]))
    except LocalEntryNotFoundError:
        return None
    return folder if is_complete(folder) else None


def _ask(name: str) -> ModelInfo:
    """What the Hub says of a model. Raises ConnectionError where it cannot be reached in time."""
    answer: queue.Queue[ModelInfo | Exception] = queue.Queue(1)

    def ask() -> None:
        try:
            answer.put(HfApi().model_info(name, files_metadata=True, timeout=SECONDS))
        except Exception as error:  # handed to the thread that waits, which makes a sentence of it
            answer.put(error)

    threading.Thread(target=ask, daemon=True).start()  # a name server may hang for longer than any timeout holds
    try:
        found = answer.get(timeout=SECONDS)
    except queue.Empty:
        raise ConnectionError(f"no answer in {SECONDS:.0f} seconds") from None
    if isinstance(found, OfflineModeIsEnabled):
        raise ConnectionError("HF_HUB_OFFLINE is set") from found
    if isinstance(found, HfHubHTTPError):
        raise HeadlightError(_refusal(name, found)) from found
    if isinstance(found, Exception):
        raise ConnectionError(cause(found)) from found
    if not any(fnmatch(file, pattern) for file in _wanted(found) for pattern in WEIGHTS):
        raise HeadlightError(_without_safetensors(name, [file.rfilename for file in found.siblings or []]))
    return found


def _wanted(found: ModelInfo) -> list[str]:
    """The files of a model's first folder that are read."""
    names = [file.rfilename for file in found.siblings or []]
    return [n for n in names if "/" not in n and any(fnmatch(n, pattern) for pattern in WANTED)]


def _missing_bytes(found: ModelInfo) -> int:
    wanted = set(_wanted(found))
    return sum(
        file.size or 0
        for file in found.siblings or []
        if file.rfilename in wanted
        and not isinstance(try_to_load_from_cache(found.id, file.rfilename, revision=found.sha), str)
    )


def _refusal(name: str, error: Exception) -> str:
    if isinstance(error, GatedRepoError):
        return (
            f"{name} is given only to those who accept its terms: accept them on its page on the Hub, then log in on "
            "this machine with: hf auth login"
        )
    if isinstance(error, RepositoryNotFoundError):
        return f"The Hub has no model {name}, or it is private: check the name, or log in with: hf auth login"
    return f"{name} could not be downloaded: {cause(error)} Try again; what has arrived is kept."


def _without_safetensors(name: str, files: list[str]) -> str:
    if any(file.endswith(".gguf") for file in files):
        return f"{name} has no safetensors but GGUF files: download one of them and give its path."
    if any(file.endswith((".bin", ".pt", ".pth", ".ckpt")) for file in files):
        return (
            f"{name} has only pickled weights. Such a file can run code when it is opened, so it is never read: choose "
            "a version of the model with safetensors, or convert it yourself and give the folder."
        )
    return f"{name} has no model.safetensors: choose a model of transformers."
