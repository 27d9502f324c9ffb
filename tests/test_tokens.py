"""Token strings as people should see them."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from attention_core.tokens import display_tokens, visible_text

BYTES = [  # a token's bytes, and how it is shown
    (b"the", "the"),
    (b" the", "·the"),
    (b" ", "·"),
    (b"   ", "···"),
    (b"\n", "⏎"),
    (b"\n\n", "⏎⏎"),
    (b"\ta", "⇥a"),
    ("é".encode(), "é"),
    ("日本".encode(), "日本"),
    (" مر".encode(), "·مر"),
    ("🙂".encode(), "🙂"),
    (b"\xf0\x9f", "‹F0 9F›"),
    (b"\x99\x82", "‹99 82›"),
    (b" \xe6", "‹20 E6›"),
    (b"\xff", "‹FF›"),
    (b"\x00", "‹U+0000›"),
    (b"\x07", "‹U+0007›"),
    (b"\r\n", "‹U+000D›⏎"),
    ("\u200b".encode(), "‹U+200B›"),  # zero-width space
    ("a\u200db".encode(), "a‹U+200D›b"),  # zero-width joiner
    ("\u202eabc".encode(), "‹U+202E›abc"),  # right-to-left override
    ("\u2066".encode(), "‹U+2066›"),
    ("\ufeff".encode(), "‹U+FEFF›"),
    ("\u00a0".encode(), "‹U+00A0›"),
    ("\u2028".encode(), "‹U+2028›"),
]
LITERALLY = ["<s>", "<br>", "$", "*", "_", ":smile:", "=1+1", "<script>", "&amp;", "`", "##", "▁"]


@pytest.fixture(scope="module")
def byte_level():
    """A vocabulary where each letter stands for a byte, as GPT-2's, Llama 3's and ours."""
    letters = bytes_to_unicode()
    entries = [bytes([b]) for b in range(256)] + [raw for raw, _ in BYTES] + [text.encode() for text in LITERALLY]
    words = dict.fromkeys("".join(letters[b] for b in raw) for raw in entries)
    backend = Tokenizer(models.BPE(vocab={word: n for n, word in enumerate(words)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<|the end|>", special=True)])
    backend.add_tokens(["<|tool|>", "two words", "日記"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|the end|>")


def shown(tokenizer, *tokens: str) -> list[str]:
    ids = tokenizer.convert_tokens_to_ids(list(tokens))
    assert None not in ids and tokenizer.unk_token_id not in ids
    return display_tokens(tokenizer, ids)


@pytest.mark.parametrize("raw, expected", BYTES)
def test_bytes(byte_level, raw, expected):
    assert shown(byte_level, "".join(bytes_to_unicode()[b] for b in raw)) == [expected]


@pytest.mark.parametrize("text", LITERALLY)
def test_markup_stands_there_literally(byte_level, text):
    assert shown(byte_level, "".join(bytes_to_unicode()[b] for b in text.encode())) == [text]
    assert visible_text(text) == text


def test_an_emoji_split_into_its_bytes(byte_level):
    ids = byte_level("a🙂")["input_ids"]
    assert display_tokens(byte_level, ids) == ["a", "‹F0›", "‹9F›", "‹99›", "‹82›"]


def test_special_and_added_tokens(byte_level):
    assert shown(byte_level, "<|the end|>", "<|tool|>", "two words", "日記") == [
        "<|the end|>",
        "<|tool|>",
        "two·words",
        "日記",
    ]
    assert display_tokens(byte_level, byte_level("ab<|the end|>")["input_ids"]) == ["a", "b", "<|the end|>"]


def test_an_added_token_with_an_accent(byte_level):
    byte_level.add_tokens(["café"])
    assert shown(byte_level, "café") == ["café"]


def test_one_string_an_id(byte_level):
    assert display_tokens(byte_level, []) == []
    assert len(display_tokens(byte_level, [3, 3, 3])) == 3


@pytest.fixture(scope="module")
def word_piece():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##believ", "##able", "日", "م", "##ر", "Ġ", "é"]
    backend = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def test_word_pieces_keep_their_marks(word_piece):
    tokens = ["[CLS]", "un", "##believ", "##able", "日", "م", "##ر", "é", "[SEP]"]
    assert shown(word_piece, *tokens) == tokens
    assert shown(word_piece, "Ġ") == ["Ġ"], "only in a byte-level vocabulary is Ġ a space"
    assert display_tokens(word_piece, [1]) == ["[UNK]"]


@pytest.fixture(scope="module")
def sentence_piece():
    """▁ for a space and bytes as <0x…>, as in Llama 2, Gemma and T5."""
    words = ["<unk>", "<s>", "</s>", "▁the", "▁", "▁▁", "日", "a\u200b", "x"] + [f"<0x{b:02X}>" for b in range(256)]
    backend = Tokenizer(
        models.BPE(vocab={word: n for n, word in enumerate(words)}, merges=[], byte_fallback=True, unk_token="<unk>")
    )
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def test_sentence_pieces(sentence_piece):
    tokens = ["<s>", "▁the", "▁", "▁▁", "日", "a\u200b", "x", "</s>"]
    assert shown(sentence_piece, *tokens) == ["<s>", "·the", "·", "··", "日", "a‹U+200B›", "x", "</s>"]


def test_sentence_piece_bytes(sentence_piece):
    assert shown(sentence_piece, "<0x0A>", "<0xF0>") == ["⏎", "‹F0›"]


def test_the_small_models_words_are_whole(small):
    ids = small.tokenizer(" The cat sat on the mat.\nIt was warm.")["input_ids"]
    strings = display_tokens(small.tokenizer, ids)
    assert "".join(strings).lstrip("·") == "The·cat·sat·on·the·mat.⏎It·was·warm."
    assert {"·cat", "·on", "·the", "⏎"} <= set(strings)
