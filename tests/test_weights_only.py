"""Models that hand out their attention weights alone: equal to their own, and said to be without queries and keys.

ALiBi is computed here anew, in NumPy float64 from the projections that hooks see, with the slopes of the paper.
"""

from functools import cache

import numpy as np
import pytest
import torch
import transformers as tf
from torch import Tensor

from attention_core import HeadlightError, LanguageModel, capture
from tests.architectures import Architecture, encoder_decoder, some_ids, with_eager
from tests.sizes import BERT, SEQ2SEQ
from tests.weights_only_models import UNREADABLE, WEIGHTS_ONLY, fsmt

each = pytest.mark.parametrize("name", WEIGHTS_ONLY)


@cache
def read(name: str):
    """(architecture, its model, inputs, the capture, the model's own eager output)."""
    architecture = WEIGHTS_ONLY[name]
    model = architecture.model()
    inputs = architecture.inputs(model)
    with torch.no_grad():
        own = with_eager(model)(**inputs, output_attentions=True)
    return architecture, model, inputs, capture(model, **inputs), own


def own_weights(architecture: Architecture, output) -> list[Tensor]:
    """What transformers returned, each (heads, queries, keys), in the order of the table."""
    lists = {kind: output.get(f"{kind}_attentions") for kind in ("encoder", "decoder", "cross")}
    alone = output.get("attentions")
    return [(lists[kind] if alone is None else alone)[layer][0] for kind, layer in architecture.order]


# ── equal to the model's own ────────────────────────────────────────────────────────────────────────────────────────


@each
def test_weights_and_output_equal_the_models_own(name):
    architecture, model, inputs, cap, own = read(name)
    assert [(layer.kind, layer.layer) for layer in cap.layers] == architecture.order
    theirs = own_weights(architecture, own)
    for i, weights in enumerate(theirs):
        heads, queries, keys = weights.shape
        assert cap.layers[i].shape == (heads, queries, keys) and cap.layers[i].heads == heads
        for h in range(heads):
            ours = cap.attention(i, h)
            assert torch.equal(ours, weights[h]) and ours.dtype == torch.float32
            tile = cap.attention(i, h, rows=slice(3, 9), columns=slice(None, 4))
            assert torch.equal(tile, weights[h, 3:9, :4])
        assert torch.equal(cap.thumbnails()[i], weights)
    assert max(w.max(dim=-1).values.mean() for w in theirs) > 0.2, "too uniform to notice an error"
    main = "logits" if "logits" in own else "last_hidden_state"
    assert torch.equal(cap.output[main], own[main])
    assert not [part for part in cap.output if part.endswith("attentions") or part == "past_key_values"]
    assert all(torch.equal(t, w[None]) for t, w in zip(cap.attentions(), theirs, strict=True))


@each
def test_the_check_was_measured_and_says_why(name):
    architecture, model, _, cap, _ = read(name)
    check = cap.check
    assert (check.implementation, check.weights, check.output) == ("eager", 0.0, 0.0)
    assert check.calls == len(architecture.order)
    assert check.reason.startswith(f"{type(model).__name__} does not go through transformers' attention interface")
    assert check.reason.endswith(".") and "Choose" not in check.reason


@each
def test_queries_keys_and_values_are_said_to_be_unavailable(name):
    _, _, _, cap, _ = read(name)
    for layer in cap.layers:
        assert (layer.query, layer.key, layer.value, layer.has_vectors) == (None, None, None, False)
    with pytest.raises(HeadlightError, match="does not hand out its queries and keys.*or choose a model"):
        cap.scores(0, 1)
    with pytest.raises(HeadlightError, match="does not hand out its queries and keys"):
        cap.layers[0].key_value_head(1)
    with pytest.raises(HeadlightError, match="no head 40 in layer entry 0"):
        cap.attention(0, 40)


@each
def test_what_may_be_looked_at_is_read_from_the_weights(name):
    _, _, _, cap, _ = read(name)
    for i, layer in enumerate(cap.layers):
        _, queries, keys = layer.shape
        allowed = torch.ones(queries, keys).tril() if layer.kind == "decoder" else torch.ones(queries, keys)
        assert torch.equal(cap.visible(i, 1), allowed.bool())
        assert torch.equal(cap.visible(i, 1, slice(2, 5), slice(1, 7)), allowed.bool()[2:5, 1:7])
        assert (cap.attention(i, 1)[~allowed.bool()] == 0).all()
        assert cap.query_tokens(i) == [str(n) for n in range(queries)]
        assert cap.key_tokens(i) == [str(n) for n in range(keys)]


