"""Whether a model fits: its bytes, counted from its config before a weight is read, beside what is free."""

import copy
import re
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from .checkpoint import model_class
from .errors import HeadlightError

# what numbers are computed in; int8 keeps the weights of linear layers in one byte and computes in float32
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.float32}
ROOM = 1.1  # a pass over a text needs some memory too
CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def estimate_bytes(config: PreTrainedConfig, dtype: str) -> int:
    """Bytes of the model that config.architectures names, loaded in dtype: parameters and buffers, shared ones once.

    The model is built without memory for its tensors, so this takes a fraction of a second for any size.
    """
    with torch.device("meta"):
        model: Any = model_class(config)(copy.deepcopy(config))
    held: dict[int, int] = {id(buffer): _size(buffer, DTYPES[dtype]) for buffer in model.buffers()}
    one_byte = _kept_in_one_byte(model) if dtype == "int8" else set()
    kept = _kept_in_float32(model, DTYPES[dtype])
    for name, parameter in model.named_parameters():
        if name in one_byte:
            held[id(parameter)] = parameter.numel() + 5 * parameter.shape[0]  # a float32 scale and a zero for each row
        else:
            held[id(parameter)] = _size(parameter, torch.float32 if kept.search(name) else DTYPES[dtype])
    return sum(held.values())


def _size(tensor: Tensor, dtype: torch.dtype) -> int:
    return tensor.numel() * (dtype.itemsize if tensor.is_floating_point() else tensor.element_size())


def _kept_in_one_byte(model: Any) -> set[str]:
    """Names of the weights that int8 stores in one byte: of linear layers, those apart that transformers leaves out."""
    left_out = HfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
    output = model.get_output_embeddings()
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    left_out = [name for name in left_out if output is None or linear.get(name) is not output]
    shared = {id(parameter) for parameter in model.get_input_embeddings().parameters()}
    return {
        f"{name}.weight"
        for name, module in linear.items()
        if should_convert_module(f"{name}.weight", left_out) and id(module.weight) not in shared
    }


def _kept_in_float32(model: Any, dtype: torch.dtype) -> re.Pattern[str]:
    """Parameters that transformers never rounds to 16 bits, because the model would overflow there."""
    names = set(model._keep_in_fp32_modules_strict or []) if dtype != torch.float32 else set()
    if dtype == torch.float16:
        names |= set(model._keep_in_fp32_modules or [])
    return re.compile("|".join(rf"(?:^|\.){name}(?:\.|$)" for name in sorted(names)) or r"(?!)")


def free_bytes(device: str) -> int:
    """What can be had on "cpu", "cuda", "cuda:1", or on all of them together ("auto")."""
    if device == "auto":
        everywhere = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        return free_bytes("cpu") + sum(map(free_bytes, everywhere))
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(torch.device(device))[0]
    return min([psutil.virtual_memory().available, *_cgroup_rooms()])


def _cgroup_rooms() -> list[int]:
    """What is left under each limit that a container or a service sets on this process."""
    v1 = CGROUPS / "memory"
    rooms = [_room(v1 / "memory.limit_in_bytes", v1 / "memory.usage_in_bytes", v1 / "memory.stat")]
    folders = [CGROUPS]
    if OWN_CGROUP.exists():
        own = [line[3:].strip("/") for line in OWN_CGROUP.read_text().splitlines() if line.startswith("0::")]
        folders += [CGROUPS.joinpath(*path.split("/")[:n]) for path in own for n in range(1, path.count("/") + 2)]
    rooms += [_room(f / "memory.max", f / "memory.current", f / "memory.stat") for f in folders]
    return [room for room in rooms if room is not None]


def _room(limit: Path, used: Path, statistics: Path) -> int | None:
    try:
        most, now = int(limit.read_text()), int(used.read_text())  # "max" is no limit
        rows = dict(line.split() for line in statistics.read_text().splitlines())
    except (OSError, ValueError):
        return None
    cached = int(rows.get("total_inactive_file", rows.get("inactive_file", 0)))  # files that it gives back when asked
    return max(0, most - now + cached)


def must_fit(name: str, needed: int, dtype: str, device: str) -> None:
    """Raises HeadlightError where `needed` bytes and some room to run are not free."""
    free = free_bytes(device)
    if needed * ROOM <= free:
        return
    place = {"cpu": "in this machine's memory", "auto": "on all devices together"}.get(device, "on the GPU")
    smaller = {
        "float32": "choose the dtype bfloat16 (half of it) or int8 (about a quarter), or a smaller model",
        "int8": "choose a smaller model, or a machine with more memory",
    }.get(dtype, "choose the dtype int8 (about half of it), or a smaller model")
    raise HeadlightError(
        f"{name} needs about {needed * ROOM / 1e9:.1f} GB in {dtype}, and {free / 1e9:.1f} GB are free {place}: "
        f"{smaller}."
    )
