"""Rotation by position: undone and done again, beside transformers' own functions and NumPy's complex numbers."""

import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.deepseek_v3 import modeling_deepseek_v3

from attention_core.wiring import Turning
from attention_core.worksheet import Origin
from tests import watched
from tests.test_wiring import DEEPSEEK, HEAD, read, sheet_of


def by_transformers(model: PreTrainedModel, which: str, cos: Tensor, sin: Tensor, before: np.ndarray) -> np.ndarray:
    """before (tokens, head_dim) turned by the function of the model's own file."""
    own = sys.modules[type(model.model.layers[1].self_attn).__module__].apply_rotary_pos_emb
    vectors = torch.tensor(before)[None, None]
    return own(vectors, vectors, cos.double(), sin.double())[which == "key"][0, 0].numpy()


@pytest.mark.parametrize(
    "name, projection",
    [
        ("Llama: grouped", "{}_proj"),
        ("Qwen 3: grouped, norms per head", "{}_norm"),
        ("Mistral: sliding window", "{}_proj"),
        ("Cohere 2: local layers, global ones without RoPE", "{}_proj"),  # neighbours, not halves
    ],
)
def test_before_and_after_the_rotation(name, projection):
    model, cap = read(name)
    inside, size = "model.layers.1.self_attn", cap.layers[1].query.shape[2]
    modules = {"query": f"{inside}.{projection.format('q')}", "key": f"{inside}.{projection.format('k')}"}
    own = watched.eager_pass(model, cap.inputs, list(modules.values()))
    cos, sin = model.model.rotary_emb(torch.zeros(1, 1), torch.arange(23)[None])
    for which, head in (("query", HEAD), ("key", 1)):
        before = own.made[modules[which]][0].reshape(23, -1, size)[:, head]
        after = by_transformers(model, which, cos, sin, before)
        origin = sheet_of(name).origins[which]
        assert watched.off(torch.stack([origin.before(token) for token in range(23)]), before) <= 1e-5
        assert watched.off(torch.stack([origin.after(token) for token in range(23)]), after) <= 1e-5
        assert np.abs(after - before)[1:].max() > 0.1
    assert sheet_of(name).origins["value"].turning is None


def test_deepseeks_rotation_is_undone():
    """Its neighbours become halves on the way: the worksheet has them in the order in which they are used."""
    model, cap = read(DEEPSEEK)
    name = "model.layers.1.self_attn.q_b_proj"
    vectors = watched.eager_pass(model, cap.inputs, [name]).made[name][0].reshape(23, 6, 10)[:, HEAD]
    cos, sin = model.model.rotary_emb(torch.zeros(1, 1), torch.arange(23)[None])
    turned = torch.tensor(vectors[:, 6:])[None, None]
    after, _ = modeling_deepseek_v3.apply_rotary_pos_emb_interleave(turned, turned, cos.double(), sin.double())
    origin = sheet_of(DEEPSEEK).origins["query"]
    assert origin.turning == Turning(((6, 8), (7, 9)))
    ours = torch.stack([origin.after(token) for token in range(23)])
    assert watched.off(ours, np.concatenate([vectors[:, :6], after[0, 0].numpy()], axis=1)) <= 1e-5


TOKENS, WIDTH = 7, 12
TURNINGS = {  # made up: pairs, and how the table has its angles
    "halves": ([(i, i + 6) for i in range(6)], "halves"),
    "neighbours": ([(2 * i, 2 * i + 1) for i in range(6)], "neighbours"),
    "neighbours, angles as halves": ([(2 * i, 2 * i + 1) for i in range(6)], "halves"),
    "a part at the front": ([(0, 2), (1, 3)], "halves"),
    "a part at the back": ([(8, 9), (10, 11)], "neighbours"),
    "each angle once": ([(i, i + 6) for i in range(6)], "once"),
}


@pytest.mark.parametrize("size", [1.0, 1.3])  # YaRN scales cos and sin alike
@pytest.mark.parametrize("name", TURNINGS)
def test_turning_there_and_back(name, size):
    pairs, layout = TURNINGS[name]
    random = np.random.default_rng(0)
    vectors, angles = random.normal(size=(TOKENS, WIDTH)), random.uniform(-9, 9, size=(TOKENS, len(pairs)))
    wide = {"halves": np.tile(angles, 2), "neighbours": np.repeat(angles, 2, axis=1), "once": angles}[layout]
    table = torch.tensor(size * np.cos(wide)).float(), torch.tensor(size * np.sin(wide)).float()
    first, second = np.transpose(pairs)
    pair = (vectors[:, first] + 1j * vectors[:, second]) * size * np.exp(1j * angles)
    expected = vectors.copy()
    expected[:, first], expected[:, second] = pair.real, pair.imag

    turning, given = Turning(tuple(pairs)), torch.tensor(vectors).float()
    turned = turning.turned(given, table)
    assert watched.off(turned, expected) <= 1e-6
    assert watched.off(turning.undone(turned, table), vectors) <= 1e-6
    assert torch.equal(given, torch.tensor(vectors).float()), "the given vectors were written over"
    for token in range(TOKENS):  # one at a time, as an Origin does
        row = table[0][token], table[1][token]
        assert watched.off(turning.turned(given[token], row), expected[token]) <= 1e-6
        origin = Origin((), WIDTH, turning, table)
        assert bool((origin.after(token) == 0).all())
