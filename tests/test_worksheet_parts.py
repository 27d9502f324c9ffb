"""What surrounds a row: the token moved to another position, what each head adds, and the layer around it.

Each beside the model itself: run with other position ids, its projection run on one head alone, hooks on its modules.
"""

from functools import cache

import numpy as np
import pytest
import torch
import transformers as tf
from transformers import PreTrainedModel

from attention_core import Capture, capture, load_model
from attention_core.filling import fill_worksheet
from attention_core.tracing import trace
from attention_core.worksheet import Worksheet
from tests import watched
from tests.architectures import ARCHITECTURES, make, some_ids
from tests.sizes import BERT, LLAMA
from tests.tiny import SENTENCE, needs_smollm2

YARN = "Llama with YaRN"
DEEPSEEK, DIFF = "DeepSeek-V3: latent, values of another size", "DiffLlama: attention twice in a layer"
NEOX, OPT = "GPT-NeoX: parallel blocks, quarter RoPE", "OPT: positions from an offset"
COHERE, GPT2 = "Cohere 2: local layers, global ones without RoPE", "GPT-2: learned positions"
T5, MODERN = "T5: relative positions", "ModernBERT: local and global layers"
T5GEMMA = "T5Gemma: soft cap on both sides"
ALBERT = "ALBERT: all layers share their weights"
HEAD, TOKEN = 3, 9


@cache
def read(name: str) -> tuple[PreTrainedModel, Capture]:
    """A model whose biases and norms are not 0 and 1."""
    if name == "small":
        language = load_model(name)
        return language.model, language.capture(SENTENCE)
    if name == YARN:
        rope = {"rope_type": "yarn", "factor": 8.0, "rope_theta": 100.0, "original_max_position_embeddings": 32}
        torch.manual_seed(0)
        model = tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA, rope_parameters=rope)).eval()
    else:
        model = make(name)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data += (0.3 if parameter.ndim == 1 else 0.01) * torch.randn(parameter.shape, generator=generator)
    return model, capture(model, **ARCHITECTURES["Llama: grouped" if name == YARN else name].inputs(model))


@cache
def sheet_of(name: str, entry: int, head: int = HEAD, token: int = TOKEN) -> Worksheet:
    model, cap = read(name)
    return fill_worksheet(cap, entry, head, token, model)


# ── rotation ────────────────────────────────────────────────────────────────────────────────────────────────────────

TURNED = ["Llama: grouped", YARN, "Phi: half RoPE", NEOX, DEEPSEEK, "Qwen 3: grouped, norms per head"]
TURNED += [COHERE, "Gemma 3: local and global layers", MODERN, "small"]


@pytest.mark.parametrize("name", TURNED)
def test_a_token_moved_to_another_position(name):
    """The model is run with another position id for this token alone; in its first layer nothing else changes."""
    model, cap = read(name)
    sheet, unmoved = sheet_of(name, 0), watched.calls_of(model, cap.inputs)[0]
    rotation, tokens = sheet.rotation, cap.layers[0].shape[1]
    assert rotation is not None and rotation.position == TOKEN and rotation.positions >= 2 * tokens
    ids = torch.arange(tokens)[None]
    for position in (TOKEN, 0, TOKEN + 1, 40):
        moved = watched.calls_of(model, cap.inputs | {"position_ids": ids.where(ids != TOKEN, position)})[0]
        expected = unmoved.key[HEAD] @ moved.query[HEAD, TOKEN] * moved.scaling
        assert watched.off(rotation.moved(position), expected) <= 1e-5
        for key in (0, TOKEN, tokens - 1):
            assert rotation.by_position(key)[position] == pytest.approx(
                float(rotation.moved(position)[key]), abs=1e-5 * np.abs(expected).max()
            )
    own = unmoved.key[HEAD] @ unmoved.query[HEAD, TOKEN] * unmoved.scaling
    assert watched.off(rotation.moved(TOKEN), own) <= 1e-5 and watched.off(sheet.scaled, own) <= 1e-5
    assert watched.off(rotation.moved(40), own) > 0.01, "moving it changed nothing"


@pytest.mark.parametrize("name", TURNED)
def test_equal_distances_give_equal_scores(name):
    sheet = sheet_of(name, 0)
    rotation, key = sheet.rotation, sheet.origins["key"]
    before = torch.stack([key.before(token) for token in range(len(sheet.keys))])
    for shift in (1, 14):
        cos, sin = (part[shift : shift + len(before)] for part in rotation.turns)
        keys = key.turning.turned(before, (cos, sin))  # each so many places further on
        query = rotation.turning.turned(rotation.query_before, (cos[TOKEN], sin[TOKEN]))
        assert watched.off(keys @ query * rotation.scaling, sheet.scaled.double().numpy()) <= 1e-5
        assert watched.off(keys @ sheet.query * rotation.scaling, sheet.scaled.double().numpy()) > 0.005


