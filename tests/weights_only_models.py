"""Tiny random models that hand out their attention weights and nothing else, and models that cannot be shown at all."""

from collections.abc import Callable

import transformers as tf
from transformers import PreTrainedModel

from tests.architectures import Architecture, decoder, encoder
from tests.sizes import BERT, IDS, SEQ2SEQ, VOCABULARY

GPT = IDS | {"n_embd": 40, "n_layer": 3, "n_head": 5, "n_positions": 640}
DEBERTA = BERT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
FALCON = IDS | {"hidden_size": 40, "num_hidden_layers": 3, "num_attention_heads": 5, "multi_query": True}
EAGER = {"attn_implementation": "eager"}  # Falcon's modules keep what they were made with
SMALL = {"hidden_size": 40, "num_hidden_layers": 2}


def _gpt_neo() -> PreTrainedModel:
    config = tf.GPTNeoConfig(
        **IDS,
        hidden_size=40,
        num_layers=2,
        num_heads=5,
        attention_types=[[["global", "local"], 1]],
        window_size=6,
        max_position_embeddings=320,
    )
    return tf.GPTNeoForCausalLM(config)


def _xglm() -> PreTrainedModel:
    sizes = {"d_model": 40, "ffn_dim": 56, "num_layers": 3, "attention_heads": 5, "max_position_embeddings": 320}
    return tf.XGLMForCausalLM(tf.XGLMConfig(**IDS, **sizes))


def _of(build: Callable[[], PreTrainedModel], order: list[tuple[str, int]], std: float = 0.2) -> Architecture:
    return Architecture(build, order, {}, std=std)


WEIGHTS_ONLY: dict[str, Architecture] = {
    "Bloom: ALiBi": _of(
        lambda: tf.BloomForCausalLM(tf.BloomConfig(**IDS, hidden_size=40, n_layer=3, n_head=5)), decoder(3)
    ),
    "MPT: ALiBi": _of(
        lambda: tf.MptForCausalLM(
            tf.MptConfig(vocab_size=VOCABULARY, d_model=40, n_heads=5, n_layers=3, max_seq_len=320)
        ),
        decoder(3),
    ),
    "Falcon: ALiBi": _of(lambda: tf.FalconForCausalLM(tf.FalconConfig(**FALCON, **EAGER, alibi=True)), decoder(3)),
    "Falcon: RoPE": _of(lambda: tf.FalconForCausalLM(tf.FalconConfig(**FALCON, **EAGER, alibi=False)), decoder(3)),
    "GPT-J": _of(lambda: tf.GPTJForCausalLM(tf.GPTJConfig(**GPT, rotary_dim=4)), decoder(3)),
    "CodeGen": _of(
        lambda: tf.CodeGenForCausalLM(tf.CodeGenConfig(**GPT | {"n_embd": 64, "n_head": 4}, rotary_dim=4)), decoder(3)
    ),
    "GPT": _of(lambda: tf.OpenAIGPTLMHeadModel(tf.OpenAIGPTConfig(**GPT)), decoder(3)),
    "GPT-Neo": _of(_gpt_neo, decoder(2), std=0.1),  # it does not divide the scores by √head_dim
    "XGLM": _of(_xglm, decoder(3)),
    "DeBERTa": _of(lambda: tf.DebertaForMaskedLM(tf.DebertaConfig(**DEBERTA)), encoder(2), std=0.35),
    "DeBERTa v2": _of(lambda: tf.DebertaV2Model(tf.DebertaV2Config(**DEBERTA)), encoder(2), std=0.35),
    "MPNet": _of(lambda: tf.MPNetModel(tf.MPNetConfig(**BERT)), encoder(2)),
    "XLNet": _of(
        lambda: tf.XLNetLMHeadModel(tf.XLNetConfig(vocab_size=VOCABULARY, d_model=40, n_layer=2, n_head=5, d_inner=56)),
        encoder(2),
    ),
    "RoFormer": _of(lambda: tf.RoFormerModel(tf.RoFormerConfig(**BERT)), encoder(2), std=0.7),
}


def fsmt() -> PreTrainedModel:
    """An encoder and a decoder. Its decoder has no mask in a pass that makes a cache: give use_cache=False."""
    sizes = {k: v for k, v in SEQ2SEQ.items() if k != "vocab_size"} | {"encoder_attention_heads": 5}
    config = tf.FSMTConfig(**sizes, langs=["de", "en"], src_vocab_size=VOCABULARY, tgt_vocab_size=VOCABULARY)
    return Architecture(lambda: tf.FSMTForConditionalGeneration(config), [], {}, std=0.2).model()