@each
def test_modules_are_named_and_called_one_by_one(name):
    architecture, model, inputs, cap, _ = read(name)
    seen: list[int] = []
    capture(model, **inputs, on_layer=seen.append)
    assert seen == list(range(1, len(architecture.order) + 1))
    names = [layer.module for layer in cap.layers]
    if name != "XLNet":  # it turns its weights round before it returns them
        assert len(set(names)) == len(names)
        assert all("att" in part.lower() for part in names), names
        assert set(names) <= {part for part, _ in model.named_modules()}


# ── ALiBi, by hand ──────────────────────────────────────────────────────────────────────────────────────────────────


def slopes(heads: int) -> list[float]:
    """Press et al. 2022, section 3: 2^(−8/n), 2^(−16/n) … for n heads, a power of two; for others the authors' code
    takes those of the power below and every second one of the power above."""
    power = 2 ** int(np.log2(heads))
    first = [2 ** (-8 * (h + 1) / power) for h in range(power)]
    return first + [2 ** (-8 * (h + 1) / (2 * power)) for h in range(0, 2 * power, 2)][: heads - power]


def split_bloom(seen: np.ndarray):
    """(tokens, 3 × 40), for each head its query, key and value → query and key, each (5, tokens, 8)."""
    parts = seen.reshape(len(seen), 5, 3, 8).transpose(2, 1, 0, 3)
    return parts[0], parts[1]


def split_mpt(seen: np.ndarray):
    """All queries, all keys, all values."""
    parts = seen.reshape(len(seen), 3, 5, 8).transpose(1, 2, 0, 3)
    return parts[0], parts[1]


def split_falcon(seen: np.ndarray):
    """Five queries, one key and one value for all heads."""
    parts = seen.reshape(len(seen), 7, 8).transpose(1, 0, 2)
    return parts[:5], np.repeat(parts[5:6], 5, axis=0)


@pytest.mark.parametrize(
    "name, module, split, of_the_bias",
    [
        ("Bloom: ALiBi", "transformer.h.{}.self_attention.query_key_value", split_bloom, 1),
        ("MPT: ALiBi", "transformer.blocks.{}.attn.Wqkv", split_mpt, 1),
        # Falcon divides the bias by √head_dim, and its eager attention adds it twice
        ("Falcon: ALiBi", "transformer.h.{}.self_attention.query_key_value", split_falcon, 2 / 8**0.5),
    ],
)
@pytest.mark.parametrize("layer", [0, 2])
def test_alibi_in_float64(name, module, split, of_the_bias, layer):
    _, model, inputs, cap, _ = read(name)
    twin, seen = with_eager(model), []
    twin.get_submodule(module.format(layer)).register_forward_hook(lambda module, args, out: seen.append(out.detach()))
    with torch.no_grad():
        twin(**inputs)
    query, key = split(seen[0][0].double().numpy())
    tokens = query.shape[1]
    distance = np.arange(tokens)[:, None] - np.arange(tokens)  # of query i to key j
    for h, slope in enumerate(slopes(5)):
        scores = query[h] @ key[h].T / 8**0.5 - of_the_bias * slope * distance
        scores[distance < 0] = -np.inf
        expected = np.exp(scores - scores.max(axis=-1, keepdims=True))
        expected /= expected.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(cap.attention(layer, h).double().numpy(), expected, atol=1e-5)
        without = np.exp(query[h] @ key[h].T / 8**0.5) * (distance >= 0)
        without /= without.sum(axis=-1, keepdims=True)
        assert abs(without - expected).max() > 1e-2 or slope < 0.01, "the bias makes no difference here"


def test_the_slopes_of_the_paper():
    assert slopes(8) == [2.0**-n for n in range(1, 9)]
    assert slopes(5) == [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1]


