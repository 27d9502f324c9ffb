"""How a model and its tokenizer are read from a transformers folder. No remote code, no pickle, no invented weights.

Knows nothing of captures, nor of where a folder comes from.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, TorchAoConfig

from .checkpoint import cause, has_tokenizer, model_class, must_be_readable, read_config, weight_files
from .errors import HeadlightError
from .memory import DTYPES, estimate_bytes, must_fit

FROM_PRETRAINED = threading.Lock()  # from_pretrained sets process-wide state: two at once spoil later loads
OnStage = Callable[[str], None]  # told in words what is being done


@dataclass(frozen=True)
class Loaded:
    """A model as it was read, its tokenizer, and the Hub's commit it came from, where it came from there."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    revision: str = ""


def load_folder(folder: Path, dtype: str = "float32", device: str | None = None, *, name: str = "") -> Loaded:
    """A transformers folder, as the class that its config names. What is wrong is told before a weight is read, where
    it can be known."""
    name = name or folder.resolve().name
    must_be_readable(folder)
    config = read_config(folder, name)
    kind = model_class(config, name)
    files = weight_files(folder, name, kind.__name__)
    place = placed(device)
    must_fit(name, _needed(config, files, dtype, name), dtype, place)
    tokenizer = read_tokenizer(folder, name)
    return Loaded(read_weights(kind, folder, dtype, place, name), tokenizer)


def placed(device: str | None) -> str:
    """Where a model goes: the device asked for, or the GPU where there is one, all of them where there are several."""
    if device is None:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return "cpu" if count == 0 else "cuda" if count == 1 else "auto"
    if device == "auto":
        return device
    try:
        kind, number = torch.device(device).type, torch.device(device).index or 0
    except RuntimeError:
        kind, number = "", 0
    if kind == "cpu" or (kind == "cuda" and torch.cuda.is_available() and number < torch.cuda.device_count()):
        return device
    if kind == "cuda":
        raise HeadlightError(f"This machine has no GPU “{device}” that torch can use: choose the device cpu.")
    raise HeadlightError(f"There is no device “{device}”: choose cpu, cuda, cuda:1 … or auto (all of them).")


def known_dtype(dtype: str) -> str:
    if dtype not in DTYPES:
        raise HeadlightError(f"There is no dtype “{dtype}”: choose one of {', '.join(DTYPES)}.")
    if dtype == "int8" and find_spec("torchao") is None:
        raise HeadlightError("The dtype int8 needs the package torchao: pip install torchao")
    return dtype


def _needed(config: PreTrainedConfig, files: list[Path], dtype: str, name: str) -> int:
    """Bytes of the model. Weights that are stored quantised are taken as they are."""
    if getattr(config, "quantization_config", None) is not None:
        if dtype == "int8":
            raise HeadlightError(f"{name} is stored quantised already: load it as float32 or bfloat16.")
        return sum(file.stat().st_size for file in files)
    try:
        needed = estimate_bytes(config, dtype)
        if dtype == "int8" and needed > estimate_bytes(config, "bfloat16"):
            raise HeadlightError(
                f"{name} would not get smaller in int8: too few of its weights are in linear layers, the only ones "
                "that are kept in one byte. Choose bfloat16."
            )
    except HeadlightError:
        raise
    except Exception as error:  # a model of anybody's config: whatever its constructor raises becomes a sentence
        raise HeadlightError(
            f"The config.json of {name} describes no model that can be built: {cause(error)} Correct it, or save the "
            "model again."
        ) from error
    return needed


def read_tokenizer(folder: Path, name: str, **where: Any) -> PreTrainedTokenizerBase:
    """The folder's tokenizer, after it has read two words. where: gguf_file."""
    if not where and not has_tokenizer(folder):
        raise HeadlightError(
            f"{name} has no tokenizer: save the one that it was trained with there, with "
            "tokenizer.save_pretrained(folder), or from Python use LanguageModel(model) and give ids."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **where)
        ids = tokenizer("The cat")["input_ids"]
    except Exception as error:  # files of anybody: whatever transformers raises becomes a sentence
        if "trust_remote_code" in str(error):
            raise HeadlightError(
                f"The tokenizer of {name} is Python code of its own, which Headlight never runs: from Python load it "
                "yourself and use LanguageModel(model, tokenizer)."
            ) from error
        raise HeadlightError(_broken_tokenizer(name, cause(error))) from error
    if not set(ids) - set(tokenizer.all_special_ids):
        raise HeadlightError(_broken_tokenizer(name, "it has no vocabulary."))
    return tokenizer


def _broken_tokenizer(name: str, why: str) -> str:
    return f"The tokenizer of {name} cannot be read: {why} Save it again with tokenizer.save_pretrained(folder)."


def read_weights(kind: Any, folder: Path, dtype: str, place: str, name: str, **where: Any) -> PreTrainedModel:
    """The model with all its weights from the file, none of them random. where: gguf_file, quantization_config."""
    if dtype == "int8":
        where["quantization_config"] = _one_byte()
    if place != "cpu":
        where["device_map"] = place if place == "auto" else {"": place}
    try:
        with FROM_PRETRAINED:
            model, info = kind.from_pretrained(
                folder,
                dtype=DTYPES[dtype],
                attn_implementation="eager",  # some modules keep what they were made with
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **where,
            )
    except Exception as error:  # weights of anybody: whatever transformers raises becomes a sentence
        raise HeadlightError(
            f"{name} cannot be loaded: {cause(error)} Save the model again, or choose another one."
        ) from error
    if info["mismatched_keys"]:
        key, stored, wanted = sorted(info["mismatched_keys"])[0]
        raise HeadlightError(
            f"The weights of {name} do not fit its config: {key} has the shape {tuple(stored)}, and the config asks "
            f"for {tuple(wanted)}. Put the config.json beside them that they were saved with."
        )
    missing = sorted(set(info["missing_keys"]) - set(getattr(model, "all_tied_weights_keys", {})))
    if missing:
        raise HeadlightError(
            f"{name} lacks weights ({', '.join(missing[:3])} …), and invented ones would show nothing true: save the "
            "whole model again."
        )
    return model.eval()


def _one_byte() -> TorchAoConfig:
    """Weights of linear layers in one byte with a float32 scale for each row; the numbers between stay float32."""
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig(version=2), include_input_output_embeddings=True)
