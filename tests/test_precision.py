"""Models of 16 bits and int8: their rounding is bounded, and no error is taken for it."""

import numpy as np
import pytest
import torch
from torch import Tensor

from attention_core import HeadlightError, capture
from tests.architectures import make, some_ids, with_eager
from tests.weights_only_models import WEIGHTS_ONLY


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "name", ["Llama: grouped", "GPT-2: learned positions", "Gemma 2: soft cap", "BERT", "T5: relative positions"]
)
def test_16_bits_go_through_the_seam(name, dtype):
    """The scores, computed here in float64 from the kept vectors, give the weights that eager attention has from the
    same vectors, but for its rounding: a score of size S is off by 2 eps · S at most."""
    model = make(name).to(dtype)
    inputs = {"input_ids": some_ids(19)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = some_ids(11)
    cap = capture(model, **inputs)
    eps = torch.finfo(dtype).eps
    largest = max(cap.scores(i, h).abs().max().item() for i, layer in enumerate(cap.layers) for h in range(layer.heads))
    assert cap.check.implementation.startswith("headlight") and cap.check.reason == ""
    assert cap.check.weights <= np.tanh(eps * 2 * largest) + eps  # of other tokens, so twice their largest score
    assert cap.layers[0].query.dtype == dtype and cap.attention(0, 0).dtype == torch.float32
    with torch.no_grad():
        own = with_eager(model)(**inputs, output_attentions=True)
    # the first attention call alone has the very same queries and keys in both passes
    theirs = (own.get("encoder_attentions") or own.attentions)[0][0]
    for h in range(cap.layers[0].heads):
        size = cap.scores(0, h).abs().max().item()
        ours = cap.attention(0, h)
        assert (ours - theirs[h].float()).abs().max() <= np.tanh(eps * size) + eps
        np.testing.assert_allclose(ours.sum(dim=-1), 1, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["Bloom: ALiBi", "GPT-J", "DeBERTa v2"])
def test_16_bits_of_weights_alone(name, dtype):
    model, ids = WEIGHTS_ONLY[name].model().to(dtype), some_ids(19)
    cap = capture(model, input_ids=ids)
    with torch.no_grad():
        own = with_eager(model)(input_ids=ids, output_attentions=True)
    for i, weights in enumerate(own.attentions):
        assert torch.equal(cap.attention(i, 2), weights[0, 2].float())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_wrong_mask_is_not_taken_for_rounding(dtype):
    """Splinter's modules do not say that they look both ways; sharp weights, whose rounding is large."""
    cap = capture(make("Splinter").to(dtype), input_ids=some_ids(19))
    assert cap.check.implementation == "headlight_explicit"
    assert cap.attention(0, 0).triu(1).any()


def test_a_wrong_scaling_of_a_fiftieth_is_not_taken_for_rounding_in_float16():
    model = make("Llama: grouped").half()
    for layer in model.model.layers:
        honest = type(layer.self_attn).forward

        def forward(self, *args, honest=honest, **kwargs):
            scaling = self.scaling
            self.scaling = scaling * (1 if self.config._attn_implementation == "eager" else 1.02)
            try:
                return honest(self, *args, **kwargs)
            finally:
                self.scaling = scaling

        layer.self_attn.__class__ = type("Lies", (type(layer.self_attn),), {"forward": forward})
    # nor is the eager pass, which is honest, shown in place of the one that the model makes as it was loaded
    with pytest.raises(HeadlightError, match="cannot be shown exactly.*in the pass that returns them its output"):
        capture(model, input_ids=some_ids(9))


class RoundedLinear(torch.nn.Module):
    """A linear layer with int8 weights, and int8 inputs that are scaled anew for every call."""

    def __init__(self, linear: torch.nn.Linear):
        super().__init__()
        self.register_buffer("scale", linear.weight.detach().abs().amax(dim=1, keepdim=True) / 127)
        self.register_buffer("small", (linear.weight.detach() / self.scale).round().to(torch.int8))
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        step = x.abs().max() / 127
        return torch.nn.functional.linear((x / step).round() * step, self.small.float() * self.scale, self.bias)


def test_int8_goes_through_the_seam():
    """Rounded inputs make tiny differences between the eager and the sdpa pass into large ones; they are no error."""
    model = make("Llama: grouped")
    for layer in model.model.layers:
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(layer.self_attn, name, RoundedLinear(getattr(layer.self_attn, name)))
    cap = capture(model, input_ids=some_ids(19))
    assert cap.check.implementation == "headlight" and cap.check.weights <= 1e-5
    with torch.no_grad():
        own = with_eager(model)(input_ids=some_ids(19), output_attentions=True)
    torch.testing.assert_close(cap.attention(0, 2), own.attentions[0][0, 2], atol=1e-5, rtol=0)