# ── padding, a past, one token, many ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["Bloom: ALiBi", "GPT-J", "DeBERTa", "MPNet"])
def test_padding_is_closed_and_leaves_no_nan(name, side):
    architecture, model, inputs, _, _ = read(name)
    mask = torch.ones_like(inputs["input_ids"])
    mask[0, slice(0, 5) if side == "left" else slice(-5, None)] = 0
    real = mask[0].bool()
    inputs = inputs | {"attention_mask": mask}
    with torch.no_grad():
        own = with_eager(model)(**inputs, output_attentions=True)
    cap = capture(model, **inputs)
    assert [layer.kind for layer in cap.layers] == [kind for kind, _ in architecture.order]
    for i, weights in enumerate(own_weights(architecture, own)):
        kind = cap.layers[i].kind
        visible, ours = cap.visible(i, 2), cap.attention(i, 2)
        assert torch.equal(ours[real], weights[2][real]) and not ours.isnan().any()
        assert not visible[:, ~real].any() and visible[:, real].any()
        assert (ours[real][:, ~real] == 0).all()
        if kind == "decoder":
            assert not visible.triu(1).any()
            nowhere = ~visible.any(dim=-1)
            assert (ours[nowhere] == 0).all() and bool(nowhere.any()) == (side == "left")
    assert not any(picture.isnan().any() for picture in cap.thumbnails(4))


@pytest.mark.parametrize("new", [1, 4])
@pytest.mark.parametrize("name", ["Bloom: ALiBi", "GPT-J"])
def test_with_a_past(name, new):
    _, model, inputs, whole, _ = read(name)
    ids = inputs["input_ids"]
    with torch.no_grad():
        past = with_eager(model)(input_ids=ids[:, :-new], use_cache=True).past_key_values
    cap = capture(model, input_ids=ids[:, -new:], past_key_values=past, attention_mask=torch.ones_like(ids))
    for i, layer in enumerate(cap.layers):
        assert layer.kind == "decoder" and layer.shape == (5, new, ids.shape[1])
        torch.testing.assert_close(cap.attention(i, 3), whole.attention(i, 3)[-new:], atol=1e-5, rtol=0)
        assert torch.equal(cap.visible(i, 3), whole.visible(i, 3)[-new:])
        assert cap.query_tokens(i) == whole.query_tokens(i)[-new:]


@pytest.mark.parametrize("name, kind", [("Bloom: ALiBi", "decoder"), ("MPNet", "encoder")])
def test_one_token_alone(name, kind):
    _, model, _, _, _ = read(name)
    cap = capture(model, input_ids=some_ids(1))
    assert {layer.kind for layer in cap.layers} == {kind}
    assert cap.attention(0, 0).tolist() == [[1.0]] and cap.visible(0, 0).all()


def test_512_tokens_and_not_one_more():
    model = WEIGHTS_ONLY["GPT-J"].model()
    assert capture(model, input_ids=some_ids(512)).layers[2].shape == (5, 512, 512)
    with pytest.raises(HeadlightError, match="up to 512 tokens at a time. This text has 513: shorten it"):
        capture(model, input_ids=some_ids(513))


@pytest.mark.parametrize("padded", [False, True])
def test_encoder_decoder_and_cross(padded):
    model, ids, target = fsmt(), some_ids(13), some_ids(7, seed=1)
    mask = torch.ones_like(ids)
    mask[0, 9:] = 0 if padded else 1
    inputs = {"input_ids": ids, "decoder_input_ids": target, "attention_mask": mask, "use_cache": False}
    cap = capture(model, **inputs)
    with torch.no_grad():
        own = with_eager(model)(**inputs, output_attentions=True)
    order = encoder_decoder(2, 3)
    assert [(layer.kind, layer.layer) for layer in cap.layers] == order
    assert torch.equal(cap.output.logits, own.logits)
    for i, (kind, number) in enumerate(order):
        weights = own[f"{kind}_attentions"][number][0]
        queries, keys = 13 if kind == "encoder" else 7, 7 if kind == "decoder" else 13
        assert cap.layers[i].shape == weights.shape == (5, queries, keys)
        allowed = torch.ones(queries, keys, dtype=torch.bool)
        allowed = allowed.tril() if kind == "decoder" else allowed & mask[0].bool()
        rows = mask[0].bool() if kind == "encoder" else slice(None)
        assert torch.equal(cap.attention(i, 3)[rows], weights[3][rows])
        assert torch.equal(cap.visible(i, 3)[rows], allowed[rows])
    for kind, count in (("encoder", 2), ("decoder", 3), ("cross", 3)):
        assert len(cap.attentions(kind)) == count


