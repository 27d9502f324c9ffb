"""A GGUF file, unpacked once into the cache folder and read from there as a transformers folder."""

import hashlib
import logging
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import Any, cast

import platformdirs
import torch
from filelock import FileLock, Timeout
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5EncoderModel,
)
from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
from transformers.integrations.gguf.reader import GgufHeader, read_gguf_metadata
from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

from .checkpoint import cause, must_be_readable
from .errors import HeadlightError
from .loading import Loaded, OnStage, load_folder, placed, read_tokenizer, read_weights
from .memory import DTYPES, ROOM, free_bytes, must_fit

log = logging.getLogger(__name__)
KEPT_FILES = 3  # unpacked GGUF files of a user that stay in the cache: the last ones used
KNOWN = {*GGUF_CONFIG_ARCHS, *GGUF_SUPPORTED_ARCHITECTURES} - {"general", "tokenizer"}
ARCHITECTURES = {name.replace("_", "") for name in KNOWN}
WITHOUT_ATTENTION = ("mamba", "mamba2", "rwkv6", "rwkv7")


def cache_folder() -> Path:
    """Where unpacked models are kept: HEADLIGHT_CACHE, or the user's cache folder."""
    return Path(os.environ.get("HEADLIGHT_CACHE") or platformdirs.user_cache_dir("headlight", appauthor=False))


def load_gguf(
    file: Path, say: OnStage, dtype: str = "float32", device: str | None = None, *, kept_as: str = ""
) -> Loaded:
    """A GGUF file, unpacked once. Whoever comes second waits for the first; where the cache cannot be written or a
    16-bit model fits only as such, it is used as it is and unpacked again next time.

    kept_as: the place in the cache of a file that comes with us, rounded to bfloat16. Any other file is kept exactly,
    apart from others of its name and size, and the last KEPT_FILES of them stay.
    """
    name = kept_as or file.name
    kept = cache_folder() / f"{kept_as}-{file.stat().st_size}" if kept_as else _own_place(file)
    if (kept / "tokenizer.json").exists():
        return _from_cache(kept, dtype, device, name)
    architecture, unpacked = _must_be_whole(file, name)
    place = placed(device)

    def unkept() -> Loaded:
        if dtype == "int8":
            raise HeadlightError(f"{name} in int8 needs a folder for the unpacked weights: set HEADLIGHT_CACHE to one.")
        read_as = "float32" if kept_as else dtype
        must_fit(name, unpacked * DTYPES[read_as].itemsize, read_as, place)
        model, tokenizer = _unpack(file, architecture, say, read_as, place, name)
        return Loaded(_rounded(model).to(DTYPES[dtype]) if kept_as else model, tokenizer)

    if dtype in ("bfloat16", "float16") and unpacked * 4 * ROOM > free_bytes("cpu"):
        return unkept()
    must_fit(f"{name}, which is unpacked in float32 first,", unpacked * 4, "float32", "cpu")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(kept.parent).free < unpacked * 4 * ROOM:
            raise OSError(28, "No space left on device")
        lock = FileLock(f"{kept}.lock")
        with _held(lock, say):
            if not (kept / "tokenizer.json").exists():
                model, tokenizer = _unpack(file, architecture, say, "float32", "cpu", name)
                _keep(_rounded(model) if kept_as else _shortened(model), tokenizer, kept)
                del model
        if not kept_as:
            _forget_the_oldest(kept.parent)
        return _from_cache(kept, dtype, device, name)
    except OSError as error:
        log.warning("The unpacked model could not be kept in %s: %s", kept.parent, error)
        return unkept()


def _own_place(file: Path) -> Path:
    """Where a user's file is kept: another file, or the same one changed, has another place."""
    file, state = file.resolve(), file.stat()
    digest = hashlib.sha256(f"{file}|{state.st_size}|{state.st_mtime_ns}".encode()).hexdigest()[:16]
    return cache_folder() / "gguf" / f"{file.stem[:40]}-{digest}"


def _from_cache(kept: Path, dtype: str, device: str | None, name: str) -> Loaded:
    with suppress(OSError):
        os.utime(kept)  # used just now
    return load_folder(kept, dtype, device, name=name)


def _forget_the_oldest(folder: Path) -> None:
    unpacked = sorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime, reverse=True)
    for old in unpacked[KEPT_FILES:]:
        shutil.rmtree(old, ignore_errors=True)
        Path(f"{old}.lock").unlink(missing_ok=True)


@contextmanager
def _held(lock: FileLock, say: OnStage) -> Iterator[None]:
    """The lock; who comes second is told what it waits for."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("Waiting: the same model is being unpacked by another start")
        lock.acquire(timeout=300)
    try:
        yield
    finally:
        lock.release()


def _keep(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Whole or not at all: written beside its place, then moved there."""
    unfinished = tempfile.mkdtemp(dir=folder.parent)
    try:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _rounded(model: PreTrainedModel) -> Any:
    return cast(Any, model).to(torch.bfloat16)


def _shortened(model: PreTrainedModel) -> PreTrainedModel:
    """Each weight in 16 bits where that is the same number, else in 32: nothing is rounded."""
    for parameter in model.parameters():
        for dtype in (torch.bfloat16, torch.float16):
            short = parameter.data.to(dtype)
            if torch.equal(short.float(), parameter.data):
                parameter.data = short
                break
    return model


def _must_be_whole(file: Path, name: str) -> tuple[str, int]:
    """A GGUF file's architecture and its number of weights, from its header alone. Raises HeadlightError for anything
    that transformers could not unpack, without reading further."""
    must_be_readable(file)
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise HeadlightError(f"{name} is no GGUF file, whatever its name: choose another file.")
    try:
        metadata, _ = read_gguf_metadata(str(file))
        architecture = str(metadata["general.architecture"])
        header = GgufHeader.from_file(str(file))
    except (struct.error, UnicodeDecodeError, MemoryError, OverflowError) as error:
        raise HeadlightError(f"{name} is damaged or was cut short: copy or download it again.") from error
    except ValueError as error:
        raise HeadlightError(f"{name} cannot be read: {cause(error)} Choose another file.") from error
    plain = architecture.replace("-", "").replace("_", "")
    if plain in WITHOUT_ATTENTION:
        raise HeadlightError(f"{name} is a state-space model: it has no attention heads. Choose a Transformer.")
    if plain not in ARCHITECTURES:
        raise HeadlightError(
            f"{name} holds the architecture {architecture}, which transformers cannot read from GGUF: give the "
            "transformers folder of this model instead."
        )
    if "tokenizer.ggml.tokens" not in metadata:
        raise HeadlightError(f"{name} has no tokenizer in it: convert the model again together with its tokenizer.")
    end = max((header.data_start + t.offset + t.nbytes for t in header.tensors), default=0)
    if end == 0 or end > file.stat().st_size:
        raise HeadlightError(f"{name} was cut short: {file.stat().st_size} of {end} bytes are there. Copy it again.")
    return plain, sum(prod(tensor.shape) for tensor in header.tensors)


def _unpack(
    file: Path, architecture: str, say: OnStage, dtype: str, place: str, name: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    say("Reading its tokenizer")
    tokenizer = read_tokenizer(file.parent, name, gguf_file=file.name)
    say("Unpacking the weights, once: about twenty seconds")
    kind = {"t5": AutoModelForSeq2SeqLM, "t5encoder": T5EncoderModel}.get(architecture, AutoModelForCausalLM)
    where = {"gguf_file": file.name, "quantization_config": GgufConfig(dequantize=True)}
    return read_weights(kind, file.parent, dtype, place, name, **where), tokenizer
