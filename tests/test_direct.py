"""Direct logit attribution: the parts sum to the model's own logit; heads against float64 arithmetic on its weights."""

from collections.abc import Callable

import pytest
import torch
import transformers as tf
from torch import Tensor, nn

from attention_core import HeadlightError, LanguageModel
from attention_core.aim import aim_at
from attention_core.attribution import read_again
from attention_core.direct import Direct, direct, frozen
from tests.architectures import ARCHITECTURES, Architecture, decoder, make
from tests.sizes import IDS, ROPE
from tests.tiny import letters
from tests.weights_only_models import WEIGHTS_ONLY

TEXT = "why so long"
MODELS = ARCHITECTURES | WEIGHTS_ONLY
WRITERS = [name for name, one in MODELS.items() if any(kind == "decoder" for kind, _ in one.order)]
# one call of the attention in each layer, of which the module that projects it is found
WITH_HEADS = [
    name
    for name in WRITERS
    if name in ARCHITECTURES and set(ARCHITECTURES[name].sizes) == {"decoder"}
    # DiffLlama mixes two calls before it projects; MiniMax multiplies what entered, too
    if not name.startswith(("DiffLlama", "MiniMax"))
]


def taken_apart(model: tf.PreTrainedModel, target: int = 71, contrast: int | None = None) -> tuple[Direct, Tensor]:
    """The answer, and the logits of the model itself."""
    lm = LanguageModel(model, letters())
    scorer = aim_at(lm, TEXT, target, contrast, decoder="abc" if lm.has_target else "")
    with torch.no_grad():
        logits = model(input_ids=scorer.ids, **scorer.inputs).logits[0, -1].double()
    return direct(scorer, read_again(lm, scorer)), logits


@pytest.mark.parametrize("name, contrast", [(name, 72 if n % 2 else None) for n, name in enumerate(WRITERS)])
def test_the_parts_sum_to_the_models_own_logit(name, contrast):
    found, logits = taken_apart(MODELS[name].model(), 71, contrast)
    own = float(logits[71]) - (0.0 if contrast is None else float(logits[contrast]))
    largest = float(logits.abs().max())
    assert abs(found.logit - own) <= 1e-5 * largest
    assert found.capped == (name in ("Gemma 2: soft cap", "T5Gemma: soft cap on both sides"))
    assert abs(found.sum - (found.before if found.capped else own)) <= 1e-4 * largest
    if not found.capped:
        assert abs(found.before - found.logit) <= 1e-5 * largest
    elif contrast is None:
        assert 30 * torch.tanh(torch.tensor(found.before) / 30) == pytest.approx(found.logit, abs=1e-4)
    layers = max(layer for kind, layer in MODELS[name].order if kind == "decoder") + 1
    assert len(found.layers) == layers == len(found.lens.wanted) and found.lens.difference < 1e-5
    with_heads = [part.heads is not None for part in found.layers]
    assert with_heads == [name in WITH_HEADS] * layers
    for part in found.layers:
        assert (part.attention is None) == (part.heads is None)
        if part.heads is not None:
            assert part.heads.shape == (MODELS[name].sizes["decoder"][0],) and part.heads.dtype == torch.float32
    chances = logits.softmax(dim=-1)
    assert float(found.lens.wanted[-1, 0]) == pytest.approx(float(chances[71]), rel=1e-3, abs=1e-6)
    assert int(found.lens.ranks[-1, 0]) == 1 + int((logits > logits[71]).sum())


# ── heads, by hand in float64 ───────────────────────────────────────────────────────────────────────────────────────