def test_blocks_that_only_long_texts_have_are_refused_then():
    """BigBird-Pegasus reads a short text in full and a long one in blocks; the short one is shown."""
    torch.manual_seed(0)
    sizes = SEQ2SEQ | {"encoder_attention_heads": 5}
    config = tf.BigBirdPegasusConfig(**sizes, block_size=4, num_random_blocks=1)
    model = tf.BigBirdPegasusForConditionalGeneration(config).eval()
    short = capture(model, input_ids=some_ids(20), decoder_input_ids=some_ids(7))
    assert short.layers[0].shape == (5, 20, 20) and short.check.implementation == "eager"
    ids = some_ids(64)
    with torch.no_grad():
        own = with_eager(model)(input_ids=ids, decoder_input_ids=some_ids(7), output_attentions=True)
    try:
        cap = capture(model, input_ids=ids, decoder_input_ids=some_ids(7))
    except HeadlightError as error:
        assert "layer 0 (encoder) returns" in str(error) and str(error).count("Choose") == 1
    else:
        assert torch.equal(cap.attention(0, 1), own.encoder_attentions[0][0, 1])


# ── what becomes of the model ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["Bloom: ALiBi", "Falcon: RoPE"])
def test_a_language_model_stays_usable(name):
    plain, lm = WEIGHTS_ONLY[name].model(), LanguageModel(WEIGHTS_ONLY[name].model())
    ids = some_ids(9)
    assert lm.check.implementation == "eager"
    written = [model.generate(ids, max_new_tokens=5, do_sample=False) for model in (plain, lm.model)]
    assert torch.equal(*written)
    assert torch.equal(lm.capture(ids).attention(1, 1), capture(plain, input_ids=ids).attention(1, 1))
    assert not any(module._forward_hooks for module in lm.model.modules()), "the model is still watched"


def test_a_pass_can_be_stopped():
    class Enough(Exception):
        pass

    def stop(number):
        if number == 2:
            raise Enough

    _, model, inputs, cap, _ = read("Bloom: ALiBi")
    with pytest.raises(Enough):
        capture(model, **inputs, on_layer=stop)
    assert torch.equal(capture(model, **inputs).attention(2, 4), cap.attention(2, 4))


def test_the_cache_is_kept_only_when_asked_for():
    _, model, inputs, _, _ = read("GPT-J")
    assert "past_key_values" not in capture(model, **inputs).output
    assert capture(model, **inputs, use_cache=True).output.past_key_values.get_seq_length() == 23


# ── what cannot be shown ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_a_model_reads_or_has_instead_is_said(name):
    build, sentence = UNREADABLE[name]
    torch.manual_seed(0)
    with pytest.raises(HeadlightError, match=f"{sentence}.*Choose a model that reads text and attends") as caught:
        capture(build().eval(), input_ids=some_ids(5))
    assert str(caught.value).count("Choose") == 1
    assert caught.value.args[0].endswith(".")


def test_weights_that_change_from_pass_to_pass_are_refused():
    class Restless(tf.BertModel):
        """Adds noise to its weights, as a model with its dropout left on would."""

        def forward(self, *args, output_attentions=False, **kwargs):
            output = super().forward(*args, output_attentions=output_attentions, **kwargs)
            if output_attentions:
                noisy = [(w + torch.rand_like(w)) for w in output.attentions]
                output.attentions = tuple(w / w.sum(dim=-1, keepdim=True) for w in noisy)
            return output

    torch.manual_seed(0)
    with pytest.raises(HeadlightError, match=r"two passes over the same tokens differ by \d\.\de-\d\d"):
        capture(Restless(tf.BertConfig(**BERT)).eval(), input_ids=some_ids(5))


def test_a_module_that_reads_anothers_mask_is_refused():
    """Falcon with ALiBi: its eager path adds the bias twice, its sdpa path once."""
    torch.manual_seed(0)
    config = tf.FalconConfig(vocab_size=97, hidden_size=40, num_hidden_layers=2, num_attention_heads=5, alibi=True)
    model = tf.FalconForCausalLM(config).eval()
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(HeadlightError, match="its output differs by.*Load it with attn_implementation"):
        capture(model, input_ids=some_ids(9))
