"""Tiny random models of many architectures, chosen to differ, with what is true of each written down by hand.

Sizes are odd and different (5 heads, head_dim 6, 3 layers …), so that a swapped axis cannot pass.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers as tf
from transformers import PreTrainedModel

from tests.sizes import BERT, IDS, LLAMA, MIXTURE, OF_SEQ2SEQ, PLAIN, ROPE, SEQ2SEQ, VOCABULARY

TOKENS, TARGET_TOKENS = 23, 11
Sizes = tuple[int, int, int, int]  # heads, key-value heads, head_dim of query and key, head_dim of value


@dataclass(frozen=True)
class Architecture:
    """How to make one, and what a capture of it has to look like."""

    build: Callable[[], PreTrainedModel]
    order: list[tuple[str, int]]  # kind and layer number of every attention call, in the model's order
    sizes: dict[str, Sizes]  # by kind
    std: float = 0.3  # of its random matrices: sharp attention, yet scores under about 25, where float32 resolves 1e-6
    window: Callable[[str, int], int | None] = lambda kind, layer: (
        None
    )  # a decoder sees that many keys, an encoder so far around
    served_by_sdpa: bool = True  # torch's sdpa runs it and agrees with its eager attention
    learned_sink: bool = False
    weights_from_call: int | None = None  # of two calls in a layer, the one whose weights the model returns
    out_projection: str = ""  # name of the module that reads the blended values, where a test looks at them

    def model(self) -> PreTrainedModel:
        torch.manual_seed(0)
        model = self.build().eval()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1 or "sinks" in _name(model, parameter):
                    parameter.normal_(std=self.std, generator=generator)
        return model

    def inputs(self, model: PreTrainedModel) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(2)
        ids = torch.randint(3, VOCABULARY, (1, TOKENS), generator=generator)
        target = torch.randint(3, VOCABULARY, (1, TARGET_TOKENS), generator=generator)
        return (
            {"input_ids": ids, "decoder_input_ids": target} if model.config.is_encoder_decoder else {"input_ids": ids}
        )


def _name(model: PreTrainedModel, parameter: torch.nn.Parameter) -> str:
    return next(name for name, other in model.named_parameters() if other is parameter)


def decoder(layers: int) -> list[tuple[str, int]]:
    return [("decoder", layer) for layer in range(layers)]


def encoder(layers: int) -> list[tuple[str, int]]:
    return [("encoder", layer) for layer in range(layers)]


def encoder_decoder(encoders: int, decoders: int) -> list[tuple[str, int]]:
    return encoder(encoders) + [(kind, layer) for layer in range(decoders) for kind in ("decoder", "cross")]


def of_decoder(*sizes: int) -> dict[str, Sizes]:
    return {"decoder": sizes}


def of_encoder(*sizes: int) -> dict[str, Sizes]:
    return {"encoder": sizes}


def _deepseek() -> PreTrainedModel:
    config = tf.DeepseekV3Config(
        **ROPE | {"num_key_value_heads": 6},
        q_lora_rank=18,
        kv_lora_rank=14,
        qk_rope_head_dim=4,
        qk_nope_head_dim=6,
        v_head_dim=7,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        moe_intermediate_size=24,
        first_k_dense_replace=1,
    )
    return tf.DeepseekV3ForCausalLM(config)


def _t5(**more: object) -> PreTrainedModel:
    sizes = {"d_model": 40, "d_kv": 6, "d_ff": 56, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 5}
    return tf.T5ForConditionalGeneration(tf.T5Config(**IDS | sizes, decoder_start_token_id=0, **more))


def _t5gemma() -> PreTrainedModel:
    part = LLAMA | {"query_pre_attn_scalar": 10, "sliding_window": 7}
    config = tf.T5GemmaConfig(
        encoder=tf.T5GemmaModuleConfig(**part | {"num_hidden_layers": 2}),
        decoder=tf.T5GemmaModuleConfig(**part | {"num_hidden_layers": 2}),
        vocab_size=VOCABULARY,
    )
    return tf.T5GemmaForConditionalGeneration(config)


ARCHITECTURES: dict[str, Architecture] = {
    # ── multi-head ──────────────────────────────────────────────────────────────────────────────────────────────────
    "GPT-2: learned positions": Architecture(
        lambda: tf.GPT2LMHeadModel(tf.GPT2Config(**IDS, n_embd=40, n_layer=3, n_head=5, n_positions=320)),
        decoder(3),
        of_decoder(5, 5, 8, 8),
        out_projection="transformer.h.{}.attn.c_proj",
    ),
    "OPT: positions from an offset": Architecture(
        lambda: tf.OPTForCausalLM(tf.OPTConfig(**PLAIN, ffn_dim=56, word_embed_proj_dim=40)),
        decoder(3),
        of_decoder(5, 5, 8, 8),
    ),
    "GPT-NeoX: parallel blocks, quarter RoPE": Architecture(
        lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**PLAIN)), decoder(3), of_decoder(5, 5, 8, 8)
    ),
    "OLMo 2: norms on queries and keys": Architecture(
        lambda: tf.Olmo2ForCausalLM(tf.Olmo2Config(**ROPE)),
        decoder(3),
        of_decoder(6, 2, 6, 6),
    ),
    # ── grouped and multi-query ─────────────────────────────────────────────────────────────────────────────────────
    "Llama: grouped": Architecture(
        lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA)),
        decoder(3),
        of_decoder(6, 2, 10, 10),
        out_projection="model.layers.{}.self_attn.o_proj",
    ),
    "Llama: one key-value head": Architecture(
        lambda: tf.LlamaForCausalLM(
            tf.LlamaConfig(**LLAMA | {"hidden_size": 40, "num_attention_heads": 5, "num_key_value_heads": 1})
        ),
        decoder(3),
        of_decoder(5, 1, 10, 10),
    ),
    "Qwen 3: grouped, norms per head": Architecture(
        lambda: tf.Qwen3ForCausalLM(tf.Qwen3Config(**LLAMA)), decoder(3), of_decoder(6, 2, 10, 10)
    ),
    "GPT-BigCode: multi-query": Architecture(
        lambda: tf.GPTBigCodeForCausalLM(
            tf.GPTBigCodeConfig(**IDS, n_embd=40, n_layer=2, n_head=5, n_positions=320, multi_query=True)
        ),
        decoder(2),
        of_decoder(5, 1, 8, 8),
    ),
    # ── latent ──────────────────────────────────────────────────────────────────────────────────────────────────────
    "DeepSeek-V3: latent, values of another size": Architecture(
        _deepseek, decoder(3), of_decoder(6, 6, 10, 7), out_projection="model.layers.{}.self_attn.o_proj"
    ),
    # ── RoPE on a part of head_dim ──────────────────────────────────────────────────────────────────────────────────
    "Phi: half RoPE": Architecture(
        lambda: tf.PhiForCausalLM(tf.PhiConfig(**ROPE | {"hidden_size": 48}, partial_rotary_factor=0.5)),
        decoder(3),
        of_decoder(6, 2, 8, 8),
    ),
    "StableLM: quarter RoPE": Architecture(
        lambda: tf.StableLmForCausalLM(tf.StableLmConfig(**ROPE | {"hidden_size": 48})),
        decoder(3),
        of_decoder(6, 2, 8, 8),
    ),
    # ── windows, caps, sinks ────────────────────────────────────────────────────────────────────────────────────────
    "Mistral: sliding window": Architecture(
        lambda: tf.MistralForCausalLM(tf.MistralConfig(**LLAMA, sliding_window=7)),
        decoder(3),
        of_decoder(6, 2, 10, 10),
        window=lambda kind, layer: 7,
    ),
    "Gemma 3: local and global layers": Architecture(
        lambda: tf.Gemma3ForCausalLM(
            tf.Gemma3TextConfig(
                **LLAMA | {"num_hidden_layers": 4},
                sliding_window=6,
                layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
                query_pre_attn_scalar=10,
            )
        ),
        decoder(4),
        of_decoder(6, 2, 10, 10),
        window=lambda kind, layer: None if layer % 2 else 6,
    ),
    "Cohere 2: local layers, global ones without RoPE": Architecture(
        lambda: tf.Cohere2ForCausalLM(
            tf.Cohere2Config(
                **LLAMA,
                sliding_window=6,
                layer_types=["sliding_attention", "sliding_attention", "full_attention"],
            )
        ),
        decoder(3),
        of_decoder(6, 2, 10, 10),
        window=lambda kind, layer: None if layer == 2 else 6,
    ),
    "Gemma 2: soft cap": Architecture(
        lambda: tf.Gemma2ForCausalLM(
            tf.Gemma2Config(
                **LLAMA,
                sliding_window=7,
                layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                attn_logit_softcapping=3.0,
                query_pre_attn_scalar=10,
            )
        ),
        decoder(3),
        of_decoder(6, 2, 10, 10),
        window=lambda kind, layer: 7 if layer % 2 == 0 else None,
        served_by_sdpa=False,
        out_projection="model.layers.{}.self_attn.o_proj",
    ),
    "gpt-oss: learned sinks": Architecture(
        lambda: tf.GptOssForCausalLM(
            tf.GptOssConfig(
                **LLAMA,
                **MIXTURE,
                sliding_window=7,
                layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            )
        ),
        decoder(3),
        of_decoder(6, 2, 10, 10),
        window=lambda kind, layer: 7 if layer % 2 == 0 else None,
        served_by_sdpa=False,
        learned_sink=True,
        out_projection="model.layers.{}.self_attn.o_proj",
    ),
    # ── odd ways through the interface ──────────────────────────────────────────────────────────────────────────────
    "DiffLlama: attention twice in a layer": Architecture(
        lambda: tf.DiffLlamaForCausalLM(tf.DiffLlamaConfig(**LLAMA | {"hidden_size": 40, "num_attention_heads": 4})),
        [("decoder", layer) for layer in range(3) for _ in range(2)],
        of_decoder(4, 2, 10, 10),
        weights_from_call=0,
    ),
    "Mixtral: mixture of experts": Architecture(
        lambda: tf.MixtralForCausalLM(tf.MixtralConfig(**LLAMA, **MIXTURE)), decoder(3), of_decoder(6, 2, 10, 10)
    ),
    "MiniMax: linear attention between": Architecture(
        lambda: tf.MiniMaxForCausalLM(
            tf.MiniMaxConfig(
                **LLAMA | {"num_hidden_layers": 4},
                **MIXTURE,
                layer_types=["linear_attention", "full_attention", "linear_attention", "full_attention"],
            )
        ),
        [("decoder", 1), ("decoder", 3)],
        of_decoder(6, 2, 10, 10),
    ),
    # ── encoders ────────────────────────────────────────────────────────────────────────────────────────────────────
    "BERT": Architecture(
        lambda: tf.BertModel(tf.BertConfig(**BERT)),
        encoder(2),
        of_encoder(5, 5, 8, 8),
        out_projection="encoder.layer.{}.attention.output.dense",
    ),
    "RoBERTa": Architecture(
        lambda: tf.RobertaForMaskedLM(tf.RobertaConfig(**BERT)), encoder(2), of_encoder(5, 5, 8, 8)
    ),
    "DistilBERT": Architecture(
        lambda: tf.DistilBertForMaskedLM(
            tf.DistilBertConfig(vocab_size=VOCABULARY, dim=40, n_layers=3, n_heads=5, hidden_dim=56, pad_token_id=0)
        ),
        encoder(3),
        of_encoder(5, 5, 8, 8),
    ),
    "ALBERT: all layers share their weights": Architecture(
        lambda: tf.AlbertModel(tf.AlbertConfig(**PLAIN, embedding_size=14)), encoder(3), of_encoder(5, 5, 8, 8)
    ),
    "Splinter": Architecture(
        lambda: tf.SplinterModel(tf.SplinterConfig(**{k: v for k, v in BERT.items() if "os_" not in k})),
        encoder(2),
        of_encoder(5, 5, 8, 8),
        served_by_sdpa=False,
    ),
    "ModernBERT: local and global layers": Architecture(
        lambda: tf.ModernBertForMaskedLM(
            tf.ModernBertConfig(
                **PLAIN, local_attention=8, global_attn_every_n_layers=3, cls_token_id=1, sep_token_id=2
            )
        ),
        encoder(3),
        of_encoder(5, 5, 8, 8),
        window=lambda kind, layer: None if layer % 3 == 0 else 4,  # half of local_attention
    ),
    # ── encoder-decoders ────────────────────────────────────────────────────────────────────────────────────────────
    "T5: relative positions": Architecture(
        _t5,
        encoder_decoder(2, 3),
        {kind: (5, 5, 6, 6) for kind in ("encoder", "decoder", "cross")},
        std=0.2,  # it does not divide the scores by √head_dim
        out_projection="decoder.block.{}.layer.1.EncDecAttention.o",
    ),
    "BART": Architecture(
        lambda: tf.BartForConditionalGeneration(tf.BartConfig(**SEQ2SEQ)),
        encoder_decoder(2, 3),
        OF_SEQ2SEQ,
        std=0.2,
        out_projection="model.decoder.layers.{}.encoder_attn.out_proj",
    ),
    "Marian: sinusoids": Architecture(
        lambda: tf.MarianMTModel(tf.MarianConfig(**SEQ2SEQ, scale_embedding=True)),
        encoder_decoder(2, 3),
        OF_SEQ2SEQ,
        std=0.2,
    ),
    "Pegasus": Architecture(
        lambda: tf.PegasusForConditionalGeneration(tf.PegasusConfig(**SEQ2SEQ)),
        encoder_decoder(2, 3),
        OF_SEQ2SEQ,
        std=0.2,
    ),
    "T5Gemma: soft cap on both sides": Architecture(
        _t5gemma,
        encoder_decoder(2, 2),
        {kind: (6, 2, 10, 10) for kind in ("encoder", "decoder", "cross")},
        window=lambda kind, layer: 7 if layer % 2 == 0 and kind != "cross" else None,
        served_by_sdpa=False,
    ),
}


def make(name: str) -> PreTrainedModel:
    return ARCHITECTURES[name].model()


def some_ids(tokens: int, seed: int = 0) -> torch.Tensor:
    """(1, tokens) ordinary tokens."""
    return torch.randint(3, VOCABULARY, (1, tokens), generator=torch.Generator().manual_seed(seed))


def with_eager(model: PreTrainedModel) -> PreTrainedModel:
    """A copy that computes its attention by itself, in transformers' eager way."""
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("eager")
    return twin
