"""The methods that follow attention, worked by hand in float64 from what transformers’ eager attention returns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attention_core import HeadlightError, LanguageModel, capture, explain, relevance
from attention_core.aim import aim_at
from attention_core.attended import received, rollout, value_weighted
from attention_core.attribution import read_again
from attention_core.direct import direct
from attention_core.projecting import output_projections
from tests.architectures import ARCHITECTURES, make, some_ids, with_eager
from tests.tiny import letters

TEXT, OTHER = "why so long", "because"
ONE_STACK = [
    "GPT-2: learned positions",
    "Llama: grouped",
    "Gemma 2: soft cap",
    "gpt-oss: learned sinks",
    "DiffLlama: attention twice in a layer",
    "ALBERT: all layers share their weights",
    "BERT",
    "ModernBERT: local and global layers",
]


def read(name: str) -> tuple[LanguageModel, Tensor, dict]:
    lm = LanguageModel(make(name), letters())
    return lm, lm.encode(TEXT).inputs["input_ids"], {} if lm.predicts else {"target": OTHER}


def eager_maps(lm: LanguageModel, ids: Tensor, **more: Tensor) -> list[np.ndarray]:
    """Each layer's (heads, queries, keys); cross-attention of an encoder-decoder."""
    with torch.no_grad():
        seen = with_eager(lm.model)(input_ids=ids, output_attentions=True, **more)
    return [part[0].double().numpy() for part in (seen.cross_attentions if more else seen.attentions)]


def target_rows(lm: LanguageModel, count: int) -> list[int]:
    """Of an encoder's mean vector every row, else the last."""
    return [count - 1] if lm.predicts else list(range(count))


# ── attention received ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ONE_STACK)
def test_what_the_row_looks_at(name):
    lm, ids, asked = read(name)
    maps = eager_maps(lm, ids)
    rows = target_rows(lm, len(TEXT))
    expected = np.mean([layer[:, rows].mean(axis=(0, 1)) for layer in maps], axis=0)
    np.testing.assert_allclose(explain(lm, TEXT, "attention", **asked).scores, expected, atol=1e-6)
    if "DiffLlama" not in name:
        one = relevance(lm, TEXT, "attention", **asked, layer=1)
        np.testing.assert_allclose(one, maps[1][:, rows].mean(axis=(0, 1)), atol=1e-6)
        one = relevance(lm, TEXT, "attention", **asked, layer=1, head=3)
        np.testing.assert_allclose(one, maps[1][3, rows].mean(axis=0), atol=1e-6)


def test_a_vectors_own_row():
    lm, ids, _ = read("BERT")
    maps = eager_maps(lm, ids)
    for row in (0, 4):
        ours = relevance(lm, TEXT, "attention", token=row, layer=0, head=2)
        np.testing.assert_allclose(ours, maps[0][2, row], atol=1e-6)


def test_an_encoder_decoder_looks_across():
    lm, ids, _ = read("T5: relative positions")
    maps = eager_maps(lm, ids, decoder_input_ids=torch.tensor([[0, 67, 68, 69]]))
    assert [layer.shape for layer in maps] == [(5, 4, len(TEXT))] * 3
    ours = relevance(lm, TEXT, "attention", decoder="abc", layer=2, head=4)
    np.testing.assert_allclose(ours, maps[2][4, 3], atol=1e-6)
    earlier = relevance(lm, TEXT, "attention", decoder="abc", token=1)
    np.testing.assert_allclose(earlier, np.mean([layer[:, 1].mean(axis=0) for layer in maps], axis=0), atol=1e-6)


def test_a_capture_of_a_longer_text_serves(small):
    text, whole = "The old king met the", "The old king met the queen and the dog"
    for method in ("attention", "rollout", "value_weighted"):
        ours = explain(small, whole, method, token=4, capture=small.capture(whole)).scores
        torch.testing.assert_close(ours, explain(small, text, method).scores, atol=1e-6, rtol=1e-5)


# ── value-weighted ──────────────────────────────────────────────────────────────────────────────────────────────────


