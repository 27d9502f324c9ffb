"""Every number of a worksheet equals the model's own: hooks on its modules, its eager weights, its layer's output.

The oracle (tests/watched.py) shares no code with attention_core; scores are computed in NumPy float64.
"""

from functools import cache

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from attention_core import Capture, HeadlightError, capture, load_model
from attention_core.filling import RECORDED, fill_worksheet
from attention_core.tracing import trace
from tests import watched
from tests.architectures import ARCHITECTURES, make
from tests.tiny import SENTENCE, needs_minilm, needs_smollm2
from tests.weights_only_models import WEIGHTS_ONLY

EXACT = 1e-5  # weights absolutely, all else relative to the largest value of the model's own

LLAMA_LIKE = {"decoder": ("model.layers.{}", "self_attn.o_proj")}
BERT_LIKE = {"encoder": ("encoder.layer.{}", "attention.output.dense")}
BART_LIKE = {
    "encoder": ("model.encoder.layers.{}", "self_attn.out_proj"),
    "decoder": ("model.decoder.layers.{}", "self_attn.out_proj"),
    "cross": ("model.decoder.layers.{}", "encoder_attn.out_proj"),
}
# by kind: the layer, and inside it the projection that reads the blended values ("": it reads something else)
PLACES = dict.fromkeys(ARCHITECTURES, LLAMA_LIKE) | {
    "GPT-2: learned positions": {"decoder": ("transformer.h.{}", "attn.c_proj")},
    "OPT: positions from an offset": {"decoder": ("model.decoder.layers.{}", "self_attn.out_proj")},
    "GPT-NeoX: parallel blocks, quarter RoPE": {"decoder": ("gpt_neox.layers.{}", "attention.dense")},
    "GPT-BigCode: multi-query": {"decoder": ("transformer.h.{}", "attn.c_proj")},
    "Phi: half RoPE": {"decoder": ("model.layers.{}", "self_attn.dense")},
    "DiffLlama: attention twice in a layer": {"decoder": ("model.layers.{}", "")},
    "BERT": BERT_LIKE,
    "RoBERTa": {"encoder": ("roberta.encoder.layer.{}", "attention.output.dense")},
    "DistilBERT": {"encoder": ("distilbert.transformer.layer.{}", "attention.out_lin")},
    "ALBERT: all layers share their weights": {
        "encoder": ("encoder.albert_layer_groups.0", "albert_layers.0.attention.dense")
    },
    "Splinter": BERT_LIKE,
    "ModernBERT: local and global layers": {"encoder": ("model.layers.{}", "attn.Wo")},
    "T5: relative positions": {
        "encoder": ("encoder.block.{}", "layer.0.SelfAttention.o"),
        "decoder": ("decoder.block.{}", "layer.0.SelfAttention.o"),
        "cross": ("decoder.block.{}", "layer.1.EncDecAttention.o"),
    },
    "BART": BART_LIKE,
    "Marian: sinusoids": BART_LIKE,
    "Pegasus": BART_LIKE,
    "T5Gemma: soft cap on both sides": {
        "encoder": ("model.encoder.layers.{}", "self_attn.o_proj"),
        "decoder": ("model.decoder.layers.{}", "self_attn.o_proj"),
        "cross": ("model.decoder.layers.{}", "cross_attn.o_proj"),
    },
    "small": LLAMA_LIKE,
    "smollm2-135m": LLAMA_LIKE,
    "minilm-l6": BERT_LIKE,
}
COMPARED = ["query", "key", "value", "weights", "head output", "attention output", "layer output"]


@cache
def read(name: str) -> tuple[PreTrainedModel, Capture]:
    if name in ARCHITECTURES:
        model, generator = make(name), torch.Generator().manual_seed(3)
        for parameter in model.parameters():  # biases of 0 and norms of 1 would hide what becomes of them
            if parameter.ndim == 1:
                parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
        return model, capture(model, **ARCHITECTURES[name].inputs(model))
    language = load_model(name)
    return language.model, language.capture(SENTENCE)


