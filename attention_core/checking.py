"""The comparison of a model with its own eager attention, made once: which way to read it is exact.

First through the seam (queries, keys and values); where that does not serve a model, its weights alone.
"""

import math
import re
import weakref
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .errors import HeadlightError
from .layer import LayerCapture
from .maps import own_maps, run_eager
from .record import SelfCheck, tensors_in
from .seam import CHOOSE, SEAM, SEAM_ADDED, SEAM_EXPLICIT, input_device, run_recorded, shadow

TOLERANCE = 1e-5  # of weights, and of outputs relative to the largest, in float32
CHECK_TOKENS = 16
SEAMS = (SEAM, SEAM_EXPLICIT, SEAM_ADDED)
READS = {"image": "pictures", "video": "video", "audio": "sound", "time": "time series"}

_CHECKS: "weakref.WeakKeyDictionary[PreTrainedModel, SelfCheck]" = weakref.WeakKeyDictionary()


def self_check(model: PreTrainedModel) -> SelfCheck:
    """A few random tokens through the model's own eager attention and through the seam.

    A model that the seam does not serve exactly is read by its weights alone, and the check says why (`reason`).
    Raises HeadlightError, naming the model, where those cannot be shown either.
    """
    if model not in _CHECKS:
        _CHECKS[model] = _compare_with_eager(model)
    return _CHECKS[model]


def _compare_with_eager(model: PreTrainedModel) -> SelfCheck:
    name = type(model).__name__
    other = _reads_besides_text(model)
    if getattr(model, "main_input_name", "input_ids") != "input_ids":
        raise HeadlightError(f"{name} reads {other or model.main_input_name}, not text. {CHOOSE}")
    with torch.no_grad():
        try:
            probe = probe_of(model, _probe_length(model))
            own = shadow(model, "eager")(**probe, output_attentions=True)
        except Exception as error:  # any model of anybody: whatever it raises becomes a sentence
            if other:
                raise HeadlightError(f"{name} reads {other} besides text, and not text alone. {CHOOSE}") from error
            raise HeadlightError(
                f"{name} could not run a short test input: {str(error).rstrip('.')}. {CHOOSE}"
            ) from error
        maps = own_maps(own)
        if not any(isinstance(weights, Tensor) and weights.ndim == 4 for _, _, weights in maps):
            if getattr(model, "_is_stateful", False):
                raise HeadlightError(
                    f"{name} has no attention: it carries a state from token to token instead (a state-space or "
                    f"recurrent model). {CHOOSE}"
                )
            raise HeadlightError(f"{name} returns no attention weights, so its attention cannot be shown. {CHOOSE}")
        try:
            return _through_the_seam(model, probe, own)
        except HeadlightError as error:
            reason = str(error).removesuffix(CHOOSE).strip()
        return _by_weights_alone(model, probe, own, reason)


def _reads_besides_text(model: PreTrainedModel) -> str:
    """In words, what a model reads that is not text; "" for a model of texts."""
    kinds = getattr(model, "input_modalities", "text")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return " and ".join(READS.get(kind, kind) for kind in kinds if kind != "text")


def _through_the_seam(model: PreTrainedModel, probe: dict[str, Tensor], own: Any) -> SelfCheck:
    """Every way through the seam, each compared twice: as captures run it, then in the model's own rounding.

    The second is for models of 16 bits, int8 or many layers, whose eager and sdpa passes drift apart by themselves:
    there the model file's eager function is run on what the seam received, so that every layer has the same queries
    and keys as in the eager pass. What is left is the rounding within one layer, which `_rounding` bounds; and the
    output of the pass that captures run must be as near the eager pass as the model's own sdpa pass is.
    """
    name, found, errors = type(model).__name__, [], []
    for implementation in SEAMS:
        try:
            output, layers = run_recorded(shadow(model, implementation), probe)
            direct = _differences(output, layers, own, implementation)
        except (HeadlightError, RuntimeError, ValueError, TypeError) as error:
            errors.append(str(error))
            continue
        if max(direct.weights, direct.output) <= TOLERANCE:
            return direct
        found.append(direct)
    gap = _own_gap(model, probe, own) if found else 0.0
    for direct in found:
        try:
            output, layers = run_recorded(shadow(model, direct.implementation), probe, own_eager=True)
            within = _differences(output, layers, own, direct.implementation)
        except (HeadlightError, RuntimeError, ValueError, TypeError):
            continue
        bound = _rounding(model, layers)
        if max(within.weights, within.output) <= bound and direct.output <= max(bound, gap):
            return SelfCheck(within.weights, direct.output, direct.implementation, direct.calls)
    if not found:
        raise HeadlightError(errors[0] if errors[0].startswith(name) else f"{name} cannot be captured: {errors[0]}")
    closest = min(found, key=lambda check: check.weights + check.output)
    raise HeadlightError(
        f"{name} cannot be shown exactly: the weights recomputed from its queries and keys differ from its own by up "
        f"to {closest.weights:.1e}, its output by {closest.output:.1e} of the largest value."
    )


def _rounding(model: PreTrainedModel, layers: list[LayerCapture]) -> float:
    """How far a weight may be from ours when the model computed it from the same queries and keys in its own dtype.

    A score of size S is rounded up to four times (the product, the scaling, a soft cap, a bias or mask), by eps / 2
    each: it is off by at most δ = 2 · eps · S. Where all scores of a row are off by at most δ, a weight is off by at
    most σ(δ) − σ(−δ) = tanh(δ / 2) = tanh(eps · S); its own rounding adds eps / 2, twice. Not below 1e-5.
    """
    every, eps = slice(None), torch.finfo(model.dtype).eps
    largest = max(layer.scores(every, every, every).abs().max().item() for layer in layers)
    return max(TOLERANCE, math.tanh(eps * largest) + eps)


