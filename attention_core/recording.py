"""capture(): one forward pass of any transformers model, recorded, after the model was checked against its own eager
attention. Knows nothing about text: it takes the model's own keyword inputs.
"""

import inspect
import re
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .errors import HeadlightError
from .record import Capture, LayerCapture, SelfCheck, tensors_in
from .seam import SEAM, SEAM_ADDED, SEAM_EXPLICIT, run_recorded, shadow

TOLERANCE = 1e-5  # of weights, and of outputs relative to the largest, in float32
CHECK_TOKENS = 16

_CHECKS: "weakref.WeakKeyDictionary[PreTrainedModel, SelfCheck]" = weakref.WeakKeyDictionary()


def self_check(model: PreTrainedModel) -> SelfCheck:
    """A few random tokens through the model's own eager attention and through the seam.

    Raises HeadlightError, naming the model and the difference, where they do not agree.
    """
    if model not in _CHECKS:
        _CHECKS[model] = _compare_with_eager(model)
    return _CHECKS[model]


def _compare_with_eager(model: PreTrainedModel) -> SelfCheck:
    name = type(model).__name__
    reads = getattr(model, "main_input_name", "input_ids")
    if reads != "input_ids":
        raise HeadlightError(f"{name} reads {reads}, not text. Headlight shows models that read text.")
    probe = _probe(model)
    with torch.no_grad():
        try:
            own = shadow(model, "eager")(**probe, output_attentions=True)
        except Exception as error:  # any model of anybody: whatever it raises becomes a sentence
            raise HeadlightError(f"{name} could not run a short test input: {error}") from error
        weights = _own_weights(own)
        if not any(weights.values()):
            raise HeadlightError(f"{name} returns no attention weights, so its attention cannot be shown.")
        found: list[SelfCheck | str] = []
        for implementation in (SEAM, SEAM_EXPLICIT, SEAM_ADDED):
            try:
                output, layers = run_recorded(shadow(model, implementation), probe)
                difference = _differences(output, layers, own, weights, implementation)
            except (HeadlightError, RuntimeError, ValueError, TypeError) as error:
                found.append(str(error))
                continue
            found.append(difference)
            if max(difference.weights, difference.output) <= _tolerance(model, layers):
                return difference
        gap = _own_gap(model, probe, own)
        for candidate in found:
            if isinstance(candidate, SelfCheck) and max(candidate.weights, candidate.output) <= gap:
                return candidate
    closest = min((f for f in found if isinstance(f, SelfCheck)), key=lambda f: f.weights + f.output, default=None)
    if closest is None:
        reason = str(found[0])
        raise HeadlightError(reason if reason.startswith(name) else f"{name} cannot be captured: {reason}")
    raise HeadlightError(
        f"{name} cannot be shown exactly: the weights recomputed from its queries and keys differ from its own by up "
        f"to {closest.weights:.1e}, its output by {closest.output:.1e} of the largest value."
    )


def _tolerance(model: PreTrainedModel, layers: list[LayerCapture]) -> float:
    """1e-5; more where the dtype cannot hold the scores better than that: a model's eager and sdpa paths round them
    differently, and an error of a score is a relative error of its weight."""
    every = slice(None)
    largest = max(layer.scores(every, every, every).abs().max().item() for layer in layers)
    return max(TOLERANCE, 8 * torch.finfo(model.dtype).eps * max(largest, 1.0))


def _own_gap(model: PreTrainedModel, probe: dict[str, Tensor], own: Any) -> float:
    """How far the model's own sdpa pass is from its eager pass, four times over: rounding that adds up over many layers
    is no fault of the seam. At most 1e-4, for a model whose two paths disagree is not known exactly."""
    try:
        sdpa = shadow(model, "sdpa")(**probe)
    except (ValueError, RuntimeError, ImportError):
        return 0.0
    return min(4 * _relative_difference(sdpa, own), 10 * TOLERANCE)