def some_entries(cap: Capture) -> list[int]:
    """The first of each kind, one of the middle and the last."""
    kinds = [layer.kind for layer in cap.layers]
    return sorted({kinds.index(kind) for kind in kinds} | {len(kinds) // 2, len(kinds) - 1})


def returned_weights(name: str, cap: Capture, output) -> dict[int, np.ndarray]:
    """By layer entry, (heads, queries, keys) of what the model returns as its attentions."""
    found = {}
    for kind, maps in watched.eager_weights(output).items():
        entries = [i for i, layer in enumerate(cap.layers) if kind in ("self", layer.kind)]
        if name.startswith("DiffLlama"):  # it returns the first of its two maps
            entries = entries[::2]
        maps = [w for w in maps if w.shape == cap.layers[entries[0]].shape]  # linear attention's have another shape
        found |= dict(zip(entries, maps, strict=True))
    return found


MODELS = [*ARCHITECTURES, "small"]
MODELS += [pytest.param("smollm2-135m", marks=needs_smollm2), pytest.param("minilm-l6", marks=needs_minilm)]


@pytest.mark.parametrize("name", MODELS)
def test_every_number_is_the_models_own(name):
    model, cap = read(name)
    calls = watched.calls_of(model, cap.inputs)
    assert len(calls) == len(cap.layers)
    entries = some_entries(cap)
    places = {}
    for entry in entries:
        layer = cap.layers[entry]
        block, inner = (part.format(layer.layer) for part in PLACES[name][layer.kind])
        places[entry] = block, f"{block}.{inner}" if inner else ""
    modules = sorted({module for pair in places.values() for module in pair if module})
    own = watched.eager_pass(model, cap.inputs, modules, output_attentions=True)
    returned = returned_weights(name, cap, own.output)
    assert set(returned) == set(range(len(cap.layers))) or name.startswith("DiffLlama")

    mixed: list[int] = []
    for entry in entries:
        layer, call, (block, projection) = cap.layers[entry], calls[entry], places[entry]
        heads, queries, _ = layer.shape
        run = layer.layer if len(own.made[block]) > 1 else 0  # ALBERT runs one layer again and again
        seen = trace(model, cap.inputs, entry, layer.module)
        assert seen.block == block
        for head, token in {(0, queries - 1), (heads - 1, queries // 2)}:
            sheet = fill_worksheet(cap, entry, head, token, model, seen)
            proof = {compared.name: compared for compared in sheet.proof}
            assert [c.name for c in sheet.proof if not c.agrees] == []
            assert list(proof) == [c for c in COMPARED if projection or c != "attention output"]
            assert sorted(sheet.missing) == ([] if projection else ["added"])

            for ours, theirs in ((sheet.query, call.query[head, token]), (sheet.keys, call.key[head])):
                assert watched.off(ours, theirs) <= EXACT
            assert watched.off(sheet.values, call.value[head]) <= EXACT
            assert watched.off(sheet.origins["query"].after(token), call.query[head, token]) <= EXACT
            for which, theirs in (("key", call.key[head]), ("value", call.value[head])):
                after = torch.stack([sheet.origins[which].after(key) for key in range(len(theirs))])
                assert watched.off(after, theirs) <= EXACT
                assert watched.off(proof[which].ours, theirs) <= EXACT

            mixed.append(int((sheet.weights > 0.01).sum()))
            scores, shown = call.scores(head, token), sheet.visible.numpy()
            assert watched.off(sheet.scores[shown], scores[shown]) <= EXACT
            assert (call.weights[head, token][~shown] == 0).all() and bool((sheet.masked[~shown] == -torch.inf).all())
            for weights in [w[head, token] for w in (call.weights, returned.get(entry)) if w is not None]:
                assert np.abs(sheet.weights.numpy() - weights).max() <= EXACT
                assert np.abs(proof["weights"].own.numpy() - weights).max() <= EXACT

            blended = call.blended
            if projection:
                blended = own.given[projection][run].reshape(queries, heads, -1)
                assert watched.off(proof["attention output"].ours, own.made[projection][run][token]) <= EXACT
                assert sheet.added is not None and sheet.added.name == projection.removeprefix(f"{block}.")
                assert watched.off(sheet.added.sum, own.made[projection][run][token]) <= EXACT
            for ours in (sheet.output, proof["head output"].ours, proof["head output"].own):
                assert watched.off(ours, blended[token, head]) <= EXACT
            for ours in (proof["layer output"].ours, proof["layer output"].own):
                assert watched.off(ours, own.made[block][run][token]) <= EXACT
    assert max(mixed) > 1, "rows that look at one key alone show nothing of the softmax"


# ── without the model, and what is refused ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["Llama: grouped", "gpt-oss: learned sinks", "Gemma 2: soft cap", "BART"])
def test_a_recording_has_the_row_and_says_what_it_lacks(name):
    model, cap = read(name)
    loaded = Capture.from_bytes(cap.to_bytes())
    for entry in some_entries(cap):
        layer = cap.layers[entry]
        ours, own = (fill_worksheet(c, entry, layer.heads - 1, 5, m) for c, m in ((loaded, None), (cap, model)))
        for part in ("query", "keys", "values", "visible", "dots", "scores", "masked", "weights", "terms", "output"):
            assert torch.equal(getattr(ours, part), getattr(own, part)), part
        assert (ours.sink, ours.shrink, ours.divisor) == (own.sink, own.shrink, own.divisor)
        assert (ours.query_token, ours.key_tokens) == (own.query_token, own.key_tokens)
        assert ours.missing == dict.fromkeys(("query", "key", "value", "weights", "added", "around"), RECORDED)
        assert (ours.origins, ours.rotation, ours.added, ours.around, ours.proof) == ({}, None, None, None, ())


@pytest.mark.parametrize(
    "entry, head, token", [(3, 0, 0), (-1, 0, 0), (0, 6, 0), (0, -1, 0), (0, 0, 23), (0, 0, -1), (99, 99, 99)]
)
def test_what_is_not_there_is_refused_in_words(entry, head, token):
    model, cap = read("Llama: grouped")
    with pytest.raises(HeadlightError, match=f"no layer entry {entry} with a head {head} and a token {token}"):
        fill_worksheet(cap, entry, head, token, model)


@pytest.mark.parametrize("name", ["Bloom: ALiBi", "DeBERTa"])
def test_a_model_that_hands_out_its_weights_alone_is_refused(name):
    model = WEIGHTS_ONLY[name].model()
    cap = capture(model, **WEIGHTS_ONLY[name].inputs(model))
    with pytest.raises(HeadlightError, match="hands out its weights alone.*Choose a model") as refused:
        fill_worksheet(cap, 0, 0, 3, model)
    assert cap.check.reason in str(refused.value)
    with pytest.raises(HeadlightError, match="Only the weights of this model can be seen"):
        trace(model, cap.inputs, 0, cap.layers[0].module)