def seen_in(model: tf.PreTrainedModel, modules: list[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """What each module was given and made at the last token, in float64."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, out: Tensor | tuple) -> None:
            made = out if isinstance(out, Tensor) else out[0]
            seen[name] = args[0][0, -1].detach().double(), made[0, -1].detach().double()

        return hook

    hooks = [model.get_submodule(name).register_forward_hook(watch(name)) for name in modules]
    with torch.no_grad():
        model(letters()(TEXT, return_tensors="pt")["input_ids"])
    for hook in hooks:
        hook.remove()
    return seen


def rms(norm: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    size = (x.square().mean() + 1e-6).sqrt()
    return lambda part: part / size * norm.weight.detach().double()


def centring(norm: nn.LayerNorm, x: Tensor) -> Callable[[Tensor], Tensor]:
    size = (x.var(correction=0) + norm.eps).sqrt()
    return lambda part: (part - part.mean()) / size * norm.weight.detach().double()


# the projection and whether its weight is (in, out), the feed-forward part, the last norm and its kind, heads
BY_HAND = {
    "Llama: grouped": ("model.layers.{}.self_attn.o_proj", False, "model.layers.{}.mlp", "model.norm", rms, 6),
    "GPT-2: learned positions": (
        "transformer.h.{}.attn.c_proj",
        True,
        "transformer.h.{}.mlp",
        "transformer.ln_f",
        centring,
        5,
    ),
    "GPT-NeoX: parallel blocks, quarter RoPE": (
        "gpt_neox.layers.{}.attention.dense",
        False,
        "gpt_neox.layers.{}.mlp",
        "gpt_neox.final_layer_norm",
        centring,
        5,
    ),
}


@pytest.mark.parametrize("contrast", [None, 72])
@pytest.mark.parametrize("name", BY_HAND)
def test_heads_by_hand(name, contrast):
    model = make(name)
    with torch.no_grad():  # norms that matter, biases that matter
        for module in model.modules():
            for part in ("weight", "bias"):
                parameter = getattr(module, part, None)
                if isinstance(parameter, Tensor) and parameter.ndim == 1:
                    parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)) / 3)
    projection, transposed, feeding, last, kind, heads = BY_HAND[name]
    layers = range(len(ARCHITECTURES[name].order))
    seen = seen_in(model, [last, *(one.format(layer) for layer in layers for one in (projection, feeding))])
    weight = model.get_output_embeddings().weight.detach().double()
    direction = weight[71] - (0 if contrast is None else weight[contrast])
    through = kind(model.get_submodule(last), seen[last][0])
    found, logits = taken_apart(model, 71, contrast)
    largest = float(logits.abs().max())
    for layer in layers:
        given, made = seen[projection.format(layer)]
        out = model.get_submodule(projection.format(layer)).weight.detach().double()
        out = out.T if transposed else out  # (hidden, heads × head_dim)
        width = out.shape[1] // heads
        part = found.layers[layer]
        for h in range(heads):
            columns = slice(h * width, (h + 1) * width)
            expected = float(through(out[:, columns] @ given[columns]) @ direction)
            assert abs(float(part.heads[h]) - expected) <= 1e-5 * largest
        assert abs(part.attention - float(through(made) @ direction)) <= 1e-5 * largest
        assert abs(part.rest - float(through(seen[feeding.format(layer)][1]) @ direction)) <= 1e-5 * largest
    bias = getattr(model.get_submodule(last), "bias", None)
    expected = 0.0 if bias is None else float(bias.detach().double() @ direction)
    assert abs(found.offset - expected) <= 1e-5 * largest


def test_a_head_left_out_of_a_parallel_block():
    """GPT-NeoX's last layer adds attention and feed-forward part side by side: without a head, the stream lacks just
    what that head added."""
    name = "GPT-NeoX: parallel blocks, quarter RoPE"
    model, found = make(name), taken_apart(make(name))[0]
    last, block = "gpt_neox.final_layer_norm", model.gpt_neox.layers[2]
    whole = seen_in(model, [last])[last][0]
    through = centring(model.get_submodule(last), whole)
    direction = model.get_output_embeddings().weight.detach().double()[71]
    for h in range(5):

        def without(module: nn.Module, args: tuple, h: int = h) -> tuple:
            given = args[0].clone()
            given[..., h * 8 : (h + 1) * 8] = 0
            return (given,)

        hook = block.attention.dense.register_forward_pre_hook(without)
        change = whole - seen_in(model, [last])[last][0]
        hook.remove()
        assert float(found.layers[2].heads[h]) == pytest.approx(float(through(change) @ direction), abs=1e-5)


@pytest.mark.parametrize("name", [*WITH_HEADS, "Granite: a multiplier"])
def test_heads_and_bias_are_the_attention(name):
    """Without biases, heads sum to the attention; Gemma's norm behind it is linear once its scale is fixed."""
    granite = tf.GraniteConfig(**ROPE, residual_multiplier=0.22, logits_scaling=3.0, embedding_multiplier=12.0)
    model = (
        make(name) if name in ARCHITECTURES else Architecture(lambda: tf.GraniteForCausalLM(granite), [], {}).model()
    )
    found, logits = taken_apart(model)
    for part in found.layers:
        assert part.attention is not None and part.heads is not None
        if "gpt-oss" not in name:  # its projection's bias is random; the others' are zeros
            assert float(part.heads.sum()) == pytest.approx(part.attention, abs=1e-4 * float(logits.abs().max()))
    assert abs(found.sum - found.before) <= 1e-4 * float(logits.abs().max())


# ── norms ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("width", [36, 45])
def test_a_norm_is_recognised_by_what_it_does(width):
    drawn = torch.Generator().manual_seed(0)
    layer, root = nn.LayerNorm(width), nn.RMSNorm(width, eps=1e-5)
    with torch.no_grad():
        for parameter in (*layer.parameters(), *root.parameters()):
            parameter.copy_(torch.randn(width, generator=drawn))
    x = torch.randn(width, generator=drawn) * 3 + 1
    for norm, centred in ((layer, True), (root, False)):
        found = frozen(norm, x)
        assert found is not None and found.centred == centred
        parts = torch.stack([x * 0.3, x * 0.7 + 1, torch.full_like(x, -1.0)]).double()
        with torch.no_grad():
            torch.testing.assert_close(
                found.of(parts).sum(dim=0) + found.offset, norm(x).double(), atol=1e-5, rtol=1e-5
            )
        offset = layer.bias.detach().double() if centred else torch.zeros(width).double()
        torch.testing.assert_close(found.offset, offset, atol=1e-5, rtol=1e-5)
    linear = nn.Linear(width, width)
    for other in (nn.ReLU(), nn.Tanh(), nn.GELU(), linear):
        assert frozen(other, x) is None


def test_an_odd_width_is_taken_apart():
    config = tf.GPT2Config(**IDS, n_embd=45, n_layer=3, n_head=5, n_positions=64)
    found, logits = taken_apart(Architecture(lambda: tf.GPT2LMHeadModel(config), decoder(3), {}).model())
    assert abs(found.sum - float(logits[71])) <= 1e-4 * float(logits.abs().max())
    assert all(part.heads is not None for part in found.layers)


# ── where it does not apply ─────────────────────────────────────────────────────────────────────────────────────────


class Bent(nn.Module):
    """Something at the end of a model that is no norm."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs().sqrt()


def bent() -> tf.PreTrainedModel:
    model = make("Llama: grouped")
    model.model.norm = Bent()
    return model


@pytest.mark.parametrize(
    "build, sentence",
    [
        (lambda: make("BERT"), "An encoder writes no token"),
        (lambda: WEIGHTS_ONLY["XLNet"].model(), "the layers of this model look both ways"),
        (lambda: make("Llama: grouped").bfloat16(), "bfloat16 are too coarse. Load the model in float32"),
        (bent, "what follows the last layer is no norm and output head"),
    ],
)
def test_where_it_does_not_apply(build, sentence):
    lm = LanguageModel(build(), letters())
    scorer = aim_at(lm, TEXT)
    with pytest.raises(HeadlightError, match=sentence):
        direct(scorer, read_again(lm, scorer))


def test_int8():
    quantization = pytest.importorskip("torchao.quantization")
    model = make("Llama: grouped")
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    found, logits = taken_apart(model)
    assert abs(found.sum - float(logits[71])) <= 1e-4 * float(logits.abs().max())


def test_the_model_is_left_alone(small):
    scorer = aim_at(small, "The old king met the", "queen", "king")
    record = read_again(small, scorer)
    one, two = direct(scorer, record), direct(scorer, record)
    assert one.sum == two.sum and one.nbytes > 0 and one.logit == pytest.approx(scorer.aim.value, rel=1e-5)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in small.model.modules())
    middle = aim_at(small, "The old king met the queen", "queen", "king", token=4)
    again = direct(middle, small.capture("The old king met the queen"))
    assert [part.total for part in again.layers] == pytest.approx([part.total for part in one.layers], abs=1e-4)
