"""LanguageModel: pairs of texts, words, and what a decoder behind an encoder reads; the oracle is the tokenizer itself,
the model's own shift of its labels, and generate()."""

import io
import json

import pytest
import sentencepiece
import torch
import transformers as tf

from attention_core import HeadlightError, LanguageModel, load_model
from attention_core.tokens import word_label
from tests.architectures import ARCHITECTURES, LLAMA, VOCABULARY
from tests.test_heads import eager_twin
from tests.tiny import needs_minilm
from tests.vocabularies import BART, ENGLISH, GERMAN, MARIAN, T5, llama, llama_2, unigram


@pytest.fixture(scope="module")
def minilm():
    return load_model("minilm-l6")


@pytest.fixture(scope="module")
def marian_tokenizer(tmp_path_factory):
    """The slow tokenizer that Marian models have: one vocabulary, but source and target are split differently."""
    folder, pieces = tmp_path_factory.mktemp("marian"), []
    for side, texts in (("source", ENGLISH[:2]), ("target", GERMAN)):
        trained = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts * 5),
            model_writer=trained,
            vocab_size=35,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        (folder / f"{side}.spm").write_bytes(trained.getvalue())
        processor = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
        pieces += [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    names = dict.fromkeys(["<pad>", "<s>", "</s>", "<unk>", *pieces])
    (folder / "vocab.json").write_text(json.dumps({name: n for n, name in enumerate(names)}))
    files = {"source_spm": "source.spm", "target_spm": "target.spm", "vocab": "vocab.json"}
    return tf.MarianTokenizer(**{name: str(folder / file) for name, file in files.items()})


# ── a pair of texts ─────────────────────────────────────────────────────────────────────────────────────────────────


PAIRS = [
    ("The old dog slept.", "Did it dream?"),
    ("a", "b"),
    ("  two  spaces ", " \n日本 [SEP] x"),
    ("unbelievably " * 3, "🙂"),
]


def segments_by_hand(lm: LanguageModel, first: str, second: str, ends: list[int]) -> list[int | None]:
    """0 and 1 from the length of each text alone; ends: how many special tokens stand before, between and behind."""
    counts = [len(lm.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (first, second)]
    frame = [[None] * n for n in ends]
    return frame[0] + [0] * counts[0] + frame[1] + [1] * counts[1] + frame[2]


def check_pair(lm: LanguageModel, first: str, second: str, ends: list[int]) -> None:
    encoded, expected = lm.encode(first, second), lm.tokenizer(first, second)
    assert {name: given[0].tolist() for name, given in encoded.inputs.items()} == {
        name: given for name, given in expected.items() if name != "token_type_ids" or name in encoded.inputs
    }
    assert encoded.segments == segments_by_hand(lm, first, second, ends)
    assert (encoded.left_out, encoded.characters) == (0, len(first))
    apart = list(zip(encoded.words, encoded.segments, strict=True))
    of = {part: {word for word, segment in apart if segment == part} for part in (0, 1)}
    assert not of[0] & of[1] and [w is None for w in encoded.words] == [s is None for s in encoded.segments]


@needs_minilm
@pytest.mark.parametrize("first, second", PAIRS)
def test_a_pair_is_exactly_what_the_tokenizer_makes_of_it(minilm, first, second):
    check_pair(minilm, first, second, [1, 1, 1])
    assert "token_type_ids" in minilm.encode(first, second).inputs


@pytest.mark.parametrize("first, second", PAIRS)
def test_a_pair_without_marks_between(small, first, second):
    check_pair(small, first, second, [0, 0, 0])
    check_pair(llama(llama_2()), first, second, [1, 1, 0])
    check_pair(LanguageModel(ARCHITECTURES[T5].model(), unigram()), first, second, [0, 1, 1])


@pytest.mark.parametrize("second", ["", " ", "\n\t"])
def test_an_empty_second_text_is_none(small, second):
    encoded = small.encode("The old dog.", second)
    assert encoded.inputs["input_ids"].tolist() == [small.tokenizer("The old dog.")["input_ids"]]
    assert encoded.segments is None
    cap = small.capture("The old dog.", second=second)
    assert (cap.second_text, cap.segments) == ("", None)


@needs_minilm
@pytest.mark.parametrize("first, second", [(700, 3), (3, 700), (400, 300), (300, 400)])
def test_a_long_pair_is_cut_as_the_tokenizer_cuts_it(minilm, first, second):
    texts = (
        ("one two three four five six seven eight " * 100).split()[:first],
        ("red green blue pink gold " * 200).split()[:second],
    )
    texts = [" ".join(words) for words in texts]
    expected = minilm.tokenizer(*texts, truncation=True, max_length=512)
    encoded = minilm.encode(*texts)
    assert {name: given[0].tolist() for name, given in encoded.inputs.items()} == dict(expected)
    assert encoded.left_out == first + second + 3 - 512
    kept = [encoded.segments.count(part) for part in (0, 1)]
    ids = expected["input_ids"]
    assert kept == [ids.index(102) - 1, 512 - ids.index(102) - 2], "102 is [SEP]"
    assert texts[0][: encoded.characters].split() == texts[0].split()[: kept[0]]
    assert len(encoded.words) == len(encoded.segments) == 512


# ── what the decoder reads ──────────────────────────────────────────────────────────────────────────────────────────


def translator(name: str, tokenizer: tf.PreTrainedTokenizerBase | None = None) -> LanguageModel:
    frames = {T5: ("$A </s>", "$A </s> $B </s>"), BART: ("<s> $A </s>", "<s> $A </s> </s> $B </s>")}
    return LanguageModel(ARCHITECTURES[name].model(), tokenizer or unigram(*frames.get(name, frames[T5])), name="x")


TARGETS = ["der alte hund", "hund", "ein  alter hund träumte von knochen ", "der </s> hund", "日本 1984"]


@pytest.mark.parametrize("name", [T5, BART, MARIAN])
@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_shifted_as_the_model_shifts_its_labels(name, target):
    lm = translator(name)
    labels = lm.tokenizer(text_target=target, return_tensors="pt")["input_ids"]
    assert labels[0, -1] == lm.tokenizer.eos_token_id
    expected = lm.model.prepare_decoder_input_ids_from_labels(labels=labels)
    cap = lm.capture("the old dog", target=target)
    assert torch.equal(cap.inputs["decoder_input_ids"], expected)
    assert torch.equal(cap.inputs["input_ids"], lm.tokenizer("the old dog", return_tensors="pt")["input_ids"])
    assert (cap.text, cap.target_text) == ("the old dog", target)
    raw = lm.tokenizer.convert_ids_to_tokens(expected[0].tolist())
    assert cap.target_tokens == [token.replace("▁", "·") for token in raw]
    own = eager_twin(lm.model)
    with torch.no_grad():
        output = own(input_ids=cap.inputs["input_ids"], decoder_input_ids=expected, output_attentions=True)
    cross = [n for n, layer in enumerate(cap.layers) if layer.kind == "cross"]
    assert (cap.attention(cross[1], 3) - output.cross_attentions[1][0, 3]).abs().max() < 1e-5
    assert_likely(lm, cap, output.logits[0, -1])


def assert_likely(lm: LanguageModel, cap, logits: torch.Tensor) -> None:
    chances = logits.softmax(-1)
    best = chances.topk(5)
    assert [token for token, _ in cap.likely] == lm.labels(best.indices)
    assert [chance for _, chance in cap.likely] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_the_words_of_a_target():
    lm = translator(BART)
    cap = lm.capture("the old dog", target="ein alter hund")
    words: dict[int | None, list[str]] = {}
    for token, word in zip(cap.target_tokens, cap.target_words, strict=True):
        words.setdefault(word, []).append(token)
    assert words.pop(None) == ["</s>", "<s>"], "what it starts from, and the frame"
    assert [word_label(pieces) for pieces in words.values()] == ["ein", "alter", "hund"]


def test_a_tokenizer_that_marks_no_end():
    lm = translator(T5, unigram("$A", "$A $B"))
    labels = lm.tokenizer(text_target="der alte hund", return_tensors="pt")["input_ids"]
    expected = lm.model.prepare_decoder_input_ids_from_labels(labels=labels)  # it drops the last: the end, it thinks
    assert lm.capture("the", target="der alte hund").inputs["decoder_input_ids"].tolist() == [
        [*expected[0].tolist(), labels[0, -1].item()]
    ]


def test_a_tokenizer_that_says_no_words_and_no_places(marian_tokenizer):
    lm = translator(MARIAN, marian_tokenizer)
    assert not lm.tokenizer.is_fast and len(lm.tokenizer) <= VOCABULARY
    target = "der alte hund"
    labels = lm.tokenizer(text_target=target, return_tensors="pt")["input_ids"]
    assert labels.tolist() != [lm.tokenizer(target)["input_ids"]], "a target is split by its own rules"
    cap = lm.capture("the old dog", target=target)
    assert torch.equal(cap.inputs["decoder_input_ids"], lm.model.prepare_decoder_input_ids_from_labels(labels=labels))
    assert (cap.words, cap.target_words, cap.segments) == (None, None, None)
    assert lm.labels(torch.tensor([4, 96])) == [lm.tokenizer.convert_ids_to_tokens(4).replace("▁", "·"), "‹id 96›"]
    pair = lm.capture("the old dog", second="an old door")
    assert pair.inputs["input_ids"].tolist() == [lm.tokenizer("the old dog", "an old door")["input_ids"]]
    assert (pair.second_text, pair.segments) == ("an old door", None)


def test_a_long_target_is_cut(small):
    tokenizer = unigram()
    tokenizer.model_max_length = 13
    lm = translator(T5, tokenizer)
    target = "der alte hund " * 9
    whole = [0, *tokenizer(text_target=target, verbose=False)["input_ids"][:-1]]
    cap = lm.capture("the", target=target)
    assert cap.inputs["decoder_input_ids"].tolist() == [whole[:13]] and len(cap.target_words) == 13
    assert cap.left_out == len(whole) - 13 > 0


# ── its own output ──────────────────────────────────────────────────────────────────────────────────────────────────


def greedy(lm: LanguageModel, text: str) -> list[int]:
    """generate() without a cache, which transformers makes too small for a T5 whose decoder is the deeper part."""
    inputs = lm.tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    twin = eager_twin(lm.model)
    twin.generation_config = lm.model.generation_config
    return twin.generate(**inputs, max_new_tokens=32, do_sample=False, num_beams=1, use_cache=False)[0].tolist()


@pytest.mark.parametrize("name", [T5, BART, MARIAN])
@pytest.mark.parametrize("text", ["the old dog slept", "door"])
def test_without_a_target_it_reads_its_own_greedy_output(name, text):
    lm = translator(name)
    lm.model.generation_config.eos_token_id = None
    expected = greedy(lm, text)
    assert len(expected) == 33, "what it starts from, and 32 tokens"
    cap = lm.capture(text)
    assert cap.inputs["decoder_input_ids"].tolist() == [expected]
    assert (cap.target_text, len(cap.target_tokens)) == ("", 33)
    inputs = lm.tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        logits = eager_twin(lm.model)(**inputs, decoder_input_ids=torch.tensor([expected])).logits
    assert_likely(lm, cap, logits[0, -1])
    assert torch.equal(lm.capture(text, target=" \n").inputs["decoder_input_ids"], cap.inputs["decoder_input_ids"])


@pytest.mark.parametrize("several", [False, True])
def test_its_output_ends_before_its_end_token(several):
    lm = translator(BART)
    lm.model.generation_config.eos_token_id = None
    written = greedy(lm, "the old dog slept")
    end = next(i for i in written[3:] if i not in written[:3])
    lm.model.generation_config.eos_token_id = [end, 96] if several else end
    assert greedy(lm, "the old dog slept")[-1] == end
    cap = lm.capture("the old dog slept")
    assert cap.inputs["decoder_input_ids"].tolist() == [written[: written.index(end)]]


class Scripted(tf.T5ForConditionalGeneration):
    """Writes these ids, whatever it reads."""

    script: list[int] = []

    def generate(self, **how):
        assert (how["max_new_tokens"], how["do_sample"], how["num_beams"]) == (32, False, 1)
        return torch.tensor([[0, *self.script]])


def test_the_words_of_its_own_output():
    torch.manual_seed(0)
    lm = LanguageModel(Scripted(ARCHITECTURES[T5].model().config).eval(), unigram())
    Scripted.script = lm.tokenizer("ein alter hund")["input_ids"]
    cap = lm.capture("the old dog")
    assert torch.equal(
        cap.inputs["decoder_input_ids"], lm.capture("the", target="ein alter hund").inputs["decoder_input_ids"]
    )
    assert cap.target_words == lm.encode_target("ein alter hund").words
    assert max(n for n in cap.target_words if n is not None) == 2
    Scripted.script = [lm.tokenizer.convert_tokens_to_ids(piece) for piece in ("d", "e", "r", "▁hund")]
    assert None not in Scripted.script and lm.tokenizer("der hund")["input_ids"][:-1] != Scripted.script
    assert lm.capture("the old dog").target_words is None, "another split than the tokenizer's: not known"


def test_a_decoder_that_writes_nothing_reads_its_start():
    config = ARCHITECTURES[BART].model().config
    torch.manual_seed(0)
    lm = LanguageModel(tf.BartModel(config).eval(), unigram())
    cap = lm.capture("the old dog")
    assert not lm.predicts and cap.inputs["decoder_input_ids"].tolist() == [[2]] and cap.likely == []
    assert cap.target_words is None or cap.target_words == [None]


def test_ids_of_the_decoder_are_taken_as_they_are():
    lm = translator(T5)
    ids = torch.tensor([[0, 7, 9, 11, 13]])
    cap = lm.capture("the old dog", target="der hund", decoder_input_ids=ids)
    assert torch.equal(cap.inputs["decoder_input_ids"], ids) and len(cap.target_tokens) == 5
    assert (cap.target_words, cap.target_text) == (None, "")


# ── what a Capture says of its text ─────────────────────────────────────────────────────────────────────────────────


@needs_minilm
def test_the_fields_of_a_pair(minilm):
    first, second = "An unbelievable dog [SEP] x", "Did it?"
    cap = minilm.capture(first, second=second)
    encoded = minilm.encode(first, second)
    assert (cap.text, cap.second_text, cap.target_text) == (first, second, "")
    assert (cap.words, cap.segments) == (encoded.words, encoded.segments)
    assert cap.special == [token in ("[CLS]", "[SEP]") for token in cap.tokens] and sum(cap.special) == 4
    assert (cap.predicts, cap.likely, cap.target_tokens, cap.target_words) == (False, [], None, None)
    alone = minilm.capture("a b")
    assert (alone.second_text, alone.segments) == ("", None)


def test_the_fields_of_a_decoder(small):
    text = "The old dog slept by the"
    cap = small.capture(text, target="x")
    assert (cap.text, cap.target_text, cap.second_text) == (text, "", ""), "it has no target"
    assert (cap.predicts, cap.segments, cap.target_words) == (True, None, None)
    assert cap.special == [False] * len(cap.tokens)
    with torch.no_grad():
        output = eager_twin(small.model)(**small.tokenizer(text, return_tensors="pt"))
    assert_likely(small, cap, output.logits[0, -1])
    assert_likely(small, small.capture(text, all_logits=True), output.logits[0, -1])
    end = small.tokenizer.eos_token
    typed = small.capture(f"The dog.{end} The cat")
    assert [token for token, special in zip(typed.tokens, typed.special, strict=True) if special] == [end]


def test_the_fields_of_ids_alone():
    torch.manual_seed(0)
    lm = LanguageModel(tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA)).eval())
    cap = lm.capture([5, 6, 7], second="x")
    assert (cap.text, cap.second_text, cap.tokens, cap.words, cap.special) == ("", "", None, None, None)
    assert cap.likely[0][0].isdigit() and len(cap.likely) == 5


