"""capture() is exact on many architectures: everything is compared with the model's own eager attention.

The comparison is written here anew and shares no code with the self-check inside attention_core.
"""

import copy
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from attention_core import Capture, capture
from tests.architectures import ARCHITECTURES, Architecture

EXACT = 1e-5  # weights absolutely, outputs relative to the largest value
SLICES = [
    (slice(0, 1), slice(0, 1)),
    (slice(3, 10), slice(2, 9)),
    (slice(5, None), slice(None, 4)),
    (slice(-3, -1), slice(7, 8)),
]


@cache
def read(name: str):
    """(architecture, its model, inputs, the capture, the model's own eager output); one forward each for all tests."""
    architecture = ARCHITECTURES[name]
    model = architecture.model()
    inputs = architecture.inputs(model)
    return architecture, model, inputs, capture(model, **inputs), run(model, "eager", inputs, output_attentions=True)


def run(model, implementation: str, inputs: dict, **more):
    twin = copy.deepcopy(model)
    twin.set_attn_implementation(implementation)
    with torch.no_grad():
        return twin(**inputs, **more)


def main_output(output) -> Tensor:
    found = [output[name] for name in ("logits", "last_hidden_state") if output.get(name) is not None]
    return found[0]


def eager_weights(output) -> dict[str, list[Tensor]]:
    """The model's own weights in its order, each (heads, query tokens, key tokens)."""
    if output.get("cross_attentions") is not None and output.get("encoder_attentions") is not None:
        lists = {kind: output[f"{kind}_attentions"] for kind in ("encoder", "decoder", "cross")}
    else:
        lists = {"self": output["attentions"]}
    return {kind: [w[0] for w in weights] for kind, weights in lists.items()}


def paired(architecture: Architecture, cap: Capture, output) -> list[tuple[int, Tensor]]:
    """(index in cap.layers, the model's own weights of that call), for every call whose weights the model returns."""
    pairs = []
    for kind, weights in eager_weights(output).items():
        calls = [i for i, (name, _) in enumerate(architecture.order) if kind in ("self", name)]
        if architecture.weights_from_call is not None:
            calls = calls[architecture.weights_from_call :: 2]
        # linear attention returns a map of another shape
        maps = [
            w
            for w in weights
            if w.shape[-2:] == (cap.layers[calls[0]].query.shape[1], cap.layers[calls[0]].key.shape[1])
        ]
        assert len(maps) == len(calls)
        pairs += zip(calls, maps, strict=True)
    return pairs


def may_look(architecture: Architecture, kind: str, layer: int, queries: int, keys: int) -> np.ndarray:
    """The mask by hand: causal in a decoder, everything elsewhere, and a window where the layer has one."""
    q, k = np.arange(queries)[:, None], np.arange(keys)[None]
    window = architecture.window(kind, layer)
    if kind == "decoder":
        return (k <= q) & (k > q - (window or keys))
    if kind == "cross" or window is None:
        return np.ones((queries, keys), dtype=bool)
    return abs(k - q) <= window


each = pytest.mark.parametrize("name", ARCHITECTURES)


def test_the_table_is_wide_enough():
    assert len(ARCHITECTURES) >= 22
    assert len({type(a.model()).__name__ for a in ARCHITECTURES.values()}) >= 22


@each
def test_weights_equal_the_models_own(name):
    architecture, _, _, cap, own = read(name)
    pairs = paired(architecture, cap, own)
    assert len(pairs) == len(cap.layers) // (1 if architecture.weights_from_call is None else 2)
    for i, theirs in pairs:
        assert theirs.shape[0] == cap.layers[i].heads
        for h in range(theirs.shape[0]):
            ours = cap.attention(i, h)
            assert ours.dtype == torch.float32 and ours.device.type == "cpu" and ours.shape == theirs[h].shape
            difference = (ours - theirs[h]).abs().max().item()
            assert difference <= EXACT, f"layer entry {i}, head {h}: {difference:.1e}"
    assert max(w.max(dim=-1).values.mean() for _, w in pairs) > 0.3, "too uniform to notice an error"


@each
def test_output_is_the_models_own(name):
    architecture, model, inputs, cap, own = read(name)
    ours, eager = main_output(cap.output), main_output(own)
    largest = eager.abs().max()
    try:
        plain = main_output(run(model, "sdpa", inputs))
        served = bool((plain - eager).abs().max() <= EXACT * largest)
    except ValueError:  # transformers: "does not support … scaled_dot_product_attention yet"
        served = False
    assert served == architecture.served_by_sdpa
    if served:
        assert torch.equal(ours, plain)
    assert (ours - eager).abs().max() <= EXACT * largest


