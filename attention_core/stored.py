"""A file of tensors and facts: one safetensors file whose metadata holds a JSON description and a checksum of all.

Knows nothing of what the tensors mean. A file is never trusted: nothing in it is run, no name in it is looked up, and
whatever does not fit is refused with a sentence.
"""

import hashlib
import json
import os
import secrets
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor

from .errors import HeadlightError

MARK, VERSION = "headlight capture", 1
HEADER_UP_TO = 64 << 20  # bytes
NOT_OURS = "This is not a recorded run that Headlight saved (a .safetensors file). Choose one that it saved."
DAMAGED = "The file is damaged: its contents are not what was saved. Copy or save it again."
CUT_SHORT = "The file was cut short: its end is missing. Copy or save it again."


def pack(tensors: dict[str, Tensor], facts: dict[str, Any]) -> bytes:
    """Tensors by name and facts that JSON can hold → the bytes of one safetensors file."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    held = Counter(tensor.untyped_storage().data_ptr() for tensor in plain.values())
    for name, tensor in plain.items():  # safetensors refuses tensors that share their storage
        if held[tensor.untyped_storage().data_ptr()] > 1:
            plain[name] = tensor.clone()
    described = json.dumps(facts, ensure_ascii=True)
    metadata = {"mark": MARK, "version": str(VERSION), "facts": described, "sha256": _checksum(plain, described)}
    return write_tensors(plain, metadata)


def unpack(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The bytes of a file → (tensors, facts), or HeadlightError: not ours, cut short, damaged, another version."""
    metadata = _metadata(data[:8], data[8 : 8 + _header_size(data[:8])], len(data))
    try:
        tensors = read_tensors(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError, AssertionError) as error:
        raise HeadlightError(DAMAGED) from error
    described = metadata.get("facts", "")
    if _checksum(tensors, described) != metadata.get("sha256"):
        raise HeadlightError(DAMAGED)
    facts = _parsed(described)
    if not isinstance(facts, dict):
        raise HeadlightError(DAMAGED)
    return tensors, facts


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Whole or not at all: written beside its place, then moved there."""
    place = Path(path)
    unfinished = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        try:
            unfinished.write_bytes(data)
            os.replace(unfinished, place)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise HeadlightError(f"{place} could not be written ({error.strerror}): choose another place.") from error


def read(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file, once its header was found to be ours: a huge file of another kind is not read."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            return _read_checked(file, size)
    except OSError as error:
        raise HeadlightError(f"{path} could not be read ({error.strerror}): choose a saved file.") from error


def _read_checked(file: BinaryIO, size: int) -> bytes:
    first = file.read(8)
    header = file.read(_header_size(first))
    _metadata(first, header, size)
    return first + header + file.read()


def _header_size(first: bytes) -> int:
    size = int.from_bytes(first, "little")
    if len(first) < 8 or not 2 <= size <= HEADER_UP_TO:
        raise HeadlightError(NOT_OURS)
    return size


def _metadata(first: bytes, header: bytes, size: int) -> dict[str, str]:
    """The metadata of a file of `size` bytes, once its mark, its version and its length were found right."""
    if not header.lstrip().startswith(b"{"):
        raise HeadlightError(NOT_OURS)
    if len(header) < _header_size(first):
        raise HeadlightError(CUT_SHORT)
    described = _parsed(header)
    metadata = described.pop("__metadata__", None) if isinstance(described, dict) else None
    if not isinstance(metadata, dict) or metadata.get("mark") != MARK:
        raise HeadlightError(NOT_OURS)
    version = metadata.get("version")
    if version != str(VERSION):
        newer = isinstance(version, str) and version.isascii() and version.isdigit() and int(version[:9]) > VERSION
        if newer:
            raise HeadlightError("The file was written by a newer Headlight: update Headlight to open it.")
        raise HeadlightError("The file was written by another, older Headlight: record the run again and save it.")
    offsets = [part.get("data_offsets") for part in described.values() if isinstance(part, dict)]
    ends = [pair[-1] for pair in offsets if isinstance(pair, list) and pair and isinstance(pair[-1], int)]
    if 8 + len(header) + max([0, *ends]) > size:
        raise HeadlightError(CUT_SHORT)
    return metadata


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise HeadlightError(DAMAGED) from error


def _checksum(tensors: dict[str, Tensor], described: str) -> str:
    """SHA-256 of the description and of every tensor's name, dtype, shape and bytes."""
    digest = hashlib.sha256(described.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        raw: Any = tensor.reshape(-1).view(torch.uint8).numpy()
        digest.update(raw)
    return digest.hexdigest()