def _own_gap(model: PreTrainedModel, probe: dict[str, Tensor], own: Any) -> float:
    """How far the output of the model's own sdpa pass is from its eager pass, four times over: that is no fault of the
    seam. At most 1e-4, or 16 eps: a model whose two paths disagree by more is not known exactly."""
    try:
        sdpa = shadow(model, "sdpa")(**probe)
    except (ValueError, RuntimeError, ImportError):
        return 0.0
    return min(4 * _relative_difference(sdpa, own), max(10 * TOLERANCE, 16 * torch.finfo(model.dtype).eps))


def _by_weights_alone(model: PreTrainedModel, probe: dict[str, Tensor], own: Any, reason: str) -> SelfCheck:
    """The same pass once more: its weights must be of tokens × tokens, and the same as before."""
    try:
        output, layers = run_eager(shadow(model, "eager"), probe)
    except HeadlightError as error:
        raise HeadlightError(f"{reason} {error}") from error
    every, largest = slice(None), 0.0
    for layer, (_, _, weights) in zip(layers, own_maps(own), strict=True):
        largest = max(largest, (layer.weights(every, every, every) - weights[0].float()).abs().max().item())
    check = SelfCheck(largest, _relative_difference(output, own), "eager", len(layers), reason)
    # some modules keep the implementation that they were made with, and read another one's mask wrongly
    as_loaded = _relative_difference(model(**probe), own)
    if not as_loaded <= max(10 * TOLERANCE, 16 * torch.finfo(model.dtype).eps):
        raise HeadlightError(
            f"{reason} Nor can its weights be shown alone: in the pass that returns them its output differs by "
            f'{as_loaded:.1e}. Load it with attn_implementation="eager". {CHOOSE}'
        )
    if not max(check.weights, check.output) <= TOLERANCE:
        raise HeadlightError(
            f"{reason} Nor can its weights be shown alone: two passes over the same tokens differ by "
            f"{check.weights:.1e}. {CHOOSE}"
        )
    return check


def probe_of(model: PreTrainedModel, tokens: int) -> dict[str, Tensor]:
    """Random inputs: (1, tokens) token ids, for the decoder of an encoder-decoder too."""
    embedding: Any = model.get_input_embeddings()
    vocabulary = embedding.weight.shape[0]
    named = model.config.get_text_config().to_dict()
    special: set[Any] = set()
    for kind in ("pad", "bos", "eos"):  # some end in several ways: a list
        token = named.get(f"{kind}_token_id")
        special |= set(token if isinstance(token, list) else [token])
    ordinary = [i for i in range(min(vocabulary, 4096)) if i not in special] or [0]
    random = torch.Generator().manual_seed(0)
    ids = torch.tensor(ordinary)[torch.randint(len(ordinary), (2, tokens), generator=random)]
    ids = ids.to(input_device(model))
    probe = {"input_ids": ids[:1]}
    if model.config.is_encoder_decoder:
        probe["decoder_input_ids"] = ids[1:]
    return probe


def _probe_length(model: PreTrainedModel) -> int:
    """16 tokens, or just more than a small window: what lies beyond a window must be compared too."""
    sizes = model.config.get_text_config().to_dict().items()
    windows = [v for k, v in sizes if type(v) is int and re.search("window|topk$|chunk|local", k) and 0 < v < 256]
    return max([CHECK_TOKENS, *(window + 5 for window in windows)])


def _differences(output: Any, layers: list[LayerCapture], own: Any, implementation: str) -> SelfCheck:
    """The largest difference of our weights and output from the model's own; HeadlightError where they do not match."""
    every, largest = slice(None), 0.0
    maps: dict[str, list[Tensor]] = {}
    for kind, _, weights in own_maps(own):
        if isinstance(weights, Tensor):
            maps.setdefault(kind, []).append(weights)
    for kind, expected in maps.items():
        if "self" in maps and kind in ("encoder", "decoder"):
            continue
        calls = [layer for layer in layers if layer.kind == kind or (kind == "self" and layer.kind != "cross")]
        if calls and len(calls) != len(expected):  # linear attention returns maps that are not tokens × tokens
            shapes = {layer.shape[1:] for layer in calls}
            expected = [w for w in expected if tuple(w.shape[-2:]) in shapes]
        if len(calls) != len(expected):  # a module that attends twice in one layer returns its first weights
            calls = [layer for n, layer in enumerate(calls) if not n or calls[n - 1].module != layer.module]
        if len(calls) != len(expected):
            raise HeadlightError(
                f"it makes {len(expected)} attention maps ({kind}) of which {len(calls)} go through transformers' "
                "attention interface."
            )
        for layer, theirs in zip(calls, expected, strict=True):
            ours = layer.weights(every, every, every)
            if ours.shape != theirs[0].shape:
                raise HeadlightError(f"layer {layer.layer} ({kind}) returns weights of another shape than its keys.")
            largest = max(largest, (ours - theirs[0].float()).abs().max().item())
    return SelfCheck(largest, _relative_difference(output, own), implementation, len(layers))


def _relative_difference(output: Any, own: Any) -> float:
    """The largest difference of two outputs as a share of the largest value."""
    mine, theirs = _main(output).float(), _main(own).float()
    return ((mine - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30)).item()


def _main(output: Any) -> Tensor:
    """The logits, the last hidden state, or whatever the model gives first."""
    for name in ("logits", "last_hidden_state"):
        if isinstance(getattr(output, name, None), Tensor):
            return getattr(output, name)
    return next(tensor for tensor in tensors_in(output) if tensor.is_floating_point())
