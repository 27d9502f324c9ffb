"""trace(): the pass is the Capture's to the bit, the layer can be run again, and the model itself is left alone."""

import gc
import threading
import weakref
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from attention_core import Capture, HeadlightError, LanguageModel, capture
from attention_core.filling import fill_worksheet
from attention_core.tracing import block_of, trace
from tests import watched
from tests.architectures import ARCHITECTURES, make, some_ids

# name → entry, its layer, the projection of the blended values in it
PLACES = {
    "Llama: grouped": (1, "model.layers.1", "self_attn.o_proj"),
    "GPT-2: learned positions": (2, "transformer.h.2", "attn.c_proj"),
    "DeepSeek-V3: latent, values of another size": (1, "model.layers.1", "self_attn.o_proj"),
    "Gemma 2: soft cap": (1, "model.layers.1", "self_attn.o_proj"),
    "gpt-oss: learned sinks": (2, "model.layers.2", "self_attn.o_proj"),
    "Mixtral: mixture of experts": (2, "model.layers.2", "self_attn.o_proj"),
    "BERT": (1, "encoder.layer.1", "attention.output.dense"),
    "ModernBERT: local and global layers": (1, "model.layers.1", "attn.Wo"),
    "ALBERT: all layers share their weights": (
        1,
        "encoder.albert_layer_groups.0",
        "albert_layers.0.attention.dense",
    ),
    "T5: relative positions": (5, "decoder.block.1", "layer.1.EncDecAttention.o"),  # the second layer's cross-attention
    "BART": (2, "model.decoder.layers.0", "self_attn.out_proj"),
}
SHARED = "ALBERT: all layers share their weights"