def test_the_angles_are_those_of_the_paper():
    """Su et al. 2021, eq. 15: pair i turns by position / θ^(2i/d)."""
    angles = TOKEN / 10_000 ** (2 * np.arange(5) / 10)
    turned = np.angle(np.exp(1j * angles))  # −π … π
    np.testing.assert_allclose(sheet_of("Llama: grouped", 1).rotation.angles, turned, atol=1e-5)


def test_yarn_scales_what_it_turns():
    sheet = sheet_of(YARN, 0)
    before, after = sheet.rotation.query_before.norm(), sheet.query.norm()
    assert float(after / before) == pytest.approx(0.1 * np.log(8) + 1, rel=1e-5)  # Peng et al. 2023, section 3.4


@pytest.mark.parametrize("name", [GPT2, "BERT", T5])
def test_no_rotation_where_there_is_none(name):
    sheet = sheet_of(name, 1)
    assert sheet.rotation is None and sheet.origins["query"].turning is None and sheet.missing == {}


def test_a_layer_without_rotation_among_others_that_turn():
    assert [sheet_of(COHERE, entry).rotation is None for entry in range(3)] == [False, False, True]


# ── what a head adds ────────────────────────────────────────────────────────────────────────────────────────────────

PROJECTIONS = {  # the entry and the module that reads the blended values
    "Llama: grouped": (1, "model.layers.1.self_attn.o_proj"),
    GPT2: (2, "transformer.h.2.attn.c_proj"),
    "BERT": (1, "encoder.layer.1.attention.output.dense"),
    DEEPSEEK: (1, "model.layers.1.self_attn.o_proj"),
    T5: (5, "decoder.block.1.layer.1.EncDecAttention.o"),
    OPT: (0, "model.decoder.layers.0.self_attn.out_proj"),
    "gpt-oss: learned sinks": (1, "model.layers.1.self_attn.o_proj"),
}


@pytest.mark.parametrize("name", PROJECTIONS)
def test_what_each_head_adds(name):
    model, cap = read(name)
    entry, module = PROJECTIONS[name]
    heads = cap.layers[entry].heads
    own = watched.eager_pass(model, cap.inputs, [module])
    blended, made = own.given[module][0][TOKEN].reshape(heads, -1), own.made[module][0][TOKEN]
    projection = own.model.get_submodule(module)
    bias = getattr(projection, "bias", None)
    plain = 0 if bias is None else bias.detach().double().numpy()
    seen = trace(model, cap.inputs, entry, cap.layers[entry].module)
    for head in range(heads):
        added = fill_worksheet(cap, entry, head, TOKEN, model, seen).added
        alone = np.zeros_like(blended)
        alone[head] = blended[head]
        with torch.no_grad():
            expected = projection(torch.tensor(alone).float().reshape(1, 1, -1))[0, 0].double().numpy() - plain
        assert np.abs(added.heads[head].double().numpy() - expected).max() <= 1e-5 * np.abs(made).max()
        assert watched.off(added.weight @ torch.tensor(blended[head]).float(), expected) <= 1e-4
        assert module.endswith(f".{added.name}")
    assert (added.bias is None) == (bias is None) and added.heads.shape == (heads, len(made))
    assert bias is None or torch.equal(added.bias, bias)
    assert watched.off(added.sum, made) <= 1e-5
    whole = made - plain
    shares = added.heads.double().numpy() @ whole / (whole @ whole)  # the part of each in the direction of all
    np.testing.assert_allclose(added.shares, shares, atol=1e-4)
    assert float(added.shares.sum()) == pytest.approx(1, abs=1e-5) and shares.std() > 0.01


def test_a_model_that_subtracts_its_heads_says_why_nothing_is_told_apart():
    for entry in (2, 3):
        sheet = sheet_of(DIFF, entry)
        assert sheet.added is None and list(sheet.missing) == ["added"]
        assert "what one head adds cannot be told apart" in sheet.missing["added"]
        assert all(c.agrees for c in sheet.proof) and "attention output" not in [c.name for c in sheet.proof]


# ── around ──────────────────────────────────────────────────────────────────────────────────────────────────────────

