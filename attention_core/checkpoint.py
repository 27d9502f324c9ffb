"""What a transformers folder says of itself before a weight is read: its config, its class, its files.

Everything that cannot be loaded is told here, each in its own sentence. Knows nothing of how weights are read.
"""

import json
import re
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from . import transformer
from .errors import HeadlightError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
VOCABULARIES = ("tokenizer.json", "tokenizer_config.json", "*.model", "*.spm", "vocab*", "merges.txt", "*.tiktoken")
CAUSE = 300  # characters of another library's message that are shown


def cause(error: BaseException) -> str:
    """What a library said went wrong, on one line, cut where it goes on for pages."""
    said = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    return said if len(said) <= CAUSE else said[: CAUSE - 1].rstrip() + "…"


def read_config(folder: Path, name: str) -> PreTrainedConfig:
    """The config of a folder that has all it takes to be loaded, or the sentence that says what it lacks."""
    if (folder / "adapter_config.json").exists():
        raise HeadlightError(_adapter(folder, name))
    if not (folder / "config.json").exists():
        raise HeadlightError(
            f"{name} has no config.json, so it is not a model folder of transformers: give the folder that "
            "model.save_pretrained() wrote."
        )
    raw = read_json(folder / "config.json", name)
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers may raise anything on somebody's config: it becomes a sentence
        if "auto_map" in raw:
            raise HeadlightError(_own_code(name)) from error
        kind = raw.get("model_type")
        if "model_type" not in raw or f"`{kind}`" in str(error):
            raise HeadlightError(_unknown(name, f"the model type {kind!r}" if kind else "it: no model_type")) from error
        raise HeadlightError(
            f"The config.json of {name} cannot be used: {cause(error)} Correct it, or save the model again."
        ) from error


def read_json(file: Path, name: str) -> dict[str, Any]:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are both ValueErrors
        raise HeadlightError(
            f"The {file.name} of {name} is broken ({cause(error)}): copy or save the model again."
        ) from error
    if not isinstance(raw, dict):
        raise HeadlightError(f"The {file.name} of {name} holds no settings: copy or save the model again.")
    return raw


def model_class(config: PreTrainedConfig, name: str = "This model") -> type[PreTrainedModel]:
    """The class that config.architectures names. Raises HeadlightError where there is none, or where it reads no text
    or has no attention."""
    names = [n for n in config.architectures or [] if isinstance(n, str)]
    for candidate in names:
        for module in (transformers, transformer):
            kind = getattr(module, candidate, None)
            if isinstance(kind, type) and issubclass(kind, PreTrainedModel):
                _must_read_text(kind, config, name)
                return kind
    if names and getattr(config, "auto_map", None):
        raise HeadlightError(_own_code(name))
    if not names:
        raise HeadlightError(
            f"The config.json of {name} names no architecture: add a line such as "
            '"architectures": ["LlamaForCausalLM"] with the class that the weights were saved from.'
        )
    raise HeadlightError(_unknown(name, " or ".join(names)))


def _must_read_text(kind: type[PreTrainedModel], config: PreTrainedConfig, name: str) -> None:
    given = kind.input_modalities
    reads = {given} if isinstance(given, str) else set(given)
    senses = {"image": "pictures", "video": "films", "audio": "sound", "time": "measurements over time"}
    if "text" not in reads or kind.main_input_name != "input_ids" or (len(reads) > 1 and not kind.can_generate()):
        what = " and ".join(sorted(senses.get(sense, sense) for sense in reads)) or "something else"
        raise HeadlightError(
            f"{name} ({kind.__name__}) reads {what}. Headlight shows models that read text alone: choose one of those."
        )
    heads = getattr(config.get_text_config(), "num_attention_heads", None)
    if heads is None and getattr(kind, "_is_stateful", False):
        raise HeadlightError(
            f"{name} ({kind.__name__}) is a state-space model: it has no attention heads to look at. "
            "Choose a Transformer."
        )


def weight_files(folder: Path, name: str, kind: str) -> list[Path]:
    """The safetensors files of a folder, each whole, or the sentence that says what is wrong with them."""
    if (folder / WEIGHTS).exists():
        files = [folder / WEIGHTS]
    elif (folder / INDEX).exists():
        listed = read_json(folder / INDEX, name).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(file, str) for file in listed.values()):
            raise HeadlightError(f"The {INDEX} of {name} lists no weights: copy or save the model again.")
        files = [folder / file for file in sorted(set(listed.values()))]
        lost = [file.name for file in files if not file.exists()]
        if lost:
            raise HeadlightError(f"{name} lacks {len(lost)} of its {len(files)} files ({_some(lost)}): copy them too.")
    else:
        raise HeadlightError(_no_weights(folder, name, kind))
    for file in files:
        try:
            with safe_open(file, framework="pt"):
                pass  # its header is read and compared with its length
        except (SafetensorError, OSError) as error:
            raise HeadlightError(
                f"{file.name} of {name} is damaged or was cut short ({cause(error)}): copy or download it again."
            ) from error
    return files


def must_be_readable(path: Path) -> None:
    """Raises PermissionError with the file's name: a file that cannot be opened is no damaged file."""
    if path.is_dir():
        for file in path.iterdir():
            if file.suffix in (".json", ".safetensors", ".model", ".txt") and file.is_file():
                must_be_readable(file)
    else:
        path.open("rb").close()


def has_tokenizer(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in VOCABULARIES)


def is_complete(folder: Path) -> bool:
    """Whether a folder has a config, all its weights and a tokenizer, by the names of its files."""
    try:
        names = {WEIGHTS}
        if not (folder / WEIGHTS).exists():
            names = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return (folder / "config.json").exists() and has_tokenizer(folder) and all((folder / n).exists() for n in names)


def _adapter(folder: Path, name: str) -> str:
    base = read_json(folder / "adapter_config.json", name).get("base_model_name_or_path") or "a base model"
    return (
        f"{name} is an adapter: it changes {base} and is no model by itself. Merge the two first with peft, "
        "PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder), and give that folder."
    )


def _own_code(name: str) -> str:
    return (
        f"{name} comes with Python code of its own, which Headlight never runs. Choose a model whose architecture is "
        "part of transformers, or from Python load it yourself and use LanguageModel(model, tokenizer)."
    )


def _unknown(name: str, what: str) -> str:
    return (
        f"{name} cannot be loaded: transformers {transformers.__version__} does not know {what}. Choose a model that "
        "it knows, or install a newer transformers."
    )


def _no_weights(folder: Path, name: str, kind: str) -> str:
    pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    gguf = sorted(file.name for file in folder.glob("*.gguf"))
    if others:
        return f"{name} has {_some(others)} but no {WEIGHTS}: give the folder that model.save_pretrained() wrote."
    if gguf:
        return f"{name} has no {WEIGHTS} but {_some(gguf)}: give the path of that file."
    if pickles:
        return (
            f"{name} has only pickled weights ({_some(pickles)}). Such a file can run code when it is opened, so it is "
            f"never read. If you trust it, convert it once in Python: transformers.{kind}.from_pretrained(folder)"
            ".save_pretrained(folder) writes safetensors."
        )
    return f"{name} has no weights: {WEIGHTS} is missing. Copy it there, or give the folder that has it."


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
