"""The cache's size from a config, against the tensors that transformers keeps, measured by shape; the equation in words
is computed again; roofline and parameter counts against torch's own counter of operations and published figures."""

import re
from collections.abc import Callable, Iterator

import pytest
import torch
import transformers as tf
from torch.utils.flop_counter import FlopCounterMode
from transformers.modeling_outputs import BaseModelOutput

from attention_core import HeadlightError
from attention_core.cache_size import ATTENTIONS, as_attention, cache_bytes, cache_report
from attention_core.known_models import KNOWN, KnownModel
from attention_core.roofline import DEVICES, parameter_counts, roofline
from tests.architectures import ARCHITECTURES
from tests.sizes import IDS, LLAMA, PLAIN, ROPE, VOCABULARY

LENGTHS = (1, 6, 7, 8, 19)  # windows below are 7 (and 6): shorter, equal, one more, longer
ENCODER_TOKENS = 13
BY_NAME = {known.name: known for known in KNOWN}
H100 = next(device for device in DEVICES if device.name.startswith("H100"))

# ── real models, real caches ────────────────────────────────────────────────────────────────────────────────────────


def mistral(window: int) -> Callable[[], tf.PreTrainedModel]:
    return lambda: tf.MistralForCausalLM(tf.MistralConfig(**LLAMA, sliding_window=window))


def falcon(**options: object) -> Callable[[], tf.PreTrainedModel]:
    return lambda: tf.FalconForCausalLM(
        tf.FalconConfig(**PLAIN | {"hidden_size": 48, "num_attention_heads": 6}, **options)
    )


def gemma3n() -> tf.PreTrainedModel:
    sizes = LLAMA | {"num_hidden_layers": 6, "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 4}
    layers = ["sliding_attention", "full_attention"] * 3
    return tf.Gemma3nForCausalLM(
        tf.Gemma3nTextConfig(
            **sizes,
            layer_types=layers,
            sliding_window=7,
            num_kv_shared_layers=2,
            laurel_rank=4,
            activation_sparsity_pattern=[0.0] * 6,
        )
    )


def gemma4() -> tf.PreTrainedModel:
    """Its global layers have heads of another width, and fewer of them; the last two read earlier layers' rows."""
    layers = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    sizes = LLAMA | {"num_hidden_layers": 4, "vocab_size_per_layer_input": VOCABULARY}
    special = {"num_kv_shared_layers": 2, "global_head_dim": 12, "num_global_key_value_heads": 1}
    return tf.Gemma4ForCausalLM(tf.Gemma4TextConfig(**sizes, **special, layer_types=layers, sliding_window=7))


def jamba() -> tf.PreTrainedModel:
    more = {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False}
    return tf.JambaForCausalLM(tf.JambaConfig(**ROPE | more, num_experts=2, num_experts_per_tok=1, mamba_dt_rank=4))


def bamba() -> tf.PreTrainedModel:
    sizes = ROPE | {"num_hidden_layers": 4, "attn_layer_indices": [1, 3]}
    return tf.BambaForCausalLM(tf.BambaConfig(**sizes, mamba_n_heads=6, mamba_d_head=12, mamba_d_state=5))


def falcon_h1() -> tf.PreTrainedModel:
    """Attention and a state space in every layer."""
    return tf.FalconH1ForCausalLM(
        tf.FalconH1Config(**LLAMA, mamba_n_heads=6, mamba_d_head=12, mamba_d_ssm=72, mamba_d_state=5)
    )


def lfm2() -> tf.PreTrainedModel:
    layers = ["conv", "full_attention", "conv"]
    return tf.Lfm2ForCausalLM(tf.Lfm2Config(**ROPE, layer_types=layers))


def mimo() -> tf.PreTrainedModel:
    """Values of another width, and twice the key-value heads in its sliding layers."""
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    more = experts | {"v_head_dim": 4, "num_key_value_heads": 3, "sliding_window": 7}
    layers = ["full_attention", "sliding_attention", "sliding_attention"]
    return tf.MiMoV2FlashForCausalLM(tf.MiMoV2FlashConfig(**LLAMA | more, layer_types=layers))


def inkling() -> tf.PreTrainedModel:
    """Other heads, and of another width, in its sliding layers; convolutions beside them."""
    local = {"swa_num_attention_heads": 6, "swa_num_key_value_heads": 3, "swa_head_dim": 12, "sliding_window_size": 7}
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "n_shared_experts": 1}
    layers = ["hybrid_sliding", "hybrid", "hybrid_sliding"]
    return tf.InklingForCausalLM(tf.InklingTextConfig(**LLAMA | local | experts, layer_types=layers))