@cache
def read(name: str) -> tuple[PreTrainedModel, Capture]:
    model = make(name)
    return model, capture(model, **ARCHITECTURES[name].inputs(model))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_call_is_the_captures_to_the_bit(name):
    """Of every architecture: the encoder's and the decoder's, grouped, one shared module run thrice."""
    model, cap = read(name)
    last = len(cap.layers) - 1
    for entry in sorted({0, last // 2, last - 1, last}):
        layer = cap.layers[entry]
        counted: list[int] = []
        seen = trace(model, cap.inputs, entry, layer.module, counted.append)
        calls_of_layer = [n for n, other in enumerate(cap.layers) if f"{other.module}.".startswith(f"{seen.block}.")]
        shared = len({other.module for other in cap.layers}) == 1  # ALBERT: one layer, run again and again
        assert counted == list(range(1, (entry if shared else calls_of_layer[-1]) + 2)), "it stops behind the layer"
        for which in ("query", "key", "value"):
            assert torch.equal(getattr(seen.layer, which), getattr(layer, which))
        assert (seen.layer.kind, seen.layer.layer, seen.layer.module) == (layer.kind, layer.layer, layer.module)
        _, queries, keys = layer.shape
        assert len(seen.hidden) == len(seen.entered) == len(seen.left) == queries
        assert {len(call.given) for call in seen.before} <= {queries, keys}
        assert f"{seen.block}.{seen.attention}" == layer.module
        assert seen.nbytes > 0


@pytest.mark.parametrize("name", PLACES)
def test_the_layer_run_again_with_other_blended_values(name):
    """Beside an eager pass in which a hook puts the same values into the output projection."""
    model, cap = read(name)
    entry, block, projection = PLACES[name]
    seen = trace(model, cap.inputs, entry, cap.layers[entry].module)
    assert seen.block == block
    tokens, heads, size = seen.own.output.shape[1:]
    assert torch.equal(seen.again(seen.own.output[0]), seen.left)

    other = torch.randn(tokens, heads, size, generator=torch.Generator().manual_seed(7))
    twin, runs, made = watched.twin_of(model), [], []
    twin.set_attn_implementation("eager")
    wanted = entry if name == SHARED else 0

    def instead(module, args):
        runs.append(module)
        return (other.reshape(args[0].shape),) if len(runs) == wanted + 1 else None

    twin.get_submodule(f"{block}.{projection}").register_forward_pre_hook(instead)
    twin.get_submodule(block).register_forward_hook(lambda module, args, output: made.append(watched.rows(output)))
    with torch.no_grad():
        twin(**cap.inputs)
    again = seen.again(other)
    assert watched.off(again, made[wanted]) <= 1e-5
    assert watched.off(again, seen.left.double().numpy()) > 0.01, "the other values changed nothing"
    assert torch.equal(seen.again(seen.own.output[0]), seen.left), "running it again left something behind"


def test_a_shared_module_gives_the_call_that_was_asked_for():
    model, cap = read(SHARED)
    own = watched.eager_pass(model, cap.inputs, ["encoder.albert_layer_groups.0"])
    (made,), (given,) = own.made.values(), own.given.values()
    assert len(made) == 3 and watched.off(made[0], made[1]) > 0.01
    for entry in range(3):
        seen = trace(model, cap.inputs, entry, cap.layers[entry].module)
        assert watched.off(seen.entered, given[entry]) <= 1e-5 and watched.off(seen.left, made[entry]) <= 1e-5


@pytest.mark.parametrize("name", ["Llama: grouped", "T5: relative positions", "ALBERT: all layers share their weights"])
def test_what_was_given_and_made_is_what_hooks_see(name):
    model, cap = read(name)
    entry, block, _ = PLACES[name]
    seen = trace(model, cap.inputs, entry, cap.layers[entry].module)
    calls = [call for call in (*seen.before, *seen.after) if isinstance(call.module, nn.Linear)]
    assert len({call.name for call in calls}) >= 4
    own = watched.eager_pass(model, cap.inputs, [f"{block}.{call.name}" for call in calls])
    run = entry if name == SHARED else 0
    for call in calls:
        assert watched.off(call.given, own.given[f"{block}.{call.name}"][run]) <= 1e-5
        assert watched.off(call.made, own.made[f"{block}.{call.name}"][run]) <= 1e-5
        assert torch.allclose(call.again(call.given), call.made)
    kinds = {part.kind for part in seen.parts}
    assert "attention" in kinds and "feed-forward" in kinds


def test_the_sides_of_an_encoder_decoder_have_their_own_lengths():
    model = make("BART")
    cap = capture(model, input_ids=some_ids(17), decoder_input_ids=some_ids(6))
    shapes = [(layer.kind, *layer.shape[1:]) for layer in cap.layers[:4]]
    assert shapes[0] == ("encoder", 17, 17) and shapes[2:] == [("decoder", 6, 6), ("cross", 6, 17)]
    seen = trace(model, cap.inputs, 3, cap.layers[3].module)
    lengths = {call.name.rpartition(".")[2]: len(call.made) for call in seen.before if "encoder_attn." in call.name}
    assert lengths == {"q_proj": 6, "k_proj": 17, "v_proj": 17}
    sheet = fill_worksheet(cap, 3, 4, 5, model)
    assert len(sheet.weights) == 17 and len(sheet.origins["key"].pieces[0].given) == 17
    assert all(compared.agrees for compared in sheet.proof) and len(sheet.proof) == 7
    same = capture(model, input_ids=some_ids(6), decoder_input_ids=some_ids(6, seed=1))
    sheet = fill_worksheet(same, 3, 4, 5, model)
    assert all(compared.agrees for compared in sheet.proof) and sheet.missing == {}


# ── the model itself ────────────────────────────────────────────────────────────────────────────────────────────────


def hooks_on(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


@pytest.mark.parametrize("implementation", ["as it came", "eager", "headlight"])
@pytest.mark.parametrize("name", ["Llama: grouped", "Gemma 2: soft cap", "BART"])
def test_the_model_is_left_as_it_was(name, implementation):
    model = make(name)
    if implementation == "eager":
        model.set_attn_implementation("eager")
    if implementation == "headlight":
        model = LanguageModel(model).model
    inputs = ARCHITECTURES[name].inputs(model)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    before = (hooks_on(model), model.config._attn_implementation, model.training, list(model.state_dict()))
    written = model.generate(input_ids=inputs["input_ids"], max_new_tokens=9, do_sample=False)
    cap = capture(model, **inputs)
    sheet = fill_worksheet(cap, len(cap.layers) - 1, 1, 5, model)
    seen = trace(model, cap.inputs, 0, cap.layers[0].module)
    seen.again(torch.zeros(seen.own.output.shape[1:]))
    assert (hooks_on(model), model.config._attn_implementation, model.training, list(model.state_dict())) == before
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert torch.equal(written, model.generate(input_ids=inputs["input_ids"], max_new_tokens=9, do_sample=False))
    assert all(compared.agrees for compared in sheet.proof)
    assert not any(part.requires_grad for part in (sheet.output, seen.left, *(call.made for call in seen.before)))


def test_while_another_thread_generates():
    model = make("Mistral: sliding window")
    cap, prompt = capture(model, input_ids=some_ids(19)), some_ids(11, seed=4)
    alone = model.generate(input_ids=prompt, max_new_tokens=12, do_sample=False)
    expected, written, done = fill_worksheet(cap, 2, 4, 17, model), [], threading.Event()

    def write():
        while not done.is_set():
            written.append(model.generate(input_ids=prompt, max_new_tokens=12, do_sample=False))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        sheets = [fill_worksheet(cap, 2, 4, 17, model) for _ in range(10)]
    finally:
        done.set()
        thread.join()
    assert written and all(torch.equal(ids, alone) for ids in written)
    for sheet in sheets:
        assert all(compared.agrees for compared in sheet.proof)
        for ours, theirs in zip(sheet.proof, expected.proof, strict=True):
            assert torch.equal(ours.own, theirs.own) and torch.equal(ours.ours, theirs.ours)


def test_nothing_keeps_a_model_alive():
    model = make("Llama: grouped")
    cap = capture(model, input_ids=some_ids(9))
    seen = trace(model, cap.inputs, 1, cap.layers[1].module)
    fill_worksheet(cap, 1, 0, 3, model, seen)
    alive = weakref.ref(model)
    del model, seen
    gc.collect()
    assert alive() is None


# ── what is watched ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_padding_and_embeddings_are_read_as_they_were():
    model, mask = make("Llama: grouped"), torch.ones(1, 13, dtype=torch.long)
    mask[0, :4] = 0
    cap = capture(model, input_ids=some_ids(13), attention_mask=mask)
    sheet = fill_worksheet(cap, 1, 5, 10, model)
    assert (sheet.weights[:4] == 0).all() and all(compared.agrees for compared in sheet.proof)
    cap = capture(model, inputs_embeds=model.get_input_embeddings()(some_ids(7)))
    assert all(compared.agrees for compared in fill_worksheet(cap, 2, 1, 6, model).proof)


def test_a_text_behind_a_cache_is_refused_in_words():
    model = make("Llama: grouped")
    with torch.no_grad():
        past = model(input_ids=some_ids(12), use_cache=True).past_key_values
    cap = capture(model, input_ids=some_ids(5, seed=1), past_key_values=past)
    with pytest.raises(HeadlightError, match="kept in a cache.*Capture the whole text at once"):
        fill_worksheet(cap, 1, 0, 3, model)
    assert len(fill_worksheet(cap, 1, 0, 3).weights) == 17


def test_a_module_that_is_not_there_is_refused_in_words():
    model, cap = read("Llama: grouped")
    with pytest.raises(HeadlightError, match="“model.layers.9.self_attn” that attends is not a part of this model"):
        trace(model, cap.inputs, 1, "model.layers.9.self_attn")
    with pytest.raises(HeadlightError, match="“model.layers.1” did not run"):
        trace(model, cap.inputs, 2, "model.layers.1.self_attn")


def test_the_layer_is_the_outermost_element_of_a_list():
    parts = nn.ModuleList([nn.ModuleDict({"inner": nn.ModuleList([nn.Linear(2, 2)])})])
    modules = dict(nn.ModuleDict({"stack": nn.ModuleDict({"blocks": parts}), "alone": nn.ModuleDict()}).named_modules())
    assert block_of(modules, "stack.blocks.0.inner.0") == "stack.blocks.0"
    assert block_of(modules, "alone.attention") == "alone"


@pytest.mark.parametrize(
    "name, entry, numbers",
    [
        ("GPT-2: learned positions", 1, lambda m: ("transformer.wpe", m.transformer.wpe.weight[:23])),
        ("BERT", 1, lambda m: ("embeddings.position_embeddings", m.embeddings.position_embeddings.weight[:23])),
        ("Marian: sinusoids", 0, lambda m: ("model.encoder.embed_positions", sinusoids(23, 60))),
        ("Marian: sinusoids", 5, lambda m: ("model.decoder.embed_positions", sinusoids(11, 60))),
    ],
)
def test_positions_that_are_added(name, entry, numbers):
    torch.manual_seed(0)
    model = ARCHITECTURES[name].build().eval()  # with the positions that it was made with
    cap = capture(model, **ARCHITECTURES[name].inputs(model))
    found = trace(model, cap.inputs, entry, cap.layers[entry].module).added
    module, expected = numbers(model)
    assert found is not None and found[0] == module
    np.testing.assert_allclose(found[1].detach(), np.asarray(expected.detach()), atol=1e-6)
    around = fill_worksheet(cap, entry, 0, 7, model).around
    assert around.positions[0] == module and torch.equal(around.positions[1], found[1][7])


def sinusoids(tokens: int, width: int) -> torch.Tensor:
    """Vaswani et al. 2017, section 3.5, with the sines first and then the cosines (Marian)."""
    angles = np.arange(tokens)[:, None] / 10_000 ** (2 * np.arange(width // 2)[None] / width)
    return torch.tensor(np.concatenate([np.sin(angles), np.cos(angles)], axis=1)).float()


@pytest.mark.parametrize("name", ["Llama: grouped", "T5: relative positions", "ModernBERT: local and global layers"])
def test_no_positions_are_added_where_none_are(name):
    model, cap = read(name)
    assert trace(model, cap.inputs, 0, cap.layers[0].module).added is None
