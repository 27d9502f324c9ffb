"""capture(): one forward pass of any transformers model, recorded, after the model was checked against its own eager
attention. Knows nothing about text: it takes the model's own keyword inputs.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .checking import self_check
from .errors import HeadlightError
from .maps import lengths, run_eager
from .record import Capture, SelfCheck
from .seam import run_recorded, shadow

WEIGHTS_ALONE_UP_TO = 512  # tokens, where a model gives its weights and nothing else


def use_seam(model: PreTrainedModel) -> SelfCheck:
    """Check a model and leave it with our implementation: from now on captures run on it without a copy. One that is
    read by its weights alone is left with its own eager attention."""
    check = self_check(model)
    model.set_attn_implementation(check.implementation)
    return check


def capture(model: PreTrainedModel, *, on_layer: Callable[[int], None] | None = None, **inputs: Any) -> Capture:
    """Run any transformers model once, without gradients, and keep what its attention computed with.

    inputs: the model's own keyword inputs (input_ids, attention_mask, decoder_input_ids …), a batch of one.
    on_layer: called after each attention call with their number so far; it may raise to stop the pass.
    The cache is dropped from the kept output unless use_cache=True is passed.
    A model that hands out its weights alone is read up to 512 tokens; `check.reason` says why.
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
        if check.implementation == "eager":
            _refuse_long(type(model).__name__, inputs)
            output, layers = run_eager(shadow(model, "eager"), inputs, on_layer)
        else:
            output, layers = run_recorded(model if ours else shadow(model, check.implementation), inputs, on_layer)
    if not keeps_cache and getattr(output, "past_key_values", None) is not None:
        output = type(output)(**{name: part for name, part in output.items() if name != "past_key_values"})
    kept = {name: given for name, given in inputs.items() if isinstance(given, Tensor)}
    return Capture(output=output, layers=layers, check=check, inputs=kept, name=type(model).__name__)


def _refuse_long(name: str, inputs: dict[str, Any]) -> None:
    longest = max(max(pair) for pair in lengths(inputs).values())
    if longest > WEIGHTS_ALONE_UP_TO:
        raise HeadlightError(
            f"{name} hands out its attention weights alone, a number for each head and pair of tokens, so it is read "
            f"up to {WEIGHTS_ALONE_UP_TO} tokens at a time. This text has {longest:,}: shorten it."
        )


def accepted_inputs(model: PreTrainedModel) -> set[str]:
    """The keyword inputs that the model's forward names."""
    return set(inspect.signature(type(model).forward).parameters)
