"""The Transformer of 2017: attention alone, with sinusoidal positions; all letters at once.

Vaswani et al. (2017), "Attention Is All You Need". transformers has this architecture as Marian: encoder and decoder,
each attention and each feed-forward network followed by "add & norm" (section 3.1), scaled dot-product attention (eq. 1)
in several heads (section 3.2.2), ReLU (eq. 2), embeddings times √d_model (section 3.4), sinusoids (section 3.5; the sines
in the first half of a vector and the cosines in the second, where the paper alternates them).
"""

import torch
from torch import Tensor, nn
from transformers import MarianConfig, MarianMTModel

from .recurrent import DROPOUT
from .sounds import END, MOST_SOUNDS, PAD, START, VOCABULARY

SIZES = {"d_model": 64, "encoder_layers": 3, "decoder_layers": 3}
HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}


class Original(nn.Module):
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
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            dropout=DROPOUT,
            attention_dropout=0.0,
            activation_dropout=0.0,
            **SIZES,
            **HEADS,
        )
        self.model = MarianMTModel(config)
        self.model.generation_config.update(num_beams=1, do_sample=False, max_length=MOST_SOUNDS + 1, bad_words_ids=None)

    def forward(self, letters: Tensor, sounds: Tensor) -> Tensor:
        """letters (words, letters), sounds (words, sounds) → logits (words, sounds, vocabulary), all sounds at once."""
        before = torch.cat([torch.full_like(sounds[:, :1], START), sounds[:, :-1]], dim=1)
        there = (letters != PAD).long()
        return self.model(input_ids=letters, attention_mask=there, decoder_input_ids=before, use_cache=False).logits

    @torch.no_grad()
    def say(self, letters: Tensor) -> tuple[Tensor, Tensor, list[None]]:
        """letters (words, letters) → the likeliest sounds (words, sounds), and the chance of each; capture() tells how
        the letters were looked at."""
        there = (letters != PAD).long()
        made = self.model.generate(letters, attention_mask=there, return_dict_in_generate=True, output_logits=True)
        chances = torch.stack(made.logits, dim=1).softmax(dim=-1).amax(dim=-1)
        return made.sequences[:, 1:], chances, []