@each
def test_rows_sum_to_one_and_masked_cells_are_zero(name):
    architecture, _, _, cap, _ = read(name)
    for i, layer in enumerate(cap.layers):
        allowed = may_look(architecture, layer.kind, layer.layer, layer.query.shape[1], layer.key.shape[1])
        for h in range(layer.heads):
            weights = cap.attention(i, h).numpy()
            assert (weights[~allowed] == 0).all()
            assert (cap.visible(i, h).numpy() == allowed).all()
            sums = weights.sum(axis=-1, dtype=np.float64)
            if architecture.learned_sink:
                assert (sums <= 1 + 1e-6).all() and (sums > 0).all() and sums.min() < 0.99
            else:
                np.testing.assert_allclose(sums, 1, atol=1e-5)


@each
def test_scores_become_the_weights(name):
    """softmax(scores) over the cells that may be looked at, in NumPy float64; with a sink up to a factor per row."""
    architecture, _, _, cap, _ = read(name)
    for i, layer in enumerate(cap.layers):
        allowed = may_look(architecture, layer.kind, layer.layer, layer.query.shape[1], layer.key.shape[1])
        for h in range(layer.heads):
            scores = np.where(allowed, cap.scores(i, h).double().numpy(), -np.inf)
            expected = np.exp(scores - scores.max(axis=-1, keepdims=True))
            expected /= expected.sum(axis=-1, keepdims=True)
            weights = cap.attention(i, h).double().numpy()
            np.testing.assert_allclose(weights / weights.sum(axis=-1, keepdims=True), expected, atol=EXACT)


