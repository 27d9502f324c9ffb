"""What a model computes by itself, seen by hooks and an attention function of the tests' own: the worksheet's oracle.

Shares no code with attention_core. Copies are watched, never the model itself.
"""

import copy
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

CALLS: list["Call"] = []  # of the pass that runs now


@dataclass(frozen=True)
class Call:
    """One call of a model's attention, as the tests' own attention function got it."""

    query: np.ndarray  # (heads, queries, head_dim), float64 like all that follow
    key: np.ndarray  # (heads, keys, head_dim), repeated where heads share it
    value: np.ndarray  # (heads, keys, value head_dim)
    weights: np.ndarray  # (heads, queries, keys) of the model file's own eager function
    blended: np.ndarray  # (queries, heads, value head_dim)
    scaling: float
    softcap: float | None
    bias: np.ndarray | None  # (1 or heads, queries, keys)

    def scores(self, head: int, token: int) -> np.ndarray:
        """(keys,) q · k × scaling, the soft cap and the bias."""
        scores = self.key[head] @ self.query[head, token] * self.scaling
        if self.softcap is not None:
            scores = self.softcap * np.tanh(scores / self.softcap)
        return scores if self.bias is None else scores + self.bias[head % len(self.bias), token]


def _watching(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    own = sys.modules[type(module).__module__].eager_attention_forward
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    output, weights = own(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)
    heads, bias = query.shape[1], kwargs.get("position_bias")
    key, value = (part.repeat_interleave(heads // part.shape[1], dim=1) for part in (key, value))
    q, k, v, w = (part[0].double().numpy().copy() for part in (query, key, value, weights))
    bias = None if bias is None else bias[0].double().numpy()
    CALLS.append(Call(q, k, v, w, output[0].double().numpy().copy(), float(scaling), kwargs.get("softcap"), bias))
    return output, weights


AttentionInterface.register("tests_watch", _watching)
AttentionMaskInterface.register("tests_watch", eager_mask)


def twin_of(model: PreTrainedModel) -> PreTrainedModel:
    """A module tree and a config of its own over the same weights."""
    return copy.deepcopy(model, {id(t): t for t in (*model.parameters(), *model.buffers())})


def calls_of(model: PreTrainedModel, inputs: dict[str, Any]) -> list[Call]:
    """Every call of the attention in one pass of a copy, in the model's order."""
    twin = twin_of(model)
    twin.set_attn_implementation("tests_watch")
    CALLS.clear()
    with torch.no_grad():
        twin(**inputs)
    return list(CALLS)


@dataclass
class Eager:
    """One pass of an eager copy: its output, and what was given to and made by the modules that were asked for."""

    model: PreTrainedModel
    output: Any = None
    given: dict[str, list[np.ndarray]] = field(default_factory=dict)  # by module, one (tokens, width) each time it ran
    made: dict[str, list[np.ndarray]] = field(default_factory=dict)


def eager_pass(model: PreTrainedModel, inputs: dict[str, Any], modules: list[str], **more: Any) -> Eager:
    twin = twin_of(model)
    twin.set_attn_implementation("eager")
    seen = Eager(twin)
    for name in modules:
        given, made = seen.given.setdefault(name, []), seen.made.setdefault(name, [])
        twin.get_submodule(name).register_forward_pre_hook(
            lambda module, args, kwargs, given=given: given.append(rows((*args, *kwargs.values())[0])),
            with_kwargs=True,
        )
        twin.get_submodule(name).register_forward_hook(
            lambda module, args, output, made=made: made.append(rows(output))
        )
    with torch.no_grad():
        seen.output = twin(**inputs, **more)
    return seen


def rows(thing: Any) -> np.ndarray:
    """(tokens, width) float64 of a module's input or output, with a batch of one."""
    tensor: Tensor = thing[0] if isinstance(thing, tuple) else thing
    return tensor.detach().reshape(-1, tensor.shape[-1]).double().numpy().copy()


def eager_weights(output: Any) -> dict[str, list[np.ndarray]]:
    """The weights that the model returns, each (heads, queries, keys); of a model of one stack as "self"."""
    names = {"encoder": "encoder_attentions", "decoder": "decoder_attentions", "cross": "cross_attentions"}
    if output.get("encoder_attentions") is None:
        names = {"self": "attentions"}
    return {kind: [w[0].double().numpy() for w in output[name]] for kind, name in names.items()}


def off(ours: Tensor | np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference as a share of the largest absolute value of theirs."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(np.asarray(ours, dtype=np.float64) - theirs).max() / np.abs(theirs).max())
