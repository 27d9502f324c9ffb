"""capture(): what it refuses, what it keeps, how it is stopped."""

import dataclasses
import re

import pytest
import torch
import transformers as tf
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaAttention
from transformers.models.llama.modeling_llama import eager_attention_forward as llama_eager

from attention_core import Capture, HeadlightError, LanguageModel, capture
from attention_core.checking import probe_of
from tests.architectures import make, some_ids, with_eager
from tests.sizes import BERT, LLAMA, VOCABULARY


@pytest.fixture(scope="module")
def llama():
    return make("Llama: grouped")


def held(thing) -> list[Tensor]:
    """Every tensor in a record, with repeats."""
    if isinstance(thing, Tensor):
        return [thing]
    if dataclasses.is_dataclass(thing) or isinstance(thing, Capture):
        return [t for part in vars(thing).values() for t in held(part)]
    if isinstance(thing, dict):
        return [t for part in thing.values() for t in held(part)]
    return [t for part in thing for t in held(part)] if isinstance(thing, list | tuple) else []


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_training_mode_is_refused():
    model = make("Llama: grouped").train()
    with pytest.raises(HeadlightError, match=r"training mode.*eval\(\)"):
        capture(model, input_ids=some_ids(5))
    with pytest.raises(HeadlightError, match="training mode"):
        LanguageModel(model)
    assert model.training


@pytest.mark.parametrize(
    "ids, shape",
    [(some_ids(5).repeat(2, 1), r"\(2, 5\)"), (some_ids(5)[:, :0], r"\(1, 0\)"), (some_ids(5)[0], r"\(5,\)")],
)
def test_only_one_text_with_tokens_is_read(llama, ids, shape):
    with pytest.raises(HeadlightError, match=f"input_ids has the shape {shape}"):
        capture(llama, input_ids=ids)


def test_a_batch_of_targets_is_refused():
    with pytest.raises(HeadlightError, match=r"decoder_input_ids has the shape \(2, 4\)"):
        capture(make("BART"), input_ids=some_ids(5), decoder_input_ids=some_ids(4).repeat(2, 1))


def test_a_model_that_ends_in_several_ways_is_read():
    """Llama 3 Instruct and GLM have a list of tokens that end a text."""
    model = tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA | {"eos_token_id": [2, 5]})).eval()
    assert len(capture(model, input_ids=some_ids(5)).layers) == 3
    assert not {0, 1, 2, 5} & set(probe_of(model, 400)["input_ids"][0].tolist())


class SaysOneDoesAnother(LlamaAttention):
    """Gives the interface another scaling than the eager path uses: the seam cannot see the true one."""

    def forward(self, *args, **kwargs):
        honest = self.scaling
        self.scaling = honest if self.config._attn_implementation == "eager" else honest * 1.001
        try:
            return super().forward(*args, **kwargs)
        finally:
            self.scaling = honest