@each
def test_tiles_equal_the_whole(name):
    _, _, _, cap, _ = read(name)
    for i, layer in enumerate(cap.layers):
        h = layer.heads - 1
        for rows, columns in SLICES:
            for whole in (cap.attention, cap.scores, cap.visible):
                tile, expected = whole(i, h, rows=rows, columns=columns), whole(i, h)[rows, columns]
                assert tile.shape == expected.shape
                torch.testing.assert_close(tile, expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(
            cap.attention(i, h, rows=slice(2, 5)), cap.attention(i, h)[2:5], atol=1e-6, rtol=1e-5
        )


@each
def test_kinds_layers_positions_and_shapes(name):
    architecture, _, inputs, cap, _ = read(name)
    assert [(layer.kind, layer.layer) for layer in cap.layers] == architecture.order
    text, target = inputs["input_ids"].shape[1], inputs.get("decoder_input_ids", inputs["input_ids"]).shape[1]
    for layer in cap.layers:
        queries = text if layer.kind == "encoder" else target
        keys = target if layer.kind == "decoder" else text
        heads, key_value_heads, head_dim, value_dim = architecture.sizes[layer.kind]
        assert layer.query.shape == (heads, queries, head_dim)
        assert layer.key.shape == (key_value_heads, keys, head_dim)
        assert layer.value.shape == (key_value_heads, keys, value_dim)
        assert layer.key_positions.tolist() == list(range(keys))


@pytest.mark.parametrize("name", [n for n, a in ARCHITECTURES.items() if a.out_projection])
def test_weights_times_values_are_what_the_head_gives(name):
    """What reaches the output projection of each layer, as a hook on the eager model sees it."""
    architecture, model, inputs, cap, _ = read(name)
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("eager")
    kind = "cross" if "EncDec" in architecture.out_projection or "encoder_attn" in architecture.out_projection else None
    calls = [i for i, layer in enumerate(cap.layers) if kind in (None, layer.kind)]
    seen: list[Tensor] = []
    for number in range(len(calls)):
        module = twin.get_submodule(architecture.out_projection.format(number))
        module.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    with torch.no_grad():
        twin(**inputs)
    assert len(seen) == len(calls)
    for i, theirs in zip(calls, seen, strict=True):
        layer = cap.layers[i]
        heads, key_value_heads, _, value_dim = architecture.sizes[layer.kind]
        theirs = theirs.reshape(-1, heads, value_dim).double().numpy()  # (query tokens, heads, head_dim)
        for h in range(heads):
            assert layer.key_value_head(h) == h // (heads // key_value_heads)
            value = layer.value[layer.key_value_head(h)].double().numpy()
            blended = cap.attention(i, h).double().numpy() @ value
            np.testing.assert_allclose(blended, theirs[:, h], atol=EXACT * max(1, np.abs(value).max()))


# ── padding ─────────────────────────────────────────────────────────────────────────────────────────────────────────

PADDED = ["Llama: grouped", "Gemma 2: soft cap", "gpt-oss: learned sinks", "Mistral: sliding window", "BERT"]
PADDED += ["ModernBERT: local and global layers", "T5: relative positions", "BART"]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", PADDED)
def test_padding_is_never_looked_at_and_leaves_no_nan(name, side):
    architecture, model, inputs, _, _ = read(name)
    mask = torch.ones_like(inputs["input_ids"])
    mask[0, slice(0, 5) if side == "left" else slice(-5, None)] = 0
    real = mask[0].bool()
    inputs = inputs | {"attention_mask": mask}
    cap, own = capture(model, **inputs), run(model, "eager", inputs, output_attentions=True)
    for i, theirs in paired(architecture, cap, own):
        reads_text = cap.layers[i].kind == "encoder" or not model.config.is_encoder_decoder
        for h in range(cap.layers[i].heads):
            ours = cap.attention(i, h)
            assert not ours.isnan().any() and not cap.scores(i, h).isnan().any()
            rows = real if reads_text else slice(None)
            torch.testing.assert_close(ours[rows], theirs[h][rows], atol=EXACT, rtol=0)
            if reads_text or cap.layers[i].kind == "cross":
                assert (ours[rows][:, ~real] == 0).all()
    assert not any(picture.isnan().any() for size in (4, 32) for picture in cap.thumbnails(size))
    ours, theirs = main_output(cap.output)[0], main_output(own)[0]
    if not model.config.is_encoder_decoder:
        ours, theirs = ours[real], theirs[real]
    assert not ours.isnan().any()
    assert (ours - theirs).abs().max() <= EXACT * theirs.abs().max()


def test_a_padded_text_reads_as_the_text_alone():
    """Left padding changes neither the weights nor the output of the real tokens (Llama's positions are relative)."""
    _, model, inputs, cap, _ = read("Llama: grouped")
    ids = torch.cat([torch.zeros(1, 4, dtype=torch.long), inputs["input_ids"]], dim=1)
    padded = capture(model, input_ids=ids, attention_mask=(ids > 0).long())
    for i in range(len(cap.layers)):
        torch.testing.assert_close(padded.attention(i, 5)[4:, 4:], cap.attention(i, 5), atol=1e-4, rtol=0)


# ── a past ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("new", [1, 5, 9])
@pytest.mark.parametrize("past", [3, 18])
@pytest.mark.parametrize("name", ["Llama: grouped", "Mistral: sliding window", "Gemma 3: local and global layers"])
def test_with_a_past(name, past, new):
    architecture, model, _, _, _ = read(name)
    ids = torch.randint(3, 97, (1, past + new), generator=torch.Generator().manual_seed(5))
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        earlier = eager(input_ids=ids[:, :past], use_cache=True).past_key_values
        own = eager(input_ids=ids[:, past:], past_key_values=earlier, output_attentions=True)
        before = model(input_ids=ids[:, :past], use_cache=True).past_key_values
    cap = capture(model, input_ids=ids[:, past:], past_key_values=before)
    assert [(layer.kind, layer.layer) for layer in cap.layers] == architecture.order
    for i, layer in enumerate(cap.layers):
        window, theirs = architecture.window(layer.kind, layer.layer), own.attentions[i][0]
        kept = past if window is None else min(past, window - 1)
        assert layer.query.shape[1] == new
        assert layer.key_positions.tolist() == list(range(past - kept, past + new))
        for h in range(layer.heads):
            assert cap.attention(i, h).shape == (new, kept + new)
            torch.testing.assert_close(cap.attention(i, h), theirs[h], atol=EXACT, rtol=0)
    torch.testing.assert_close(cap.output.logits, own.logits, atol=EXACT * own.logits.abs().max().item(), rtol=0)


def test_a_past_equals_the_whole_text_at_once():
    """The last rows of one pass over everything, without a cache: the same weights."""
    _, model, inputs, cap, _ = read("Mistral: sliding window")
    with torch.no_grad():
        before = model(input_ids=inputs["input_ids"][:, :17], use_cache=True).past_key_values
    later = capture(model, input_ids=inputs["input_ids"][:, 17:], past_key_values=before)
    for i, layer in enumerate(later.layers):
        whole = cap.attention(i, 2)[17:, layer.key_positions]
        torch.testing.assert_close(later.attention(i, 2), whole, atol=EXACT, rtol=0)


def test_the_cache_that_was_given_may_grow_without_changing_the_capture():
    _, model, inputs, _, _ = read("Llama: grouped")
    with torch.no_grad():
        cache = model(input_ids=inputs["input_ids"][:, :9], use_cache=True).past_key_values
        cap = capture(model, input_ids=inputs["input_ids"][:, 9:12], past_key_values=cache)
        before = cap.attention(1, 1).clone()
        model(input_ids=inputs["input_ids"][:, 12:], past_key_values=cache)
    assert torch.equal(cap.attention(1, 1), before)