def mamba() -> tf.PreTrainedModel:
    return tf.MambaForCausalLM(tf.MambaConfig(**IDS, hidden_size=24, num_hidden_layers=2, state_size=4))


TAKEN = [
    name
    for name in ARCHITECTURES
    if name.split(":")[0]
    not in ("BERT", "RoBERTa", "DistilBERT", "ALBERT", "Splinter", "ModernBERT", "Marian", "Pegasus", "StableLM")
]
MODELS: dict[str, Callable[[], tf.PreTrainedModel]] = {name: ARCHITECTURES[name].build for name in TAKEN} | {
    "Mistral, window 1": mistral(1),
    "Mistral, window 2": mistral(2),
    "Mistral, window 19": mistral(19),
    "Mistral, window 20": mistral(20),
    "Mistral, window 300": mistral(300),
    "Falcon, multi-query": falcon(multi_query=True, new_decoder_architecture=False),
    "Falcon, multi-head": falcon(multi_query=False, new_decoder_architecture=False),
    "Falcon, grouped": falcon(new_decoder_architecture=True, num_kv_heads=2),
    "Gemma 3n: shared rows": gemma3n,
    "Gemma 4: shared rows, heads of two widths": gemma4,
    "Jamba: state space": jamba,
    "Bamba: state space": bamba,
    "Falcon-H1: both in a layer": falcon_h1,
    "LFM2: convolutions": lfm2,
    "MiMo-V2: two kinds of head": mimo,
    "Inkling: two kinds of head": inkling,
    "Mamba": mamba,
    "BERT that writes": lambda: tf.BertLMHeadModel(tf.BertConfig(**PLAIN, is_decoder=True)),
}


def kept(cache: object) -> Iterator[torch.Tensor]:
    """Every tensor of keys and values that transformers holds."""
    parts = (
        [cache.self_attention_cache, cache.cross_attention_cache]
        if isinstance(cache, tf.EncoderDecoderCache)
        else [cache]
    )
    for layer in (layer for part in parts for layer in part.layers):
        yield from (
            tensor for name in ("keys", "values") if isinstance(tensor := getattr(layer, name, None), torch.Tensor)
        )


def measured(cache: object) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in kept(cache))


def read(model: tf.PreTrainedModel, batch: int, lengths: list[int]) -> Iterator[tuple[int, object]]:
    """(tokens so far, cache) after a prefill of lengths[0] tokens, and after every single one up to lengths[-1]."""
    ids = torch.randint(3, VOCABULARY, (batch, lengths[-1]), generator=torch.Generator().manual_seed(0))
    twofold = model.config.is_encoder_decoder
    name = "decoder_input_ids" if twofold else "input_ids"
    also = {"input_ids": torch.full((batch, ENCODER_TOKENS), 5)} if twofold else {}
    cache, done = None, 0
    with torch.no_grad():
        for until in range(lengths[0], lengths[-1] + 1):
            past = {} if cache is None else {"past_key_values": cache}
            output = model(**{name: ids[:, done:until]}, **also, **past, use_cache=True)
            if twofold:
                also = {"encoder_outputs": BaseModelOutput(last_hidden_state=output.encoder_last_hidden_state)}
            cache, done = output.get("past_key_values", output.get("cache_params")), until
            yield until, cache


