"""A saved Capture: equal to the bit, opened without the model, refused when it is damaged or of another version."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from attention_core import Capture, HeadlightError, capture
from attention_core.layer import LayerCapture
from tests.architectures import ARCHITECTURES, make, some_ids

NAMES = ["Llama: grouped", *[name for name in ARCHITECTURES if "T5" in name or "gpt-oss" in name.lower()]]


def same(a, b) -> bool:
    return torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("name", NAMES)
def test_equal_to_the_bit(name, tmp_path):
    architecture = ARCHITECTURES[name]
    model = architecture.model()
    cap = capture(model, **architecture.inputs(model))
    cap.save(tmp_path / "run.safetensors")
    again = Capture.load(tmp_path / "run.safetensors")
    assert len(again.layers) == len(cap.layers)
    for mine, theirs in zip(again.layers, cap.layers, strict=True):
        for field in fields(LayerCapture):
            assert same(getattr(mine, field.name), getattr(theirs, field.name)), field.name
    for field in fields(Capture):
        if field.name not in ("output", "layers", "inputs"):
            assert getattr(again, field.name) == getattr(cap, field.name), field.name
    assert torch.equal(again.output.logits, cap.output.logits)
    assert again.inputs.keys() == cap.inputs.keys() and all(same(again.inputs[k], cap.inputs[k]) for k in cap.inputs)
    for i, layer in enumerate(cap.layers):
        for head in range(layer.heads):
            # the tensors are the same; products of tensors that lie otherwise in memory round otherwise
            torch.testing.assert_close(again.attention(i, head), cap.attention(i, head), atol=1e-6, rtol=0)


def test_texts_and_words_are_kept(small):
    cap = small.capture("Mr Brown gave the key to Anna.")
    again = Capture.from_bytes(cap.to_bytes())
    for name in ("text", "tokens", "words", "special", "likely", "name", "predicts", "check", "characters"):
        assert getattr(again, name) == getattr(cap, name) and getattr(cap, name) is not None, name


def test_it_opens_without_the_models_package(tmp_path):
    cap = capture(make("Llama: grouped"), input_ids=some_ids(9))
    cap.save(tmp_path / "run.safetensors")
    expected = cap.attention(1, 2).sum().item()
    script = """
import sys
from attention_core import Capture
for name in [name for name in sys.modules if name.startswith("transformers.models.llama")]:
    del sys.modules[name]
sys.modules["transformers.models.llama"] = None  # whoever imports it now fails
cap = Capture.load(sys.argv[1])
assert abs(cap.attention(1, 2).sum().item() - float(sys.argv[2])) < 1e-6
"""
    command = [sys.executable, "-c", script, str(tmp_path / "run.safetensors"), str(expected)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("part", ["a byte of the data", "the end", "the beginning", "the version", "everything"])
def test_damage_is_refused_with_a_sentence(small, part):
    data = bytearray(small.capture("The cat sat.").to_bytes())
    if part == "a byte of the data":
        data[-5] ^= 1
    elif part == "the end":
        data = data[:-100]
    elif part == "the beginning":
        data[0] ^= 0xFF
    elif part == "the version":
        assert data.count(b"version") >= 1
        at = data.index(b"version")
        digit = next(i for i in range(at, at + 40) if chr(data[i]).isdigit())
        data[digit] = ord("9")
    else:
        data = bytearray(b"this is no recording at all " * 10)
    with pytest.raises(HeadlightError) as refused:
        Capture.from_bytes(bytes(data))
    assert str(refused.value).endswith(".") and "Traceback" not in str(refused.value)
