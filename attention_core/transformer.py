"""The small Transformer, readable from top to bottom: a decoder that writes one token after the other.

text → token ids → embedding → [norm → attention → + → norm → MLP → +] × layers → norm → one score per vocabulary entry

It is an ordinary transformers model: its attention is looked up by name, so whatever works on a large model
(capture, caches, generate(), output_attentions) works on this one without a second path.
Knows nothing about text: it takes token ids.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, GenerationMixin, PreTrainedConfig
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.utils import can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .encodings import RotaryPositions, alibi_biases, alibi_slopes, rotate, sinusoidal_at

POSITIONS = ("rope", "sinusoidal", "learned", "alibi", "none")


class SmallConfig(PreTrainedConfig):
    """The sizes of a small Transformer. head_dim = hidden_size / num_attention_heads."""

    model_type = "headlight_small"
    keys_to_ignore_at_inference = ["past_key_values"]

    vocab_size: int = 6000
    hidden_size: int = 128
    intermediate_size: int = 384
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 4
    head_dim: int = 32
    max_position_embeddings: int = 4096
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | None = 0
    pad_token_id: int | None = None
    tie_word_embeddings: bool = True
    positions: str = "rope"  # how it knows the order: one of POSITIONS
    is_causal: bool = True  # False: every token sees every token (an encoder)


def eager_attention_forward(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """softmax(q · k × scaling + mask) · v with the weights kept (Vaswani et al. 2017, eq. 1).

    query, key, value: (batch, heads, tokens, head_dim) → output (batch, tokens, heads, head_dim),
    weights (batch, heads, query tokens, key tokens).
    """
    key = key.repeat_interleave(module.num_key_value_groups, dim=1)
    value = value.repeat_interleave(module.num_key_value_groups, dim=1)
    scores = query @ key.transpose(2, 3) * scaling  # (batch, heads, query tokens, key tokens)
    if attention_mask is not None:
        scores = scores + attention_mask  # 0 (or ALiBi) where a query may look, −large where it may not
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class SmallAttention(nn.Module):
    """Multi-head self-attention: every head compares its queries with its keys and blends its values by the result."""

    def __init__(self, config: SmallConfig, layer_idx: int):
        super().__init__()
        self.config, self.layer_idx, self.is_causal = config, layer_idx, config.is_causal
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = config.head_dim**-0.5
        self.q_proj = nn.Linear(config.hidden_size, config.num_attention_heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, config.num_key_value_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, config.num_key_value_heads * config.head_dim, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * config.head_dim, config.hidden_size, bias=False)

    def forward(self, hidden_states, position_embeddings, attention_mask=None, past_key_values=None, **kwargs):
        batch, tokens, _ = hidden_states.shape
        split = (batch, tokens, -1, self.head_dim)
        query = self.q_proj(hidden_states).view(split).transpose(1, 2)  # (batch, heads, tokens, head_dim)
        key = self.k_proj(hidden_states).view(split).transpose(1, 2)  # (batch, key-value heads, tokens, head_dim)
        value = self.v_proj(hidden_states).view(split).transpose(1, 2)  # (batch, key-value heads, tokens, head_dim)

        if position_embeddings is not None:
            query, key = rotate(query, *position_embeddings), rotate(key, *position_embeddings)

        if past_key_values is not None:  # the rows of earlier tokens come from the cache: (…, all tokens so far, …)
            key, value = past_key_values.update(key, value, self.layer_idx)

        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        blended, weights = attend(
            self, query, key, value, attention_mask, dropout=0.0, scaling=self.scaling, **kwargs
        )  # (batch, tokens, heads, head_dim)
        return self.o_proj(blended.reshape(batch, tokens, -1)), weights  # (batch, tokens, hidden_size)


class SmallMLP(nn.Module):
    """The part of a block that works on each token alone: a gated linear unit (Shazeer 2020, SwiGLU)."""

    def __init__(self, config: SmallConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # (batch, tokens, hidden_size)


class SmallBlock(nn.Module):
    """One layer: attention moves information between tokens, the MLP works on it; each adds to the residual stream."""

    def __init__(self, config: SmallConfig, layer_idx: int):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = SmallAttention(config, layer_idx)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = SmallMLP(config)

    def forward(self, hidden_states: Tensor, **kwargs) -> Tensor:
        attended, _ = self.self_attn(self.input_layernorm(hidden_states), **kwargs)
        hidden_states = hidden_states + attended  # (batch, tokens, hidden_size)
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


class SmallPreTrainedModel(PreTrainedModel):
    """What transformers wants to know about the family: which attention serves it and what can be recorded."""

    config_class = SmallConfig
    base_model_prefix = "model"
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = ["SmallBlock"]
    _skip_keys_device_placement = ["past_key_values"]
    _can_record_outputs = {"hidden_states": SmallBlock, "attentions": SmallAttention}

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # What writes into the residual stream starts smaller, so that its size does not grow with depth (GPT-2).
        if isinstance(module, SmallBlock):
            std = self.config.initializer_range / (2 * self.config.num_hidden_layers) ** 0.5
            nn.init.normal_(module.self_attn.o_proj.weight, std=std)
            nn.init.normal_(module.mlp.down_proj.weight, std=std)


class SmallModel(SmallPreTrainedModel):
    """Embedding, blocks, last norm: token ids → one vector per token. Where a token stands it learns in one place of
    three: added to its embedding, turned into queries and keys, or added to the scores (attention_core/encodings.py).
    """

    def __init__(self, config: SmallConfig):
        super().__init__(config)
        if config.positions not in POSITIONS:
            raise ValueError(f"there are no positions “{config.positions}”: choose one of {', '.join(POSITIONS)}")
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.positions == "learned":
            self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList(SmallBlock(config, i) for i in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary = RotaryPositions(config.head_dim, config.rope_theta) if config.positions == "rope" else None
        self.post_init()

    def placed(self, embedded: Tensor, position_ids: Tensor) -> Tensor:
        """embedded (batch, tokens, hidden_size) → the same, with what is added for the positions (batch, tokens)."""
        if self.config.positions == "sinusoidal":
            # the embedding is scaled up first, so that it is not drowned (Vaswani et al. 2017, section 3.4)
            added = sinusoidal_at(position_ids, self.config.hidden_size).to(embedded.dtype)
            return embedded * self.config.hidden_size**0.5 + added
        if self.config.positions == "learned":
            rows = self.config.max_position_embeddings
            if int(position_ids.max()) >= rows:
                raise ValueError(f"learned positions end after {rows} tokens: give a shorter text")
            return embedded + self.embed_positions(position_ids)
        return embedded

    def mask(self, hidden_states: Tensor, attention_mask, past_key_values, position_ids: Tensor) -> Any:
        """What is added to the scores, or may be looked at (bool): (batch, 1 or heads, query tokens, key tokens); None
        where the attention function knows it by itself."""
        biased = self.config.positions == "alibi"
        mask: Any = create_causal_mask(  # an encoder's too: it reads config.is_causal
            config=self.config,
            inputs_embeds=hidden_states,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
            allow_is_causal_skip=not biased,
        )
        if not biased:
            return mask
        dtype, device = hidden_states.dtype, hidden_states.device
        seen = past_key_values.get_seq_length() if past_key_values is not None else 0
        queries = torch.arange(seen, seen + hidden_states.shape[1], device=device)
        keys = torch.arange(mask.shape[-1], device=device)
        bias = alibi_biases(alibi_slopes(self.config.num_attention_heads).to(device), queries, keys).to(dtype)
        visible = mask if mask.dtype == torch.bool else mask == 0
        return torch.where(visible, bias, torch.finfo(dtype).min)

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        use_cache=None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        hidden_states = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None and self.config.is_causal:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            seen = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = torch.arange(seen, seen + hidden_states.shape[1], device=hidden_states.device)[None]
        hidden_states = self.placed(hidden_states, position_ids)
        mask = self.mask(hidden_states, attention_mask, past_key_values, position_ids)
        position_embeddings = self.rotary(position_ids, hidden_states.dtype) if self.rotary is not None else None
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                position_embeddings=position_embeddings,
                attention_mask=mask,
                past_key_values=past_key_values,
                **kwargs,
            )  # (batch, tokens, hidden_size)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden_states), past_key_values=past_key_values)


class SmallForCausalLM(SmallPreTrainedModel, GenerationMixin):
    """The language model: each token's vector compared with every vocabulary entry's embedding."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: SmallConfig):
        super().__init__(config)
        if not config.is_causal:
            raise ValueError("an encoder sees the next token, so it predicts none: use SmallModel")
        self.model = SmallModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        use_cache=None,
        labels=None,
        logits_to_keep: int = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """input_ids (batch, tokens) → logits (batch, tokens or the last logits_to_keep, vocabulary)."""
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.lm_head(output.last_hidden_state[:, -logits_to_keep:])  # −0 keeps all
        loss = None
        if labels is not None:  # each position predicts the next token
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )


AutoConfig.register(SmallConfig.model_type, SmallConfig, exist_ok=True)
AutoModelForCausalLM.register(SmallConfig, SmallForCausalLM, exist_ok=True)