@pytest.mark.parametrize("name", MODELS)
def test_the_bytes_are_those_of_the_real_cache(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    model.set_experts_implementation("eager")  # torch's grouped product wants widths of 16 bytes
    for dtype, batch in ((torch.float32, 1), (torch.bfloat16, 3)):
        model.to(dtype)
        for length in LENGTHS if batch == 1 else LENGTHS[-2:]:
            for tokens, cache in read(model, batch, [length, length + 2]):
                expected = measured(cache)
                assert (expected > 0) == (name != "Mamba")
                assert cache_bytes(model.config, tokens, dtype, batch, ENCODER_TOKENS) == expected, (tokens, batch)


def test_a_window_is_counted_by_shape_not_by_storage():
    """After a prefill the seven rows are a view of all: what the shape says is what the next step needs."""
    _, cache = next(read(mistral(8)(), 1, [50, 50]))
    keys = cache.layers[0].keys
    assert keys.shape[-2] == 7 and keys.untyped_storage().nbytes() == 50 * keys.nbytes // 7


def test_words_in_an_old_file_make_no_encoder():
    config = tf.OPTConfig(is_decoder=False, add_cross_attention=False)
    assert cache_bytes(config, 10) == cache_bytes(tf.OPTConfig(), 10) > 0


@pytest.mark.parametrize(
    "config", [tf.BertConfig(), tf.ModernBertConfig(), tf.DistilBertConfig(), tf.ViTConfig(), tf.DebertaV2Config()]
)
def test_an_encoder_gets_a_sentence(config):
    with pytest.raises(HeadlightError, match="keeps no keys and values: choose a decoder"):
        cache_bytes(config)


def test_numbers_that_cannot_be():
    for ask in (lambda c: cache_bytes(c, -1), lambda c: cache_bytes(c, batch=0), lambda c: as_attention(c, "MLP")):
        with pytest.raises(HeadlightError):
            ask(tf.GPT2Config())


def test_the_small_model(small):
    """Our own Transformer, through its own cache."""
    ids = torch.full((1, 9), 5)
    with torch.no_grad():
        cache = small.model(input_ids=ids, use_cache=True).past_key_values
    assert cache_bytes(small.model.config, 9) == measured(cache) > 0


def test_defaults_and_a_cross_cache_that_does_not_grow():
    config = ARCHITECTURES["BART"].build().config  # 3 layers of 5 heads of 12
    assert cache_bytes(config, 10) == cache_bytes(config, 10, encoder_tokens=10)
    per_token = 2 * 3 * 5 * 12 * 4
    assert cache_bytes(config, 10, encoder_tokens=7) == 17 * per_token
    assert cache_bytes(config, 11, encoder_tokens=7) == 18 * per_token


# ── the report ──────────────────────────────────────────────────────────────────────────────────────────────────────


def computed(equation: str) -> float:
    """Both sides of an equation in words, the left computed; they must agree."""
    left, right = (re.sub(r"[A-Za-z'-]+|,(?=[0-9])", " ", side) for side in equation.rsplit("=", 1))
    joined = re.sub(r"(?<=[0-9]) +(?=[0-9]{3}\b)", "", left), re.sub(r"(?<=[0-9]) +(?=[0-9])", "", right)
    value = eval(joined[0].replace("×", "*"), {"__builtins__": {}})
    assert value == float(joined[1]), equation
    return value


REPORTED = [tf.LlamaConfig(**LLAMA), tf.DeepseekV3Config(), tf.Gemma3TextConfig(), tf.T5Config(), tf.JambaConfig()]


@pytest.mark.parametrize("config", REPORTED, ids=lambda config: config.model_type)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_equation_gives_the_bytes(config, batch):
    report = cache_report(config, 5000, batch=batch, encoder_tokens=1234)
    assert report.bytes[32] == cache_bytes(config, 5000, torch.float32, batch, 1234)
    assert report.bytes[16] == cache_bytes(config, 5000, torch.bfloat16, batch, 1234)
    for bits in (32, 16, 8, 4):
        assert computed(report.equations[bits]) == report.bytes[bits] == report.numbers * bits // 8
    assert sum(report.layer_bytes(16)) == report.bytes[16]


def test_an_equation_as_it_is_read():
    equation = cache_report(BY_NAME["SmolLM2 135M"].config(), 128).equations[32]
    assert equation == "2 × 30 layers × 3 key-value heads × 64 × 128 tokens × 4 bytes = 5,898,240 bytes"


def test_papers_that_keep_other_rows():
    config = BY_NAME["Mistral 7B v0.1"].config()  # 32 layers, 8 heads of 128, a window of 4,096
    row = 2 * 32 * 8 * 128
    short, exact, long = (cache_report(config, tokens) for tokens in (4095, 4096, 9000))
    assert (short.numbers, short.paper_numbers, short.differences) == (4095 * row, 4095 * row, ())
    assert (exact.numbers, exact.paper_numbers) == (4095 * row, 4096 * row)
    assert (long.numbers, long.paper_bytes[8]) == (4095 * row, 4096 * row)
    assert "window of 4,096" in long.differences[0]
    falcon40 = tf.FalconConfig(new_decoder_architecture=True, num_kv_heads=8, num_attention_heads=128, hidden_size=8192)
    report = cache_report(falcon40, 10)
    assert report.numbers == 16 * report.paper_numbers and "8 key-value heads" in report.differences[0]


def test_layers_without_keys_are_named():
    report = cache_report(ARCHITECTURES["MiniMax: linear attention between"].build().config, 10)
    assert [layer.kind for layer in report.layers] == ["none", "full", "none", "full"]
    assert report.silent[0].startswith("Layers 0, 2: linear attention")
    (line,) = cache_report(jamba().config, 10).silent
    assert line.startswith("Layers 0, 2: a state space")
    assert cache_report(gemma3n().config, 10).silent == ("Layers 4, 5: reads the rows of an earlier layer",)


def test_one_model_as_four_kinds_of_attention():
    """By hand, elements a token and layer: 128 heads of 128 + 64 and 128; DeepSeek-V2, table 1, counts likewise."""
    deepseek = BY_NAME["DeepSeek V3"].config()
    found = [as_attention(deepseek, kind, 100, bits=8) for kind in ATTENTIONS]
    assert found == [61 * 100 * 128 * (192 + 128), None, 61 * 100 * (192 + 128), 61 * 100 * (512 + 64)]
    llama = BY_NAME["Llama 3.1 8B"].config()
    found = [as_attention(llama, kind, 100, bits=4, batch=3) for kind in ATTENTIONS]
    assert found == [3 * 32 * 100 * 256 * heads // 2 for heads in (32, 8, 1)] + [None]
    assert as_attention(BY_NAME["GPT-2 small"].config(), "GQA") is None
    assert as_attention(mamba().config, "MHA") is None


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_a_model_is_one_of_its_kinds(known: KnownModel):
    config = known.config()
    assert cache_bytes(config, 300, torch.bfloat16) in [as_attention(config, kind, 300, bits=16) for kind in ATTENTIONS]


# ── well-known models ───────────────────────────────────────────────────────────────────────────────────────────────


def test_bytes_a_token_as_published():
    """DeepSeek-AI 2025, arXiv 2505.09343, table 1: KV cache a token, BF16."""
    assert cache_bytes(BY_NAME["DeepSeek V3"].config(), 1, torch.bfloat16) == 70_272
    assert cache_bytes(BY_NAME["Llama 3.1 405B"].config(), 1, torch.bfloat16) == 516_096


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_sizes_give_the_published_number_of_parameters(known: KnownModel):
    counts = parameter_counts(known.config())
    assert counts.total == pytest.approx(known.parameters, rel=0.04)  # they are published with two or three digits
    assert (counts.experts > 0) == (known.active is not None)
    if known.active:
        assert counts.active == pytest.approx(known.active, rel=0.03)


@pytest.mark.parametrize("name", ["Llama 2 7B", "Mistral 7B v0.1", "Gemma 3 1B", "Falcon 7B"])
def test_the_bytes_of_full_size_models(name):
    """The real architecture at its real size, on torch's meta device: shapes without numbers."""
    tokens, config = 4200, BY_NAME[name].config()
    with torch.device("meta"), torch.no_grad():
        model = tf.AutoModelForCausalLM.from_config(config).eval()
        cache = model(torch.zeros(1, tokens, dtype=torch.long), logits_to_keep=1, use_cache=True).past_key_values
    assert cache_bytes(config, tokens) == measured(cache)


# ── roofline ────────────────────────────────────────────────────────────────────────────────────────────────────────


def roofs(known: str, **asked: int) -> object:
    return roofline(BY_NAME[known].config(), device=H100, **{"tokens": 2048, "batch": 1} | asked)


@pytest.mark.parametrize("name", ["Llama: grouped", "Qwen 3: grouped, norms per head", "Gemma 2: soft cap", "Mixtral"])
def test_operations_are_those_that_torch_counts(name):
    """One decode step of a real model; torch counts matrix products alone, so no norms and no biases."""
    torch.manual_seed(0)
    known = "Mixtral: mixture of experts" if name == "Mixtral" else name
    model = ARCHITECTURES[known].build().eval()
    model.set_attn_implementation("eager")
    model.set_experts_implementation("eager")
    tokens, batch = 5, 3  # shorter than any window
    _, cache = next(read(model, batch, [tokens, tokens]))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.full((batch, 1), 7), past_key_values=cache, use_cache=True)
    vectors = sum(weight.numel() for weight in model.parameters() if weight.ndim == 1)
    expected = roofline(model.config, tokens + 1, batch, H100).operations  # the step attends to its own row too
    assert counter.get_total_flops() == expected - batch * 2 * vectors


def test_a_step_by_hand():
    """Llama 3.1 8B, 8-bit weights, 16-bit cache, 4 sequences of 1,000 tokens."""
    known = BY_NAME["Llama 3.1 8B"]
    found = roofline(known.config(), 1000, 4, H100, weight_bits=8, cache_bits=16)
    weights = 8_030_261_248 - 128_256 * 4096  # the embedding table is only looked up
    cache, attention = 2 * 32 * 8 * 128 * 1000 * 2, 4 * 32 * 32 * 128 * 1000
    assert (found.weight_bytes, found.cache_bytes) == (weights, 4 * cache)
    assert found.operations == 4 * (2 * weights + attention)
    assert found.intensity == pytest.approx(found.operations / (weights + 4 * cache))
    assert found.seconds == pytest.approx((weights + 4 * cache) / 3350e9) and found.bound == "memory"
    assert found.needed_bytes == 8_030_261_248 + 4 * cache and found.fits
    assert f"{found.intensity:,.2f} operations a byte" in found.equations[2]


def test_a_step_on_compressed_rows_by_hand():
    """DeepSeek V3: 61 layers of 128 heads; scores against 512 + 64 numbers of a row, the sum over its 512."""
    counts = parameter_counts(BY_NAME["DeepSeek V3"].config())
    attention = 61 * 128 * 1000 * 2 * ((512 + 64) + 512)
    assert roofs("DeepSeek V3", tokens=1000).operations == 2 * counts.active + attention


def test_where_the_bound_changes():
    """Without a cache intensity is the batch itself (16 bits): the ridge of 989.4 / 3.35 = 295.3 is passed at 296."""
    assert roofs("Llama 3.1 8B", tokens=0).changes_at == 296
    assert roofs("Llama 3.1 8B", tokens=0, weight_bits=4).changes_at == 74
    assert roofs("GPT-2 small", tokens=1024).changes_at is None  # its cache alone has less than one operation a byte
    for known, tokens in (("DeepSeek V3", 1000), ("gpt-oss 120b", 100), ("Gemma 3 27B", 64)):
        at = roofs(known, tokens=tokens).changes_at
        bounds = [roofs(known, tokens=tokens, batch=batch).bound for batch in (1, at - 1, at, 2 * at)]
        assert bounds == ["memory", "memory", "compute", "compute"]


def test_experts_are_read_as_they_are_chosen():
    """Two of eight experts: one token reads a quarter, two tokens 1 − 0.75², very many all of them."""
    counts = parameter_counts(BY_NAME["Mixtral 8x7B"].config())
    read = [(counts.read(batch) - counts.dense) / counts.experts for batch in (1, 2, 10_000)]
    assert read == pytest.approx([0.25, 0.4375, 1.0])


def test_an_encoder_is_not_read_again():
    model = ARCHITECTURES["T5: relative positions"].build()
    counts = parameter_counts(model.config)
    own = {id(weight): weight.numel() for weight in [*model.decoder.parameters(), *model.lm_head.parameters()]}
    tables = model.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.numel()
    assert counts.total == sum(weight.numel() for weight in model.parameters())
    assert counts.dense == sum(own.values()) - tables


def test_what_has_no_roof():
    with pytest.raises(HeadlightError, match="is not published"):
        roofline(tf.GPT2Config(), 10, 1, DEVICES[0])
    with pytest.raises(HeadlightError, match="batch of 1 or more"):
        roofline(tf.GPT2Config(), 10, 0, H100)
    assert not roofs("Llama 3.1 405B").fits