class GoesItsOwnWay(LlamaAttention):
    """Never asks the interface."""

    def forward(self, hidden_states, position_embeddings, attention_mask=None, **kwargs):
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query, key, value = (
            p(hidden_states).view(shape).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        tokens = query.shape[2]
        causal = torch.zeros(tokens, tokens).masked_fill(~torch.ones(tokens, tokens).tril().bool(), float("-inf"))
        output, weights = llama_eager(self, query, key, value, causal[None, None], scaling=self.scaling)
        return self.o_proj(output.reshape(*hidden_states.shape[:-1], -1)), weights


def equal_to_eager(model, cap: Capture, ids: Tensor) -> None:
    with torch.no_grad():
        own = with_eager(model)(input_ids=ids, output_attentions=True)
    assert len(own.attentions) == len(cap.layers)
    for i, weights in enumerate(own.attentions):
        assert torch.equal(cap.attention(i, 3), weights[0, 3])
    assert torch.equal(cap.output.logits, own.logits)


def test_a_model_that_lies_to_the_seam_is_refused_and_the_difference_named():
    model, ids = make("Llama: grouped"), some_ids(5)
    model.model.layers[1].self_attn.__class__ = SaysOneDoesAnother
    with pytest.raises(HeadlightError, match="LlamaForCausalLM cannot be shown exactly") as refused:
        capture(model, input_ids=ids)
    weights, output, _ = map(float, re.findall(r"\d\.\de-\d\d", str(refused.value)))
    assert 1e-5 < weights < 1e-2 and 1e-7 < output < 1e-2  # a thousandth of a score changes about so much


def test_a_layer_that_goes_its_own_way_is_counted_and_all_are_read_by_their_weights():
    model, ids = make("Llama: grouped"), some_ids(5)
    model.model.layers[2].self_attn.__class__ = GoesItsOwnWay
    cap = capture(model, input_ids=ids)
    assert cap.check.implementation == "eager"
    assert re.search("LlamaForCausalLM.*makes 3 attention maps.*of which 2 go through", cap.check.reason)
    equal_to_eager(model, cap, ids)


def test_a_module_that_lies_about_causality_is_read_with_explicit_masks():
    model, ids = make("Llama: grouped"), some_ids(23)
    for layer in model.model.layers:
        layer.self_attn.is_causal = False
    cap = capture(model, input_ids=ids)
    assert cap.check.implementation.endswith("explicit")
    with torch.no_grad():
        own = with_eager(model)(input_ids=ids, output_attentions=True)
    for i, weights in enumerate(own.attentions):
        torch.testing.assert_close(cap.attention(i, 3), weights[0, 3], atol=1e-5, rtol=0)
        assert cap.layers[i].kind == "decoder"


def test_an_indexer_that_selects_keys_is_exact_or_refused():
    """DeepSeek-V3.2 looks at its index_topk best keys. The self-check's 16 tokens are fewer; the text has more.

    Its module makes the mask itself for "eager" and "sdpa"; under any other name it hands the indices on.
    """
    sizes = {k: v for k, v in LLAMA.items() if k != "head_dim"} | {"num_key_value_heads": 6}
    sizes |= {"q_lora_rank": 20, "kv_lora_rank": 12, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8}
    sizes |= {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    }
    sizes |= {"moe_intermediate_size": 24, "index_topk": 18, "index_n_heads": 2, "index_head_dim": 16}
    torch.manual_seed(0)
    model, ids = tf.DeepseekV32ForCausalLM(tf.DeepseekV32Config(**sizes)).eval(), some_ids(45)
    try:
        cap = capture(model, input_ids=ids)
    except HeadlightError:
        return
    with torch.no_grad():
        own = with_eager(model)(input_ids=ids, output_attentions=True)
    for i, weights in enumerate(own.attentions):
        torch.testing.assert_close(cap.attention(i, 0), weights[0, 0], atol=1e-5, rtol=0)


def test_indices_out_of_range_are_refused_in_words(llama):
    cap = capture(llama, input_ids=some_ids(5))
    with pytest.raises(HeadlightError, match="no layer entry 3: choose 0 to 2"):
        cap.attention(3, 0)
    for head in (6, -1):
        with pytest.raises(HeadlightError, match=f"no head {head} in layer entry 1: choose 0 to 5"):
            cap.scores(1, head)


# ── what is kept ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["Llama: grouped", "BART"])
def test_the_cache_is_kept_only_when_asked_for(name):
    model, inputs = make(name), {"input_ids": some_ids(9)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = some_ids(4)
    assert "past_key_values" not in capture(model, **inputs).output
    cache = capture(model, **inputs, use_cache=True).output.past_key_values
    assert cache.get_seq_length() == (4 if model.config.is_encoder_decoder else 9)
    assert "past_key_values" not in capture(model, **inputs, use_cache=False).output


def test_a_given_cache_is_dropped_too_unless_asked_for(llama):
    with torch.no_grad():
        cache = llama(input_ids=some_ids(9), use_cache=True).past_key_values
    assert "past_key_values" not in capture(llama, input_ids=some_ids(2), past_key_values=cache).output
    kept = capture(llama, input_ids=some_ids(2), past_key_values=cache, use_cache=True).output
    assert kept.past_key_values.get_seq_length() == 13


def test_no_gradients():
    model = make("Llama: grouped")
    assert all(p.requires_grad for p in model.parameters())
    with torch.enable_grad():
        cap = capture(model, input_ids=some_ids(7))
        assert torch.is_grad_enabled()
    assert not any(t.requires_grad for t in held(cap))
    assert not cap.attention(0, 0).requires_grad
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_asking_for_attentions_changes_nothing(llama):
    cap = capture(llama, input_ids=some_ids(7), output_attentions=True)
    assert cap.output.get("attentions") is None
    assert torch.equal(cap.attention(1, 1), capture(llama, input_ids=some_ids(7)).attention(1, 1))


def test_embeddings_instead_of_ids(llama):
    ids = some_ids(7)
    embedded = capture(llama, inputs_embeds=llama.get_input_embeddings()(ids))
    plain = capture(llama, input_ids=ids)
    assert torch.equal(embedded.output.logits, plain.output.logits)
    assert torch.equal(embedded.attention(2, 5), plain.attention(2, 5))


def test_nbytes_by_hand(llama):
    tokens = 13
    cap = capture(llama, input_ids=some_ids(tokens))
    query, key, value = 6 * tokens * 10 * 4, 2 * tokens * 10 * 4, 2 * tokens * 10 * 4
    positions, logits, ids = tokens * 8, tokens * VOCABULARY * 4, tokens * 8
    assert cap.nbytes == 3 * (query + key + value + positions) + logits + ids


def test_nbytes_counts_shared_storage_once():
    tokens = 13
    gpt2 = capture(make("GPT-2: learned positions"), input_ids=some_ids(tokens))
    one_projection = tokens * 3 * 40 * 4  # queries, keys and values are views of it
    assert gpt2.nbytes == 3 * (one_projection + tokens * 8) + tokens * VOCABULARY * 4 + tokens * 8

    mistral = capture(make("Mistral: sliding window"), input_ids=some_ids(tokens))
    vectors, mask = (6 + 2 + 2) * tokens * 10 * 4, tokens * tokens  # one bool mask for the three layers
    assert mistral.nbytes == 3 * (vectors + tokens * 8) + mask + tokens * VOCABULARY * 4 + tokens * 8


@pytest.mark.parametrize(
    "name",
    ["Llama: grouped", "GPT-2: learned positions", "Gemma 2: soft cap", "gpt-oss: learned sinks"]
    + ["Mistral: sliding window", "BERT", "Splinter", "BART", "DeepSeek-V3: latent, values of another size"],
)
def test_nothing_of_tokens_by_tokens_is_held_for_each_head(name):
    tokens = 300
    model = make(name)
    inputs = {"input_ids": some_ids(tokens)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = some_ids(tokens)
    cap = capture(model, **inputs)
    for looked_at in range(2):
        for t in held(cap):
            if t.untyped_storage().nbytes() >= tokens * tokens:
                vectors = max(t.shape, default=0) == tokens and t.ndim == 3 and t.numel() < tokens * tokens
                one_mask = t.dtype == torch.bool and t.shape == (1, tokens, tokens)
                logits = t.shape[-1] == VOCABULARY
                assert vectors or one_mask or logits, t.shape
                assert not one_mask or t.untyped_storage().nbytes() == tokens * tokens, "a mask for each head"
                assert one_mask or t.untyped_storage().nbytes() < 4 * tokens * tokens
        if not looked_at:
            cap.attention(0, 0), cap.scores(0, 0), cap.thumbnails(), cap.nbytes


def test_a_bias_that_the_model_made_is_held_once_for_each_stack():
    cap = capture(make("T5: relative positions"), input_ids=some_ids(23), decoder_input_ids=some_ids(11))
    for kind, shape in (("encoder", (5, 23, 23)), ("decoder", (5, 11, 11))):
        biases = [layer.bias for layer in cap.layers if layer.kind == kind]
        assert len(biases) > 1 and {tuple(b.shape) for b in biases} == {shape}
        assert len({b.untyped_storage().data_ptr() for b in biases}) == 1


# ── progress and stopping ─────────────────────────────────────────────────────────────────────────────────────────────


def test_on_layer_is_called_once_a_call():
    model = make("BART")
    seen: list[int] = []
    cap = capture(model, input_ids=some_ids(9), decoder_input_ids=some_ids(4), on_layer=seen.append)
    assert seen == list(range(1, len(cap.layers) + 1)) and len(cap.layers) == 8
    seen.clear()
    capture(model, input_ids=some_ids(9), decoder_input_ids=some_ids(4))
    with torch.no_grad():
        model(input_ids=some_ids(9), decoder_input_ids=some_ids(4))
    assert seen == []


@pytest.mark.parametrize("prepared", [False, True])
def test_an_exception_in_on_layer_stops_the_pass_and_the_model_stays_usable(prepared):
    class Enough(Exception):
        pass

    model, ids, seen = make("Llama: grouped"), some_ids(9), []
    if prepared:
        model = LanguageModel(model).model
    before = capture(model, input_ids=ids)

    def stop(number):
        seen.append(number)
        if number == 2:
            raise Enough

    with pytest.raises(Enough):
        capture(model, input_ids=ids, on_layer=stop)
    assert seen == [1, 2]
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, before.output.logits)
    assert seen == [1, 2], "the recorder of the stopped pass is still listening"
    after = capture(model, input_ids=ids)
    assert len(after.layers) == 3 and torch.equal(after.attention(2, 5), before.attention(2, 5))


def test_an_error_of_the_model_leaves_it_usable(llama):
    with pytest.raises(IndexError):
        capture(llama, input_ids=torch.tensor([[1, VOCABULARY + 5]]))
    assert len(capture(llama, input_ids=some_ids(4)).layers) == 3


# ── labels ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_tokenizer_labels_are_numbers():
    with torch.no_grad():
        model = make("Mistral: sliding window")
        cache = model(input_ids=some_ids(12), use_cache=True).past_key_values
    cap = capture(model, input_ids=some_ids(2), past_key_values=cache)
    assert cap.tokens is None
    assert cap.query_tokens(0) == ["12", "13"]
    assert cap.key_tokens(0) == [str(k) for k in range(6, 14)]


def test_the_kinds_of_bert_used_as_a_decoder():
    torch.manual_seed(0)
    model = tf.BertLMHeadModel(tf.BertConfig(**BERT, is_decoder=True)).eval()
    cap = capture(model, input_ids=some_ids(6))
    assert [(layer.kind, layer.layer) for layer in cap.layers] == [("decoder", 0), ("decoder", 1)]
    assert (cap.attention(1, 4).triu(1) == 0).all()
