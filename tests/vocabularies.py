"""Small tokenizers of kinds that differ, made in the test."""

import torch
import transformers as tf
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers import models as token_models

from attention_core import LanguageModel
from tests.architectures import LLAMA

ENGLISH = ["the old dog slept by the door", "an old dog dreamed of bones and doors", "日本語 は 1984"]
GERMAN = ["der alte hund schlief an der tür", "ein alter hund träumte von knochen"]
T5, BART, MARIAN = "T5: relative positions", "BART", "Marian: sinusoids"


def unigram(frame: str = "$A </s>", pair: str = "$A </s> $B </s>") -> tf.PreTrainedTokenizerFast:
    """As T5's: pieces of words, ▁ for a space, runs of spaces taken for one."""
    special = [("<pad>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    letters = sorted({letter for text in [*ENGLISH, *GERMAN] for letter in text.replace(" ", "▁")})
    pieces = [
        ("▁the", -3.0),
        ("▁do", -3.0),
        ("▁old", -3.5),
        ("▁hund", -3.0),
        ("▁al", -3.0),
        ("ter", -2.5),
        ("ein", -3.0),
    ]
    vocabulary = [*special, *((letter, -6.0) for letter in letters), *pieces]
    backend = Tokenizer(token_models.Unigram(vocabulary, unk_id=3))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    around = [("<s>", 1), ("</s>", 2)]
    backend.post_processor = processors.TemplateProcessing(single=frame, pair=pair, special_tokens=around)
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return tf.PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def llama_2() -> tf.PreTrainedTokenizerFast:
    """As Llama 2's: no pre-tokenizer, so that a whole text is one word to it; bytes where a letter is not known."""
    names = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *"▁abcdefghijklmnopqrstuvwxyz0123456789.'",
    ]
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("d", "o"), ("do", "g"), ("▁", "dog"), ("o", "l"), ("ol", "d")]
    merges += [("▁", "old"), ("▁", "▁")]
    vocabulary = {name: n for n, name in enumerate(dict.fromkeys([*names, *(a + b for a, b in merges)]))}
    backend = Tokenizer(token_models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tf.PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def llama(tokenizer: tf.PreTrainedTokenizerBase) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA | {"vocab_size": 320})).eval(), tokenizer)
