"""Where a head's query, key and value come from: the very rows of the very module.

The rows are taken from the state dict by hand.
"""

from functools import cache

import numpy as np
import pytest
import torch
import transformers as tf
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaAttention, apply_rotary_pos_emb, eager_attention_forward

from attention_core import Capture, capture
from attention_core.filling import fill_worksheet
from attention_core.worksheet import Worksheet
from tests import watched
from tests.architectures import ARCHITECTURES, make, some_ids
from tests.sizes import LLAMA, PLAIN

GPT2, NEOX, BIGCODE = "GPT-2: learned positions", "GPT-NeoX: parallel blocks, quarter RoPE", "GPT-BigCode: multi-query"
DEEPSEEK, OPT = "DeepSeek-V3: latent, values of another size", "OPT: positions from an offset"
HEAD, TOKEN = 3, 9
Row = tuple[str, list[int]]


@cache
def read(name: str) -> tuple[PreTrainedModel, Capture]:
    """A model whose biases and norms are not 0 and 1."""
    model, generator = make(name), torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model, capture(model, **ARCHITECTURES[name].inputs(model))


@cache
def sheet_of(name: str, entry: int = 1) -> Worksheet:
    model, cap = read(name)
    return fill_worksheet(cap, entry, HEAD, TOKEN, model)


def span(start: int, count: int) -> list[int]:
    return list(range(start, start + count))


