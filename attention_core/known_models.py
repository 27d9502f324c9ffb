"""Well-known models as sizes alone: what cache and roofline need, without a weight, each with its public source.

`parameters` are as their makers publish them; roofline.parameter_counts() counts the same from the config. Knows
nothing about caches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, PreTrainedConfig


@dataclass(frozen=True)
class KnownModel:
    """A model's name and sizes. `settings` are transformers' own names, `model_type` among them."""

    name: str
    year: int
    parameters: float  # as published
    context: int  # tokens
    source: str
    settings: Mapping[str, Any]
    active: float | None = None  # parameters that one token uses, as published, where experts are chosen

    def config(self) -> PreTrainedConfig:
        return AutoConfig.for_model(**self.settings)


SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")


def _sizes(model_type: str, vocabulary: int, *sizes: int) -> dict[str, Any]:
    """`sizes` in the order of SIZES."""
    return {"model_type": model_type, "vocab_size": vocabulary, **dict(zip(SIZES, sizes, strict=True))}


def _gpt2(layers: int, hidden: int, heads: int) -> dict[str, Any]:
    return {"model_type": "gpt2", "n_layer": layers, "n_embd": hidden, "n_head": heads, "vocab_size": 50257}


GPT2 = "Radford et al. 2019, table 2; github.com/openai/gpt-2"
LLAMA2 = "Touvron et al. 2023, arXiv 2307.09288; huggingface.co/meta-llama/Llama-2-7b-hf"
LLAMA3 = "Grattafiori et al. 2024, arXiv 2407.21783, table 3; github.com/meta-llama/llama-models, models/sku_list.py"
QWEN3 = "Yang et al. 2025, arXiv 2505.09388, tables 1 and 2; config.json at huggingface.co/Qwen"
GEMMA3 = "Gemma Team 2025, arXiv 2503.19786, table 1; github.com/google-deepmind/gemma, gemma/gm/nn/_gemma.py"
MISTRAL = "Jiang et al. 2023, arXiv 2310.06825, table 1"
MIXTRAL = "Jiang et al. 2024, arXiv 2401.04088, table 1"
DEEPSEEK = "DeepSeek-AI 2024, arXiv 2412.19437, section 4.2; github.com/deepseek-ai/DeepSeek-V3, config_671B.json"
GPT_OSS = (
    "OpenAI 2025, gpt-oss model card, arXiv 2508.10925, table 1; github.com/openai/gpt-oss, gpt_oss/torch/model.py"
)
SMOLLM2 = "Ben Allal et al. 2025, arXiv 2502.02737; huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct"
PHI3 = "Abdin et al. 2024, arXiv 2404.14219; huggingface.co/microsoft/Phi-3-mini-128k-instruct"
FALCON = "Almazrouei et al. 2023, arXiv 2311.16867; huggingface.co/tiiuae/falcon-7b"

_HEAD_128, _TIED = {"head_dim": 128}, {"tie_word_embeddings": True}
_DEEPSEEK = {
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "moe_intermediate_size": 2048,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}
_QWEN3_EXPERTS = {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536, **_HEAD_128}


def _gpt_oss(layers: int, experts: int) -> dict[str, Any]:
    """Every other layer, the first among them, looks 128 tokens back."""
    experts_of = {"num_local_experts": experts, "num_experts_per_tok": 4}
    return _sizes("gpt_oss", 201_088, layers, 2880, 2880, 64, 8) | experts_of | {"head_dim": 64, "sliding_window": 128}


def _gemma3(*sizes: int, head_dim: int, window: int) -> dict[str, Any]:
    """Five layers look back so far, the sixth everywhere."""
    layers = ["full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(sizes[0])]
    sized = _sizes("gemma3_text", 262_144, *sizes)
    return sized | {"head_dim": head_dim, "sliding_window": window, "layer_types": layers}


def _llama(vocabulary: int, *sizes: int) -> dict[str, Any]:
    return _sizes("llama", vocabulary, *sizes)


def _qwen3(*sizes: int) -> dict[str, Any]:
    return _sizes("qwen3", 151_936, *sizes) | _HEAD_128


LONG = 131_072
KNOWN: tuple[KnownModel, ...] = (
    KnownModel("GPT-2 small", 2019, 124e6, 1024, GPT2, _gpt2(12, 768, 12)),
    KnownModel("GPT-2 XL", 2019, 1.5e9, 1024, GPT2, _gpt2(48, 1600, 25)),
    KnownModel("SmolLM2 135M", 2024, 135e6, 8192, SMOLLM2, _llama(49_152, 30, 576, 1536, 9, 3) | _TIED),
    KnownModel("Llama 2 7B", 2023, 6.7e9, 4096, LLAMA2, _llama(32_000, 32, 4096, 11_008, 32, 32)),
    KnownModel("Llama 3.1 8B", 2024, 8.0e9, LONG, LLAMA3, _llama(128_256, 32, 4096, 14_336, 32, 8)),
    KnownModel("Llama 3.1 70B", 2024, 70.6e9, LONG, LLAMA3, _llama(128_256, 80, 8192, 28_672, 64, 8)),
    KnownModel("Llama 3.1 405B", 2024, 405e9, LONG, LLAMA3, _llama(128_256, 126, 16_384, 53_248, 128, 8)),
    KnownModel("Qwen 3 0.6B", 2025, 0.6e9, 40_960, QWEN3, _qwen3(28, 1024, 3072, 16, 8) | _TIED),
    KnownModel("Qwen 3 8B", 2025, 8.2e9, 40_960, QWEN3, _qwen3(36, 4096, 12_288, 32, 8)),
    KnownModel("Qwen 3 32B", 2025, 32.8e9, 40_960, QWEN3, _qwen3(64, 5120, 25_600, 64, 8)),
    KnownModel(
        "Qwen 3 235B-A22B",
        2025,
        235e9,
        40_960,
        QWEN3,
        _sizes("qwen3_moe", 151_936, 94, 4096, 12_288, 64, 4) | _QWEN3_EXPERTS,
        active=22e9,
    ),
    KnownModel("Gemma 3 1B", 2025, 1.0e9, 32_768, GEMMA3, _gemma3(26, 1152, 6912, 4, 1, head_dim=256, window=512)),
    KnownModel("Gemma 3 27B", 2025, 27e9, LONG, GEMMA3, _gemma3(62, 5376, 21_504, 32, 16, head_dim=128, window=1024)),
    KnownModel(
        "Mistral 7B v0.1",
        2023,
        7.2e9,
        8192,
        MISTRAL,
        _sizes("mistral", 32_000, 32, 4096, 14_336, 32, 8) | {"sliding_window": 4096},
    ),
    KnownModel(
        "Mixtral 8x7B",
        2023,
        46.7e9,
        32_768,
        MIXTRAL,
        _sizes("mixtral", 32_000, 32, 4096, 14_336, 32, 8) | {"num_local_experts": 8, "num_experts_per_tok": 2},
        active=12.9e9,
    ),
    KnownModel(
        "DeepSeek V3",
        2024,
        671e9,
        LONG,
        DEEPSEEK,
        _sizes("deepseek_v3", 129_280, 61, 7168, 18_432, 128, 128) | _DEEPSEEK,
        active=37e9,
    ),
    KnownModel("gpt-oss 20b", 2025, 20.9e9, LONG, GPT_OSS, _gpt_oss(24, 32), active=3.6e9),
    KnownModel("gpt-oss 120b", 2025, 116.8e9, LONG, GPT_OSS, _gpt_oss(36, 128), active=5.1e9),
    KnownModel(
        "Phi-3 mini 128k",
        2024,
        3.8e9,
        LONG,
        PHI3,
        _sizes("phi3", 32_064, 32, 3072, 8192, 32, 32) | {"sliding_window": 262_144},
    ),
    KnownModel(
        "Falcon 7B",
        2023,
        7e9,
        2048,
        FALCON,
        {
            "model_type": "falcon",
            "num_hidden_layers": 32,
            "hidden_size": 4544,
            "num_attention_heads": 71,
            "vocab_size": 65_024,
            "multi_query": True,
            "new_decoder_architecture": False,
        },
    ),
)
