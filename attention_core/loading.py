"""How a model and its tokenizer are read from disk: a transformers folder, a GGUF file. Knows nothing of captures."""

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import platformdirs
import torch
import transformers
from filelock import FileLock, Timeout
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from . import transformer
from .errors import HeadlightError

log = logging.getLogger(__name__)
_FROM_PRETRAINED = threading.Lock()  # from_pretrained sets process-wide state: two at once spoil later loads
OnStage = Callable[[str], None]  # told in words what is being done


def load_folder(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A transformers folder, as the class that its config names. No remote code, no pickle, no invented weights."""
    local = {"trust_remote_code": False, "local_files_only": True}
    config = AutoConfig.from_pretrained(folder, **local)
    names = config.architectures or []
    kind: Any = next((getattr(m, n) for n in names for m in (transformers, transformer) if hasattr(m, n)), None)
    if kind is None:
        raise HeadlightError(f"{folder.name}: transformers knows no architecture named {names or 'in its config'}.")
    local.pop("trust_remote_code")
    with _FROM_PRETRAINED:
        model, info = kind.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **local
        )
    missing = set(info["missing_keys"]) - set(getattr(model, "all_tied_weights_keys", {}))
    if missing:
        raise HeadlightError(f"{folder.name} lacks weights ({', '.join(sorted(missing)[:3])} …): it cannot be shown.")
    return model, AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def package_folder(package: str) -> Path:
    """The folder of an installed package, which is never imported."""
    spec = find_spec(package.replace("-", "_"))
    assert spec is not None and spec.submodule_search_locations, package
    return Path(spec.submodule_search_locations[0])


def cache_folder() -> Path:
    """Where converted models are kept: HEADLIGHT_CACHE, or the user's cache folder."""
    return Path(os.environ.get("HEADLIGHT_CACHE") or platformdirs.user_cache_dir("headlight", appauthor=False))


def load_gguf(file: Path, name: str, say: OnStage) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A GGUF file, converted once into the cache folder. Whoever comes second waits for the first; where the folder
    cannot be written, the model is used as it is and converted again next time."""
    kept = cache_folder() / f"{name}-{file.stat().st_size}"
    if (kept / "tokenizer.json").exists():
        return load_folder(kept)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{kept}.lock")
        if not _free(lock):
            say("Waiting: the same model is being unpacked by another start")
        with lock.acquire(timeout=300):
            if not (kept / "tokenizer.json").exists():
                _keep(*_convert_gguf(file, say), kept)
        return load_folder(kept)
    except OSError as error:
        log.warning("The unpacked model could not be kept in %s: %s", kept.parent, error)
        model, tokenizer = _convert_gguf(file, say)
        return _rounded(model).float(), tokenizer  # the same numbers as when it is kept


def _free(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


def _keep(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Whole or not at all: written beside its place, then moved there."""
    unfinished = tempfile.mkdtemp(dir=folder.parent)
    try:
        _rounded(model).save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _rounded(model: PreTrainedModel) -> PreTrainedModel:
    return cast(PreTrainedModel, cast(nn.Module, model).to(torch.bfloat16))


def _convert_gguf(file: Path, say: OnStage) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import GgufConfig

    say("Unpacking the weights, once: about twenty seconds")
    where = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    with _FROM_PRETRAINED:
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **where
        )
    say("Reading its tokenizer")
    return model, AutoTokenizer.from_pretrained(file.parent, **where)