def lengths(maps: np.ndarray, value: np.ndarray, out: np.ndarray, heads: list[int], rows: list[int]) -> np.ndarray:
    """‖Σ_h α_h v_h W_O‖ (keys,): maps (heads, q, k), value (k, key-value heads × d), out (heads × d, hidden)."""
    width = out.shape[0] // len(maps)
    each = value.reshape(len(value), -1, width)
    group = len(maps) // each.shape[1]
    found = []
    for row in rows:
        handed = sum(maps[h, row][:, None] * (each[:, h // group] @ out[h * width : (h + 1) * width]) for h in heads)
        found.append(np.linalg.norm(handed, axis=-1))
    return np.mean(found, axis=0)


# the modules that make the values (the last columns of what they make) and that project them
PROJECTED = {
    "Llama: grouped": ("model.layers.{}.self_attn.v_proj", "model.layers.{}.self_attn.o_proj", 20, ""),
    "gpt-oss: learned sinks": ("model.layers.{}.self_attn.v_proj", "model.layers.{}.self_attn.o_proj", 20, ""),
    "GPT-2: learned positions": ("transformer.h.{}.attn.c_attn", "transformer.h.{}.attn.c_proj", 40, ""),
    "BERT": ("encoder.layer.{}.attention.self.value", "encoder.layer.{}.attention.output.dense", 40, ""),
    "T5: relative positions": (
        "decoder.block.{}.layer.1.EncDecAttention.v",
        "decoder.block.{}.layer.1.EncDecAttention.o",
        30,
        "abc",
    ),
}


@pytest.mark.parametrize("name", PROJECTED)
def test_how_much_is_handed_on(name):
    lm, ids, asked = read(name)
    made_by, read_by, width, text = PROJECTED[name]
    more = {"decoder_input_ids": torch.tensor([[0, 67, 68, 69]])} if text else {}
    asked |= {"decoder": text} if text else {}
    maps, seen = eager_maps(lm, ids, **more), {}
    twin = with_eager(lm.model)
    for layer in range(len(maps)):
        twin.get_submodule(made_by.format(layer)).register_forward_hook(
            lambda module, args, out, layer=layer: seen.update({layer: out[0, :, -width:].double().numpy()})
        )
    with torch.no_grad():
        twin(input_ids=ids, **more)
    rows, shares = [3] if text else target_rows(lm, len(TEXT)), []
    for layer in range(len(maps)):
        module: nn.Module = twin.get_submodule(read_by.format(layer))
        out = module.weight.detach().double().numpy()
        out = out if "GPT-2" in name else out.T
        for heads, head in ((range(len(maps[layer])), None), ([2], 2)):
            expected = lengths(maps[layer], seen[layer], out, list(heads), rows)
            ours = relevance(lm, TEXT, "value_weighted", **asked, layer=layer, head=head)
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)
            if head is None:
                shares.append(expected / expected.sum())
    ours = relevance(lm, TEXT, "value_weighted", **asked)
    np.testing.assert_allclose(ours, np.mean(shares, axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, one in ARCHITECTURES.items() if one.out_projection])
def test_the_module_that_projects_is_found(name):
    model, architecture = make(name), ARCHITECTURES[name]
    names = output_projections(model)
    assert len(names) == len(architecture.order)
    kind = "cross" if model.config.is_encoder_decoder else architecture.order[0][0]
    found = [module for module, (one, _) in zip(names, architecture.order, strict=True) if one == kind]
    assert found == [architecture.out_projection.format(layer) for layer in range(len(found))]
    assert not any(part._forward_hooks for part in model.modules())


def test_blended_values_that_are_changed_before_they_are_projected():
    """As by a gate: no head's share of the output is its values times the projection."""
    model = make("Llama: grouped")
    model.model.layers[1].self_attn.o_proj.register_forward_pre_hook(lambda module, args: (args[0].tanh(),))
    names = output_projections(model)
    assert names == ["model.layers.0.self_attn.o_proj", None, "model.layers.2.self_attn.o_proj"]
    lm = LanguageModel(model, letters())
    assert relevance(lm, TEXT, "value_weighted", layer=0).shape == (len(TEXT),)
    for layer in (1, None):
        with pytest.raises(HeadlightError, match="changes what its heads blended before it is projected"):
            relevance(lm, TEXT, "value_weighted", layer=layer)
    scorer = aim_at(lm, TEXT)
    found = direct(scorer, read_again(lm, scorer))
    assert [part.heads is None for part in found.layers] == [False, True, False]
    assert found.sum == pytest.approx(found.logit, abs=1e-4)


def test_what_a_sink_takes_away_is_not_handed_on():
    """A sink that shrinks the output after the weights, and one that is in their sum, hand on the same."""
    lm, ids, _ = read("gpt-oss: learned sinks")
    scorer, record = aim_at(lm, TEXT), capture(lm.model, input_ids=ids)
    after = replace(record, layers=[replace(part, sink_scales_output=True) for part in record.layers])
    assert not torch.allclose(received(after, scorer), received(record, scorer), atol=1e-3)
    assert torch.equal(value_weighted(after, scorer, 1), value_weighted(record, scorer, 1))


# ── rollout ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ONE_STACK)
def test_rollout_in_float64(name):
    lm, ids, asked = read(name)
    rolled = np.eye(len(TEXT))
    for layer in eager_maps(lm, ids):
        mean = layer.mean(axis=0)
        mixed = 0.5 * mean / mean.sum(axis=-1, keepdims=True) + 0.5 * np.eye(len(TEXT))
        rolled = mixed @ rolled
    expected = rolled[target_rows(lm, len(TEXT))].mean(axis=0)
    ours = explain(lm, TEXT, "rollout", **asked).scores
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert float(ours.sum()) == pytest.approx(1, abs=1e-6)


def test_rollout_of_a_long_text_goes_in_tiles(monkeypatch):
    lm = LanguageModel(make("Llama: grouped"))
    scorer = aim_at(lm, some_ids(40))
    record = read_again(lm, scorer)
    whole = rollout(record, scorer)
    monkeypatch.setattr("attention_core.attended.ROWS_AT_ONCE", 7)
    torch.testing.assert_close(rollout(record, scorer), whole, atol=1e-7, rtol=1e-6)


# ── attention × gradient ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["GPT-2: learned positions", "Llama: grouped", "Gemma 2: soft cap", "BERT"])
def test_attention_x_gradient_by_autograd(name):
    lm, ids, asked = read(name)
    twin, count = with_eager(lm.model), len(TEXT)
    if lm.predicts:
        seen = twin(input_ids=ids, output_attentions=True)
        number = seen.logits[0, -1, 71] - seen.logits[0, -1, 72]
        asked = {"target": 71, "contrast": 72}
    else:
        with torch.no_grad():
            goal = twin(lm.encode(OTHER).inputs["input_ids"])[0][0].mean(dim=0)
        seen = twin(input_ids=ids, output_attentions=True)
        number = torch.cosine_similarity(seen[0][0].mean(dim=0), goal, dim=0)
    slopes = torch.autograd.grad(number, seen.attentions)
    rolled = np.eye(count)
    for weights, slope in zip(seen.attentions, slopes, strict=True):
        product = (weights[0] * slope[0]).detach().double().numpy()
        rolled = rolled + np.maximum(product, 0).mean(axis=0) @ rolled
    expected = (rolled - np.eye(count))[target_rows(lm, count)].mean(axis=0)
    ours = relevance(lm, TEXT, "attention_x_gradient", **asked)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_where_they_do_not_apply():
    lm, _, _ = read("T5: relative positions")
    for method in ("rollout", "attention_x_gradient"):
        with pytest.raises(HeadlightError, match="does not apply to an encoder-decoder.*Choose another method"):
            explain(lm, TEXT, method, decoder="abc")
    lm, _, _ = read("MiniMax: linear attention between")
    with pytest.raises(HeadlightError, match="of the 4 layers of this model 2 have attention weights"):
        explain(lm, TEXT, "rollout")
    long = LanguageModel(make("Llama: grouped"))
    long.model.config.max_position_embeddings = 2048
    with pytest.raises(HeadlightError, match="it takes up to 1,024 tokens: shorten the text"):
        explain(long, some_ids(1025), "attention_x_gradient")
