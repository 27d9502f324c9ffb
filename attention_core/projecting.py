"""The output projection of every attention call: which linear module reads the blended values of all heads.

Found in one pass over random tokens by comparing numbers; no architecture is named.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .checking import probe_of, self_check
from .seam import Recorder, recording, shadow
from .wiring import PROBE_TOKENS, weight_of

_KNOWN: "weakref.WeakKeyDictionary[PreTrainedModel, list[str | None]]" = weakref.WeakKeyDictionary()


def output_projections(model: PreTrainedModel) -> list[str | None]:
    """One module's name per call of the attention, in the model's order; None where what the heads blended is changed
    before it is projected. Nothing at all for a model that hands out its weights alone."""
    if model not in _KNOWN:
        _KNOWN[model] = _found(model)
    return _KNOWN[model]


def per_head(module: nn.Module, heads: int) -> Tensor:
    """(hidden, heads, value head_dim) float32: what each head's output is multiplied by."""
    weight = weight_of(module)
    assert weight is not None
    return weight.detach().float().reshape(weight.shape[0], heads, -1)


def _found(model: PreTrainedModel) -> list[str | None]:
    check = self_check(model)
    if check.reason:
        return []
    twin = shadow(model, check.implementation)
    names: list[str | None] = []
    waiting: list[tuple[int, Tensor]] = []  # the last outputs of the attention: their place, (1, q, heads × head_dim)

    def attended(number: int, output: Tensor) -> Tensor:
        names.append(None)
        waiting.append((number, output.reshape(*output.shape[:2], -1)))
        del waiting[:-2]  # a module that attends twice may project both behind the second
        return output

    def reads(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            given = args[0] if args and isinstance(args[0], Tensor) else output
            for number, blended in waiting:
                if (
                    names[number] is None
                    and given.numel() == blended.numel()
                    and torch.equal(given.reshape(blended.shape), blended)
                ):
                    names[number] = name
                    return

        return hook

    recorder = Recorder(twin, 0, False, None)
    recorder.instead = attended
    for name, module in twin.named_modules():
        if weight_of(module) is not None:
            module.register_forward_hook(reads(name))
    with torch.no_grad(), recording(recorder):
        twin(**probe_of(model, PROBE_TOKENS))
    return names