# by component of head 3's vectors: the module in layer 1, and which row of its weight (out, in)
ROWS: dict[str, tuple[str, dict[str, list[Row]]]] = {
    "Llama: grouped": (  # 6 heads of 10, which share 2 keys and values
        "model.layers.1.self_attn",
        {"query": [("q_proj", span(30, 10))], "key": [("k_proj", span(10, 10))], "value": [("v_proj", span(10, 10))]},
    ),
    GPT2: (  # all queries, then all keys, then all values: 5 heads of 8 each
        "transformer.h.1.attn",
        {
            "query": [("c_attn", span(24, 8))],
            "key": [("c_attn", span(40 + 24, 8))],
            "value": [("c_attn", span(80 + 24, 8))],
        },
    ),
    NEOX: (  # head after head its query, key and value
        "gpt_neox.layers.1.attention",
        {
            "query": [("query_key_value", span(72, 8))],
            "key": [("query_key_value", span(72 + 8, 8))],
            "value": [("query_key_value", span(72 + 16, 8))],
        },
    ),
    BIGCODE: (  # all queries, then the one key and the one value
        "transformer.h.1.attn",
        {"query": [("c_attn", span(24, 8))], "key": [("c_attn", span(40, 8))], "value": [("c_attn", span(48, 8))]},
    ),
    DEEPSEEK: (  # 6 numbers without and 4 with RoPE, whose neighbours become halves; the key's come from elsewhere
        "model.layers.1.self_attn",
        {
            "query": [("q_b_proj", span(30, 6) + [36, 38, 37, 39])],
            "key": [("kv_b_proj", span(39, 6)), ("kv_a_proj_with_mqa", [14, 16, 15, 17])],
            "value": [("kv_b_proj", span(45, 7))],
        },
    ),
    OPT: (
        "model.decoder.layers.1.self_attn",
        {"query": [("q_proj", span(24, 8))], "key": [("k_proj", span(24, 8))], "value": [("v_proj", span(24, 8))]},
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_right_rows_of_the_right_module(name):
    model, cap = read(name)
    inside, expected = ROWS[name]
    state, sheet = model.state_dict(), sheet_of(name)
    modules = sorted({f"{inside}.{module}" for rows in expected.values() for module, _ in rows})
    own = watched.eager_pass(model, cap.inputs, modules)
    for which, rows in expected.items():
        origin = sheet.origins[which]
        assert sorted(c for piece in origin.pieces for c in piece.components) == list(range(origin.size))
        start, pieces = 0, {piece.path[-1].rpartition(".")[2]: piece for piece in origin.pieces}
        assert sorted(pieces) == sorted(module for module, _ in rows)
        for module, numbers in rows:
            piece, name_of_module = pieces[module], f"{inside}.{module}"
            weight = state[f"{name_of_module}.weight"]
            weight = weight.T if name == GPT2 else weight  # Conv1D has it lying
            bias = state.get(f"{name_of_module}.bias")
            at = np.argsort(piece.components)
            assert sorted(piece.components) == span(start, len(numbers))
            assert torch.equal(piece.weight[at], weight[numbers])
            assert (piece.bias is None) == (bias is None)
            assert bias is None or torch.equal(piece.bias[at], bias[numbers])
            assert piece.factor == pytest.approx(8**-0.5 if (name, which) == (OPT, "query") else 1, rel=1e-5)
            given = own.given[name_of_module][0]
            for token in (0, TOKEN, 22):
                product = weight.double().numpy()[numbers] @ given[token]
                product += 0 if bias is None else bias.double().numpy()[numbers]
                assert watched.off(piece.product(token)[at], product) <= 1e-5
                assert watched.off(piece.vector(token)[at], product * piece.factor) <= 1e-5
                assert watched.off(origin.before(token)[start : start + len(numbers)], product * piece.factor) <= 1e-5
            start += len(numbers)


def test_the_way_to_a_projection():
    paths = {which: [(p.path, p.then) for p in origin.pieces] for which, origin in sheet_of(DEEPSEEK).origins.items()}
    latent = tuple(f"self_attn.{name}" for name in ("kv_a_proj_with_mqa", "kv_a_layernorm", "kv_b_proj"))
    assert paths["query"] == [(tuple(f"self_attn.{name}" for name in ("q_a_proj", "q_a_layernorm", "q_b_proj")), ())]
    assert sorted(paths["key"]) == [(latent[:1], ()), (latent, ())]
    assert paths["value"] == [(latent, ())]
    assert sheet_of("Llama: grouped").origins["query"].pieces[0].path == ("self_attn.q_proj",)


@pytest.mark.parametrize("name", ["Qwen 3: grouped, norms per head", "OLMo 2: norms on queries and keys"])
def test_norms_on_queries_and_keys(name):
    model, cap = read(name)
    inside, size = "model.layers.1.self_attn", cap.layers[1].query.shape[2]
    own = watched.eager_pass(model, cap.inputs, [f"{inside}.{n}" for n in ("q_proj", "k_proj", "q_norm", "k_norm")])
    for which, letter, head in (("query", "q", HEAD), ("key", "k", 1)):
        origin = sheet_of(name).origins[which]
        (made,) = origin.pieces
        assert (made.path, made.then) == ((f"self_attn.{letter}_proj",), (f"self_attn.{letter}_norm",))
        heads = own.made[f"{inside}.{letter}_norm"][0].reshape(23, -1, size)  # (tokens, heads, head_dim)
        products = own.made[f"{inside}.{letter}_proj"][0].reshape(23, -1, size)
        for token in (0, TOKEN, 22):
            assert watched.off(made.product(token), products[token, head][list(made.components)]) <= 1e-5
            assert watched.off(origin.before(token), heads[token, head]) <= 1e-5


def test_norms_on_parts_of_a_fused_projection():
    """Persimmon: queries, keys and values head after head, norms on the first two."""
    torch.manual_seed(0)
    model = tf.PersimmonForCausalLM(tf.PersimmonConfig(**PLAIN, qk_layernorm=True)).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    cap = capture(model, input_ids=some_ids(23))
    sheet, inside = fill_worksheet(cap, 1, HEAD, TOKEN, model), "model.layers.1.self_attn"
    assert sheet.missing == {} and len(sheet.proof) == 7 and all(compared.agrees for compared in sheet.proof)
    own = watched.eager_pass(model, cap.inputs, [f"{inside}.q_layernorm", f"{inside}.k_layernorm"])
    weight = model.state_dict()[f"{inside}.query_key_value.weight"]
    for which, letter, start in (("query", "q", 72), ("key", "k", 80)):
        origin = sheet.origins[which]
        (made,) = origin.pieces
        assert (made.path, made.then) == (("self_attn.query_key_value",), (f"self_attn.{letter}_layernorm",))
        assert torch.equal(made.weight[np.argsort(made.components)], weight[start : start + 8])
        normed = own.made[f"{inside}.{letter}_layernorm"][0].reshape(23, 5, 8)[:, HEAD]
        assert watched.off(torch.stack([origin.before(token) for token in range(23)]), normed) <= 1e-5


def test_one_norm_for_queries_and_keys():
    """Muse Spark runs the same module on 6 queries and on 2 keys."""
    torch.manual_seed(0)
    model = tf.MuseSparkTextModel(tf.MuseSparkTextConfig(**LLAMA, mlp_layer_types=["dense"] * 3)).eval()
    cap = capture(model, input_ids=some_ids(23))
    for entry in range(3):
        sheet = fill_worksheet(cap, entry, HEAD, TOKEN, model)
        assert list(sheet.missing) == ["added"] and all(compared.agrees for compared in sheet.proof)
        for which in ("query", "key"):
            assert sheet.origins[which].pieces[0].then == ("self_attn.qk_norm",)


class Wrapped(torch.nn.Module):
    """As adapters wrap a projection: what it gives is what the module inside gives."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, hidden_states):
        return self.inner(hidden_states)


def test_a_projection_in_a_wrapper():
    model = make("Llama: grouped")
    for layer in model.model.layers:
        layer.self_attn.q_proj = Wrapped(layer.self_attn.q_proj)
    cap = capture(model, input_ids=some_ids(23))
    (made,) = fill_worksheet(cap, 1, HEAD, TOKEN, model).origins["query"].pieces
    assert made.path == ("self_attn.q_proj.inner",) and made.then == ()
    assert torch.equal(made.weight, model.state_dict()["model.layers.1.self_attn.q_proj.inner.weight"][30:40])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["Llama: grouped", OPT, "Qwen 3: grouped, norms per head", GPT2])
def test_16_bits_have_the_same_rows(name, dtype):
    model = make(name).to(dtype)
    sheet = fill_worksheet(capture(model, **ARCHITECTURES[name].inputs(model)), 1, HEAD, TOKEN, model)
    full, cap = whole(name)
    exact = fill_worksheet(cap, 1, HEAD, TOKEN, full)
    assert sheet.missing == {} and all(compared.agrees for compared in sheet.proof)
    for which in ("query", "key", "value"):
        ours, theirs = sheet.origins[which], exact.origins[which]
        assert ours.turning == theirs.turning and len(ours.pieces) == len(theirs.pieces)
        for one, other in zip(ours.pieces, theirs.pieces, strict=True):
            assert (one.path, one.then, one.components) == (other.path, other.then, other.components)
            assert torch.equal(one.weight, other.weight.to(dtype).float())


@cache
def whole(name: str) -> tuple[PreTrainedModel, Capture]:
    model = make(name)
    return model, capture(model, **ARCHITECTURES[name].inputs(model))


# ── what is not found, and texts that could mislead ─────────────────────────────────────────────────────────────────


class BendsItsQuery(LlamaAttention):
    """Its query is no module's output, nor a multiple of one."""

    bent = "query"

    def forward(self, hidden_states, position_embeddings, attention_mask=None, **kwargs):
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        made = [p(hidden_states).view(shape).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)]
        at = ["query", "key", "value"].index(self.bent)
        made[at] = made[at] * (1 + made[at].abs())
        query, key = apply_rotary_pos_emb(made[0], made[1], *position_embeddings)
        own = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        output, weights = own(self, query, key, made[2], attention_mask, dropout=0.0, scaling=self.scaling, **kwargs)
        return self.o_proj(output.reshape(*hidden_states.shape[:-1], -1).contiguous()), weights


@pytest.mark.parametrize("bent", ["query", "key", "value"])
def test_what_no_module_gives_is_said_to_be_unknown(bent):
    model = make("Llama: grouped")
    model.model.layers[1].self_attn.__class__ = type("Bends", (BendsItsQuery,), {"bent": bent, "__module__": __name__})
    cap = capture(model, input_ids=some_ids(23))
    sheet = fill_worksheet(cap, 1, HEAD, TOKEN, model)
    assert list(sheet.missing) == [bent] and f"No module of the layer gives this {bent}" in sheet.missing[bent]
    assert sheet.origins.keys() == {"query", "key", "value"} - {bent}
    assert (sheet.rotation is None) == (bent == "query")
    assert bent not in [compared.name for compared in sheet.proof] and all(c.agrees for c in sheet.proof)
    assert len(sheet.proof) == 6
    assert fill_worksheet(cap, 2, HEAD, TOKEN, model).missing == {}


@pytest.mark.parametrize("name", [*ROWS, "T5: relative positions", "BERT"])
@pytest.mark.parametrize("ids", [[[5]], [[5] * 7]])
def test_one_token_or_equal_ones_give_the_same_rows(name, ids):
    model, _ = read(name)
    text = {"input_ids": torch.tensor(ids)}
    if model.config.is_encoder_decoder:
        text["decoder_input_ids"] = torch.tensor(ids)
    sheet, usual = fill_worksheet(capture(model, **text), 1, HEAD, 0, model), sheet_of(name)
    assert all(compared.agrees for compared in sheet.proof) and sheet.missing == {} and len(sheet.proof) == 7
    for which in ("query", "key", "value"):
        ours, theirs = sheet.origins[which], usual.origins[which]
        assert ours.turning == theirs.turning and len(ours.pieces) == len(theirs.pieces)
        for one, other in zip(ours.pieces, theirs.pieces, strict=True):
            assert (one.path, one.then, one.components) == (other.path, other.then, other.components)
            assert torch.equal(one.weight, other.weight)
