"""A Capture with every field filled, and whether two are equal to the bit."""

import dataclasses
from functools import cache

import torch
from torch import Tensor

from attention_core import Capture, capture
from attention_core.layer import LayerCapture
from tests.architectures import make, some_ids

LABELS = {
    "tokens": ["·a", "<s>", "‹F0›", "=1", "\ud800", "é", '"', "\n", ""],
    "name": "Llama",
    "text": "a\x00b “ü” 😀",
    "target_text": "t",
    "second_text": "s",
    "revision": "0a1b",
    "left_out": 3,
    "characters": 41,
    "predicts": True,
    "likely": [("·the", 0.1 + 0.2), ("<s>", 1e-300)],
    "words": [0, 0, None, 1, 2, 2, 3, None, 4],
    "segments": [0, 0, None, 0, 0, 1, 1, None, 1],
    "special": [False, True, True, False, False, False, False, True, False],
}


@cache
def labelled() -> Capture:
    """A Llama's capture of nine tokens, with every field filled."""
    return dataclasses.replace(capture(make("Llama: grouped"), input_ids=some_ids(9)), **LABELS)


def same_bits(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    raw = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)]
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(*raw)


def assert_equal(loaded: Capture, cap: Capture) -> None:
    """Every field, every tensor to the bit. The output has what tensors and tuples of tensors it had."""
    assert len(loaded.layers) == len(cap.layers)
    for mine, theirs in zip(loaded.layers, cap.layers, strict=True):
        for field in dataclasses.fields(LayerCapture):
            one, other = getattr(mine, field.name), getattr(theirs, field.name)
            if isinstance(one, Tensor) or isinstance(other, Tensor):
                assert same_bits(one, other), field.name
            else:
                assert one == other and type(one) is type(other), field.name
    assert loaded.inputs.keys() == cap.inputs.keys()
    assert all(same_bits(loaded.inputs[name], cap.inputs[name]) for name in cap.inputs)
    for field in dataclasses.fields(Capture):
        if field.name not in ("layers", "inputs", "output"):
            assert getattr(loaded, field.name) == getattr(cap, field.name), field.name
    for name, part in cap.output.items():
        if name == "past_key_values":
            assert name not in loaded.output
        elif isinstance(part, Tensor):
            assert same_bits(loaded.output[name], part) and getattr(loaded.output, name) is loaded.output[name]
        else:
            assert isinstance(loaded.output[name], tuple) and len(loaded.output[name]) == len(part)
            assert all(same_bits(a, b) for a, b in zip(loaded.output[name], part, strict=True))