def _longt5() -> PreTrainedModel:
    sizes = {"d_model": 40, "d_kv": 6, "d_ff": 56, "num_layers": 2, "num_heads": 5, "local_radius": 5}
    return tf.LongT5ForConditionalGeneration(tf.LongT5Config(**IDS, **sizes, decoder_start_token_id=0))


def _prophetnet() -> PreTrainedModel:
    sizes = {f"{name}_{part}": n for part in ("encoder", "decoder") for name, n in (("num", 2),)}
    config = tf.ProphetNetConfig(
        **IDS,
        hidden_size=40,
        encoder_ffn_dim=56,
        decoder_ffn_dim=56,
        max_position_embeddings=320,
        **{f"{name}_layers": n for name, n in sizes.items()},
        **{f"{name}_attention_heads": 5 for name in sizes},
    )
    return tf.ProphetNetForConditionalGeneration(config)


def _clip() -> PreTrainedModel:
    part = SMALL | {"intermediate_size": 56, "num_attention_heads": 5}
    config = tf.CLIPConfig(
        text_config=part | {"vocab_size": VOCABULARY}, vision_config=part | {"image_size": 32, "patch_size": 16}
    )
    return tf.CLIPModel(config)


def _wav2vec2() -> PreTrainedModel:
    config = tf.Wav2Vec2Config(
        **SMALL,
        num_attention_heads=5,
        intermediate_size=56,
        conv_dim=(8,),
        conv_stride=(2,),
        conv_kernel=(3,),
        num_feat_extract_layers=1,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    return tf.Wav2Vec2Model(config)


def _whisper() -> PreTrainedModel:
    sizes = {k: v for k, v in SEQ2SEQ.items() if "position" not in k} | {"encoder_attention_heads": 5}
    return tf.WhisperForConditionalGeneration(
        tf.WhisperConfig(**sizes, num_mel_bins=8, max_source_positions=16, max_target_positions=16)
    )


# what the sentence must say of each
UNREADABLE: dict[str, tuple[Callable[[], PreTrainedModel], str]] = {
    "ViT": (
        lambda: tf.ViTModel(tf.ViTConfig(**SMALL, num_attention_heads=5, intermediate_size=48)),
        "ViTModel reads pictures, not text",
    ),
    "Whisper": (_whisper, "WhisperForConditionalGeneration reads sound, not text"),
    "Wav2Vec2": (_wav2vec2, "Wav2Vec2Model reads sound, not text"),
    "CLIP": (_clip, "CLIPModel reads pictures besides text, and not text alone"),
    "Mamba": (
        lambda: tf.MambaForCausalLM(tf.MambaConfig(vocab_size=VOCABULARY, **SMALL, state_size=4)),
        "MambaForCausalLM has no attention: it carries a state from token to token",
    ),
    "RWKV": (
        lambda: tf.RwkvForCausalLM(tf.RwkvConfig(vocab_size=VOCABULARY, **SMALL, context_length=64)),
        "RwkvForCausalLM has no attention: it carries a state from token to token",
    ),
    "FNet": (
        lambda: tf.FNetModel(tf.FNetConfig(vocab_size=VOCABULARY, **SMALL, intermediate_size=56)),
        "FNetModel returns no attention weights",
    ),
    "Longformer: a window": (
        lambda: tf.LongformerModel(tf.LongformerConfig(**BERT, attention_window=4)),
        r"layer 0 returns an array of the shape \(5, 16, 5\), not \(heads, 16, 16\): it looks at windows",
    ),
    "LongT5: blocks": (_longt5, r"layer 0 \(encoder\) returns an array of the shape \(3, 5, 6, 18\)"),
    "Funnel: summaries": (
        lambda: tf.FunnelModel(
            tf.FunnelConfig(vocab_size=VOCABULARY, d_model=40, n_head=5, d_head=8, d_inner=56, block_sizes=[1, 1])
        ),
        r"layer 1 returns an array of the shape \(5, 8, 16\)",
    ),
    "ProphetNet: returns rows of wrong sums": (
        _prophetnet,
        r"layer 0 \(encoder\) returns do not sum to 1 in each row, but are off by up to [12]\.",
    ),
}
