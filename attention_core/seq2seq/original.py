"""The Transformer of 2017: attention alone, with sinusoidal positions; all letters at once.

Vaswani et al. (2017), "Attention Is All You Need". transformers has this architecture as Marian: encoder and decoder,
each attention and each feed-forward network followed by "add & norm" (section 3.1), scaled dot-product attention
(eq. 1) in several heads (section 3.2.2), ReLU (eq. 2), embeddings times √d_model (section 3.4), sinusoids (section 3.5;
the sines in the first half of a vector and the cosines in the second, where the paper alternates them).
"""

from typing import Any, cast

import torch
from torch import Tensor
from transformers import MarianConfig, MarianMTModel

from .recurrent import DROPOUT
from .sounds import END, MOST_SOUNDS, PAD, START, VOCABULARY
from .speaker import Look, Speaker

LAYERS, HEADS, HIDDEN, INNER = 3, 4, 64, 128  # of the encoder and of the decoder each


class Original(Speaker):
    """The model, asked as the recurrent stations are."""

    def __init__(self):
        super().__init__()
        config = MarianConfig(
            vocab_size=len(VOCABULARY),
            decoder_vocab_size=len(VOCABULARY),
            pad_token_id=PAD,
            eos_token_id=END,
            bos_token_id=None,
            decoder_start_token_id=START,
            forced_eos_token_id=None,
            max_position_embeddings=64,
            scale_embedding=True,
            activation_function="relu",
            d_model=HIDDEN,
            encoder_layers=LAYERS,
            decoder_layers=LAYERS,
            encoder_attention_heads=HEADS,
            decoder_attention_heads=HEADS,
            encoder_ffn_dim=INNER,
            decoder_ffn_dim=INNER,
            dropout=DROPOUT,
            attention_dropout=0.0,
            activation_dropout=0.0,
        )
        self.model = MarianMTModel(config)
        self.model.generation_config.update(
            num_beams=1, do_sample=False, max_length=MOST_SOUNDS + 1, bad_words_ids=None
        )

    def forward(self, letters: Tensor, sounds: Tensor) -> Tensor:
        before = torch.cat([torch.full_like(sounds[:, :1], START), sounds[:, :-1]], dim=1)
        there = (letters != PAD).long()
        return self.model(input_ids=letters, attention_mask=there, decoder_input_ids=before, use_cache=False).logits

    @torch.no_grad()
    def say(self, letters: Tensor) -> tuple[Tensor, Tensor, list[Look]]:
        """How it looked is not among it: capture() tells that of this model as of any other."""
        there, model = (letters != PAD).long(), self.model
        told: dict[str, Any] = {"return_dict_in_generate": True, "output_logits": True}
        made: Any = cast(Any, model).generate(letters, attention_mask=there, **told)
        chances = torch.stack(made.logits, dim=1).softmax(dim=-1).amax(dim=-1)
        return made.sequences[:, 1:], chances, []