def _probe(model: PreTrainedModel) -> dict[str, Tensor]:
    """Inputs for the check: (1, tokens) token ids, for the decoder of an encoder-decoder too."""
    embedding: Any = model.get_input_embeddings()
    vocabulary = embedding.weight.shape[0]
    special = {model.config.get_text_config().to_dict().get(f"{kind}_token_id") for kind in ("pad", "bos", "eos")}
    ordinary = [i for i in range(min(vocabulary, 4096)) if i not in special] or [0]
    random = torch.Generator().manual_seed(0)
    ids = torch.tensor(ordinary)[torch.randint(len(ordinary), (2, _probe_length(model)), generator=random)]
    ids = ids.to(model.device)
    probe = {"input_ids": ids[:1]}
    if model.config.is_encoder_decoder:
        probe["decoder_input_ids"] = ids[1:]
    return probe


def _probe_length(model: PreTrainedModel) -> int:
    """16 tokens, or just more than a small window: what lies beyond a window must be compared too."""
    sizes = model.config.get_text_config().to_dict().items()
    windows = [v for k, v in sizes if type(v) is int and re.search("window|topk$|chunk|local", k) and 0 < v < 256]
    return max([CHECK_TOKENS, *(window + 5 for window in windows)])


def _own_weights(output: Any) -> dict[str, list[Tensor]]:
    """The model's own attention weights by kind; "self" where there is one stack only."""
    parts = {
        "encoder": "encoder_attentions",
        "decoder": "decoder_attentions",
        "self": "attentions",
        "cross": "cross_attentions",
    }
    return {
        kind: [w for w in getattr(output, attribute, None) or () if isinstance(w, Tensor)]
        for kind, attribute in parts.items()
    }


def _differences(output: Any, layers: list[LayerCapture], own: Any, weights: dict, implementation: str) -> SelfCheck:
    largest = 0.0
    every = slice(None)
    for kind, expected in weights.items():
        calls = [layer for layer in layers if layer.kind == kind or (kind == "self" and layer.kind != "cross")]
        if weights["self"] and kind in ("encoder", "decoder") or not expected:
            continue
        if calls and len(calls) != len(expected):  # linear attention returns maps that are not tokens × tokens
            shapes = {(layer.query.shape[1], layer.key.shape[1]) for layer in calls}
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


def use_seam(model: PreTrainedModel) -> SelfCheck:
    """Check a model and leave it with our implementation: from now on captures run on it without a copy."""
    check = self_check(model)
    model.set_attn_implementation(check.implementation)
    return check


def capture(model: PreTrainedModel, *, on_layer: Callable[[int], None] | None = None, **inputs: Any) -> Capture:
    """Run any transformers model once, without gradients, and keep what its attention computed with.

    inputs: the model's own keyword inputs (input_ids, attention_mask, decoder_input_ids …), a batch of one.
    on_layer: called after each attention call with their number so far; it may raise to stop the pass.
    The cache is dropped from the kept output unless use_cache=True is passed.
    Raises HeadlightError for a model in training mode, a batch of several, or a model that cannot be read exactly.
    """
    if model.training:
        raise HeadlightError("The model is in training mode, where dropout changes the weights: call model.eval().")
    for name in ("input_ids", "inputs_embeds", "decoder_input_ids", "decoder_inputs_embeds"):
        given = inputs.get(name)
        if isinstance(given, Tensor) and (given.ndim < 2 or given.shape[0] != 1 or given.shape[1] == 0):
            raise HeadlightError(
                f"capture reads one text at a time: {name} has the shape {tuple(given.shape)}, "
                "(1, tokens) with at least one token is needed."
            )
    check = self_check(model)
    keeps_cache = bool(inputs.get("use_cache"))
    inputs.pop("output_attentions", None)
    ours = model.config._attn_implementation == check.implementation
    with torch.no_grad():
        output, layers = run_recorded(model if ours else shadow(model, check.implementation), inputs, on_layer)
    if not keeps_cache and getattr(output, "past_key_values", None) is not None:
        output = type(output)(**{name: part for name, part in output.items() if name != "past_key_values"})
    kept = {name: given for name, given in inputs.items() if isinstance(given, Tensor)}
    return Capture(output=output, layers=layers, check=check, inputs=kept, name=type(model).__name__)


def accepted_inputs(model: PreTrainedModel) -> set[str]:
    """The keyword inputs that the model's forward names."""
    return set(inspect.signature(type(model).forward).parameters)