def test_a_model_with_more_rows_than_the_tokenizer_has_tokens(small):
    assert unigram().convert_ids_to_tokens(96) is None
    assert translator(T5).labels(torch.tensor([[5, 96]]))[1] == "‹id 96›"
    assert small.labels(torch.tensor([5120])) == ["‹id 5120›"], "a byte-level one"


def test_a_vocabulary_of_three():
    torch.manual_seed(0)
    sizes = {"vocab_size": 3, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    cap = LanguageModel(tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA | sizes)).eval()).capture([0, 1, 2])
    assert len(cap.likely) == 3 and sum(chance for _, chance in cap.likely) == pytest.approx(1, abs=1e-5)


def test_a_model_that_gives_weights_alone_reads_512_tokens():
    torch.manual_seed(0)
    config = tf.BloomConfig(vocab_size=VOCABULARY, hidden_size=40, n_layer=2, n_head=5)
    lm = LanguageModel(tf.BloomForCausalLM(config).eval(), unigram())
    assert lm.check.implementation == "eager" and lm.context == 512
    text = "hund " * 700
    whole = lm.tokenizer(text, verbose=False)["input_ids"]
    encoded = lm.encode(text)
    assert encoded.inputs["input_ids"].shape == (1, 512) and encoded.left_out == len(whole) - 512
    lm.tokenizer.model_max_length = 25
    assert lm.context == 25


def test_no_tokenizer_no_target():
    lm = LanguageModel(ARCHITECTURES[T5].model())
    with pytest.raises(HeadlightError, match="came without a tokenizer: give decoder_input_ids"):
        lm.capture([5, 6, 7], target="der hund")
    cap = lm.capture([5, 6, 7])
    assert cap.inputs["decoder_input_ids"][0, 0] == 0 and cap.target_words is None
