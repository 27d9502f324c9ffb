"""The logit lens: each layer's stream through the model's own end, compared with that end called by hand."""

import numpy as np
import pytest
import torch

from attention_core import HeadlightError, capture
from attention_core.lens import logit_lens
from tests.architectures import ARCHITECTURES, make

WRITERS = [name for name, one in ARCHITECTURES.items() if "decoder" in one.sizes and "DiffLlama" not in name]
BY_HAND = {  # the layers, and what turns a stream (…, hidden) into scores
    "Llama: grouped": lambda m: (m.model.layers, lambda x: m.lm_head(m.model.norm(x))),
    "GPT-2: learned positions": lambda m: (m.transformer.h, lambda x: m.lm_head(m.transformer.ln_f(x))),
    "Gemma 2: soft cap": lambda m: (
        m.model.layers,
        lambda x: 30.0 * torch.tanh(m.lm_head(m.model.norm(x)) / 30.0),
    ),
    "T5: relative positions": lambda m: (
        m.decoder.block,
        lambda x: m.lm_head(m.decoder.final_layer_norm(x) * m.config.d_model**-0.5),  # its head is its embedding
    ),
}


def read(name: str):
    model = make(name)
    record = capture(model, **ARCHITECTURES[name].inputs(model))
    entry = next(i for i, layer in reversed(list(enumerate(record.layers))) if layer.kind == "decoder")
    return model, record, record.layers[entry]


@pytest.mark.parametrize("name", WRITERS)
def test_the_last_layer_is_the_models_own_answer(name: str):
    model, record, layer = read(name)
    for token in (0, layer.shape[1] - 1):
        lens = logit_lens(model, record.inputs, layer.module, token)
        own = record.output.logits[0, token].float().softmax(dim=-1).topk(5)
        assert lens.difference < 1e-5
        assert lens.ids[-1].tolist() == own.indices.tolist()
        assert lens.chances[-1] == pytest.approx(own.values, abs=1e-5)


@pytest.mark.parametrize("name", BY_HAND)
def test_every_layer_as_by_hand(name: str):
    model, record, layer = read(name)
    layers, end = BY_HAND[name](model)
    streams = []
    hooks = [
        part.register_forward_hook(lambda module, args, out: streams.append(out if torch.is_tensor(out) else out[0]))
        for part in layers
    ]
    with torch.no_grad():
        model(**record.inputs)
        expected = [end(stream)[0, 4].float().softmax(dim=-1).topk(5) for stream in streams]
    for hook in hooks:
        hook.remove()
    lens = logit_lens(model, record.inputs, layer.module, 4)
    assert len(expected) == len(lens.ids) > 1
    for n, own in enumerate(expected):
        assert lens.ids[n].tolist() == own.indices.tolist()
        assert lens.chances[n] == pytest.approx(own.values, abs=1e-5)


def test_the_model_is_left_alone(small):
    record = small.capture("The old king met the queen.")
    before = record.output.logits.clone()
    logit_lens(small.model, record.inputs, record.layers[0].module, 3)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in small.model.modules())
    assert torch.equal(small.capture("The old king met the queen.").output.logits, before)


def test_an_encoder_does_not_write():
    model = make("BERT")
    record = capture(model, **ARCHITECTURES["BERT"].inputs(model))
    with pytest.raises(HeadlightError, match="An encoder does not write"):
        logit_lens(model, record.inputs, record.layers[0].module, 3)


@pytest.mark.parametrize("name", ["GPT-2: learned positions", "T5: relative positions"])
def test_wanted_tokens_and_their_ranks(name: str):
    """In NumPy, from the whole of what each layer would write."""
    model, record, layer = read(name)
    whole = logit_lens(model, record.inputs, layer.module, 4, count=97)
    chances = np.zeros((len(whole.ids), 97))
    np.put_along_axis(chances, whole.ids.numpy(), whole.chances.double().numpy(), axis=1)
    wanted = [5, 90, int(whole.ids[-1, 0]), int(whole.ids[0, -1])]
    lens = logit_lens(model, record.inputs, layer.module, 4, wanted=wanted)
    np.testing.assert_allclose(lens.wanted, chances[:, wanted], atol=1e-6)
    places = [[row.tolist().index(i) + 1 for i in wanted] for row in whole.ids]
    assert lens.ranks.tolist() == places and lens.ranks[-1, 2] == 1 and lens.ranks[0, 3] == 97
    none = logit_lens(model, record.inputs, layer.module, 4)
    assert none.wanted.shape == none.ranks.shape == (len(whole.ids), 0)


def test_ranks_of_chances_too_small_for_a_number():
    model, record, layer = read("Llama: grouped")
    with torch.no_grad():
        model.lm_head.weight.mul_(1e4)
    lens = logit_lens(model, record.inputs, layer.module, 4, wanted=range(97))
    assert (lens.wanted[-1] == 0).sum() > 50
    assert sorted(lens.ranks[-1].tolist()) == list(range(1, 98)), "each has a place of its own all the same"