ADDS = {  # the entry, the layer, and the parts whose sum is what the layer changes; None: it is no plain sum
    "Llama: grouped": (1, "model.layers.1", ["self_attn", "mlp"]),
    "small": (2, "model.layers.2", ["self_attn", "mlp"]),
    "Mixtral: mixture of experts": (1, "model.layers.1", ["self_attn", "mlp"]),
    GPT2: (1, "transformer.h.1", ["attn", "mlp"]),
    OPT: (1, "model.decoder.layers.1", ["self_attn", "fc2"]),  # its fc2 knows no batch
    MODERN: (1, "model.layers.1", ["attn", "mlp"]),
    NEOX: (1, "gpt_neox.layers.1", ["attention", "mlp"]),  # side by side
    "Phi: half RoPE": (1, "model.layers.1", ["self_attn", "mlp"]),
    COHERE: (1, "model.layers.1", ["self_attn", "mlp"]),
    "Gemma 2: soft cap": (1, "model.layers.1", ["post_attention_layernorm", "post_feedforward_layernorm"]),
    "OLMo 2: norms on queries and keys": (
        1,
        "model.layers.1",
        ["post_attention_layernorm", "post_feedforward_layernorm"],
    ),
    "Pegasus": (3, "model.decoder.layers.0", ["self_attn", "encoder_attn", "fc2"]),
    T5GEMMA: (
        5,
        "model.decoder.layers.1",
        ["post_self_attn_layernorm", "post_cross_attn_layernorm", "post_feedforward_layernorm"],
    ),
    "BERT": (1, "encoder.layer.1", None),
    "DistilBERT": (1, "distilbert.transformer.layer.1", None),
    "BART": (3, "model.decoder.layers.0", None),
    ALBERT: (0, "encoder.albert_layer_groups.0", None),
}


@pytest.mark.parametrize("name", ADDS)
def test_which_parts_make_what_the_layer_changes(name):
    model, cap = read(name)
    entry, block, expected = ADDS[name]
    around = sheet_of(name, entry).around
    names = [part for part, _, _ in around.parts]
    own = watched.eager_pass(model, cap.inputs, [block, *(f"{block}.{part}" for part in names)])
    entered, left = own.given[block][0][TOKEN], own.made[block][0][TOKEN]
    assert watched.off(around.entered, entered) <= 1e-5 and watched.off(around.left, left) <= 1e-5
    parts = [own.made[f"{block}.{part}"][0][TOKEN] for part in names]
    for (_, _, ours), theirs in zip(around.parts, parts, strict=True):
        assert watched.off(ours, theirs) <= 1e-5
    if expected is None:
        assert around.adds is None
        return
    assert around.adds is not None and [names[n] for n in sorted(around.adds)] == expected
    total = entered + sum(parts[n] for n in around.adds)
    assert np.abs(total - left).max() <= 1e-5 * np.abs(left).max()


def test_the_kinds_of_the_parts():
    kinds = {part: kind for part, kind, _ in sheet_of("Llama: grouped", 1).around.parts}
    assert kinds == {
        "input_layernorm": "norm",
        "self_attn": "attention",
        "post_attention_layernorm": "norm",
        "mlp": "feed-forward",
    }
    assert list(kinds) == ["input_layernorm", "self_attn", "post_attention_layernorm", "mlp"], "not as they ran"
    assert {kind for part, kind, _ in sheet_of("Pegasus", 3).around.parts if "attn" in part and "norm" not in part} == {
        "attention"
    }


def test_a_norm_in_the_name_of_a_class_makes_no_norm():
    torch.manual_seed(0)
    model = tf.RobertaPreLayerNormModel(tf.RobertaPreLayerNormConfig(**BERT)).eval()
    around = fill_worksheet(capture(model, input_ids=some_ids(7)), 1, 0, 3, model).around
    kinds = [(part, kind) for part, kind, _ in around.parts]
    assert kinds == [("attention", "attention"), ("intermediate", "feed-forward"), ("output", "feed-forward")]


def test_norms_called_post_are_no_positions():
    model = make(T5GEMMA)
    cap = capture(model, input_ids=some_ids(9), decoder_input_ids=some_ids(9, seed=1))
    assert all(fill_worksheet(cap, entry, 0, 3, model).around.positions is None for entry in (0, 2, 5))


@needs_smollm2
def test_a_small_part_beside_a_large_residual_stream_is_not_forgotten():
    """The first token's stream of SmolLM2 reaches 22,000 where a layer adds less than 10."""
    language = load_model("smollm2-135m")
    cap = language.capture(SENTENCE)
    for entry in (12, 15, 24):
        around = fill_worksheet(cap, entry, 0, 0, language.model).around
        assert float(around.left.abs().max()) > 20_000
        assert [around.parts[n][0] for n in sorted(around.adds)] == ["self_attn", "mlp"]
