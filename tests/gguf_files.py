"""GGUF files written with the gguf package from a random Llama, as llama.cpp's own converter lays them out."""

from pathlib import Path

import gguf
import numpy as np
import torch
import transformers as tf

CONFIG = {
    "vocab_size": 64,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}
PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
TOKENS = ["<unk>", "<s>", "</s>", *(chr(c) for c in range(97, 123)), "Ġ", "T", "C", "th", "at", "Ġc", "he", "Ġcat"]
TOKENS += [f"<extra {n}>" for n in range(64 - len(TOKENS))]
MERGES = ["a t", "Ġ c", "h e", "Ġc at"]
KIND = gguf.GGMLQuantizationType


def llama(seed: int = 0) -> tf.LlamaForCausalLM:
    """Random, with sharp attention: each weight is a float16 number, so that an F16 file holds it exactly."""
    torch.manual_seed(seed)
    model = tf.LlamaForCausalLM(tf.LlamaConfig(**CONFIG)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            value = parameter.normal_(std=0.3) if parameter.ndim > 1 else parameter.uniform_(0.5, 1.5)
            parameter.copy_(value.half().float())
    return model


def gguf_name(name: str) -> str:
    """model.layers.2.mlp.up_proj.weight → blk.2.ffn_up.weight"""
    stem = name.removesuffix(".weight")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.weight"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{PARTS[part]}.weight"


def stored(name: str, tensor: torch.Tensor) -> np.ndarray:
    """The rows of queries and keys in llama.cpp's order: the two halves of each head alternate."""
    array = tensor.detach().float().numpy()
    heads = {"q_proj": CONFIG["num_attention_heads"], "k_proj": CONFIG["num_key_value_heads"]}
    for part, count in heads.items():
        if part in name:
            halves = array.reshape(count, 2, array.shape[0] // count // 2, array.shape[1])
            array = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))
    return array


def write_gguf(
    file: Path,
    model: tf.LlamaForCausalLM,
    kind: KIND = KIND.F16,
    *,
    tokenizer: bool = True,
    architecture: str = "llama",
    without: str = "",
) -> Path:
    """kind: of the matrices; vectors are float32, as llama.cpp writes them. without: a tensor left out."""
    writer = gguf.GGUFWriter(str(file), architecture)
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    if tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(TOKENS)
        writer.add_token_types([3, 3, 3] + [1] * (len(TOKENS) - 3))
        writer.add_token_merges(MERGES)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
    for name, tensor in model.state_dict().items():
        if name == without:
            continue
        array, shape = stored(name, tensor), tuple(tensor.shape)
        if tensor.ndim == 1:
            writer.add_tensor(gguf_name(name), array)
        elif kind is KIND.F16:
            writer.add_tensor(gguf_name(name), array.astype(np.float16))
        else:
            assert shape[-1] % 32 == 0
            writer.add_tensor(gguf_name(name), gguf.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
