"""Sizes of tiny models, odd and different, as keyword arguments of transformers' configs."""

VOCABULARY = 97
IDS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LLAMA = IDS | {
    "hidden_size": 36,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "max_position_embeddings": 320,
}
ROPE = {k: v for k, v in LLAMA.items() if k != "head_dim"}  # head_dim = hidden_size / num_attention_heads
PLAIN = {k: v for k, v in ROPE.items() if k != "num_key_value_heads"} | {"hidden_size": 40, "num_attention_heads": 5}
BERT = PLAIN | {"num_hidden_layers": 2}
SEQ2SEQ = IDS | {
    "d_model": 60,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 5,
    "encoder_ffn_dim": 56,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 320,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
OF_SEQ2SEQ = {"encoder": (6, 6, 10, 10), "decoder": (5, 5, 12, 12), "cross": (5, 5, 12, 12)}
MIXTURE = {"num_local_experts": 4, "num_experts_per_tok": 2}
