"""LanguageModel: a text into ids, and a capture of it, with the network off."""

import pytest
import torch
import transformers as tf

from attention_core import Capture, HeadlightError, LanguageModel, load_model
from tests.architectures import ARCHITECTURES, VOCABULARY
from tests.tiny import SENTENCE, letters, needs_minilm, tiny

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture(scope="module")
def minilm():
    return load_model("minilm-l6")


# ── a text into ids ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text", [SENTENCE, "  two  spaces ", "a\nb\t", "🙂 é 日本 مرحبا", "<s> <br> $x$", "a\x00b", "x"]
)
@pytest.mark.parametrize("name", ["small", pytest.param("minilm", marks=needs_minilm)])
def test_encode_is_exactly_the_tokenizer(request, name, text):
    lm = request.getfixturevalue(name)
    encoded, expected = lm.encode(text), lm.tokenizer(text)
    assert "input_ids" in encoded.inputs and (name == "small" or set(encoded.inputs) == set(expected))
    for given, tensor in encoded.inputs.items():
        assert tensor.tolist() == [expected[given]]
    assert (encoded.left_out, encoded.characters) == (0, len(text))


def test_only_what_the_model_takes_is_given():
    tokenizer = letters()
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    assert "token_type_ids" in tokenizer("ab")
    assert set(LanguageModel(tiny(), tokenizer).encode("ab").inputs) == {"input_ids", "attention_mask"}


def test_a_long_text_is_cut_at_the_context():
    lm = LanguageModel(tiny(context=40), letters())
    text = "".join(chr(33 + n % 90) for n in range(57))
    encoded = lm.encode(text)
    assert encoded.inputs["input_ids"].tolist() == [lm.tokenizer(text)["input_ids"][:40]]
    assert (encoded.left_out, encoded.characters) == (17, 40)
    cap = lm.capture(text)
    assert (cap.left_out, cap.characters, len(cap.tokens)) == (17, 40, 40)
    assert lm.encode(text[:40]).left_out == 0 and lm.encode(text[:41]).left_out == 1


def test_a_long_text_of_words_is_cut_after_a_word(small):
    text = SENTENCE + " " + "The cat sat on the mat, and then it slept. " * 500
    whole = small.tokenizer(text)["input_ids"]
    encoded = small.encode(text)
    assert small.context == 4096 < len(whole)
    assert encoded.inputs["input_ids"].tolist() == [whole[:4096]]
    assert encoded.left_out == len(whole) - 4096
    assert small.tokenizer(text[: encoded.characters])["input_ids"] == whole[:4096]


@needs_minilm
def test_a_cut_text_keeps_its_last_special_token(minilm):
    text = "one two three four five six seven " * 100
    cap = minilm.capture(text)
    assert cap.tokens[0] == "[CLS]" and cap.tokens[-1] == "[SEP]" and len(cap.tokens) == 512
    assert cap.left_out == 702 - 512
    assert text[: cap.characters].split() == text.split()[:510]
    assert len(cap.layers) == 6 and cap.layers[0].query.shape == (12, 512, 32)


def test_the_context_is_the_smaller_limit():
    tokenizer = letters()
    assert LanguageModel(tiny(320), tokenizer).context == 320
    tokenizer.model_max_length = 25
    assert LanguageModel(tiny(320), tokenizer).context == 25
    t5 = ARCHITECTURES["T5: relative positions"].model()
    assert LanguageModel(t5, tokenizer).context == 25 and LanguageModel(t5, letters()).context is None


@pytest.mark.parametrize("text", ["", "   ", "\n\t \u3000"])
def test_an_empty_text_asks_for_a_sentence(small, text):
    with pytest.raises(HeadlightError, match="empty: type a sentence"):
        small.capture(text)


def test_half_a_character_is_refused_in_words(small):
    with pytest.raises(HeadlightError, match="not valid Unicode"):
        small.capture("a\ud800b")


def test_ids_instead_of_a_text(small):
    ids = small.tokenizer(SENTENCE)["input_ids"]
    by_text = small.capture(SENTENCE)
    for given in (ids, torch.tensor(ids), torch.tensor([ids])):
        cap = small.capture(given)
        assert cap.tokens == by_text.tokens
        assert torch.equal(cap.attention(1, 2), by_text.attention(1, 2))
    with pytest.raises(HeadlightError, match="no tokens: give at least one id"):
        small.capture([])


def test_two_texts_of_ids_are_refused(small):
    with pytest.raises(HeadlightError):
        small.capture(torch.tensor([[5, 6, 7], [8, 9, 10]]))


def test_without_a_tokenizer():
    lm = LanguageModel(tiny(), name="mine")
    with pytest.raises(HeadlightError, match="mine came without a tokenizer: give input_ids"):
        lm.capture("hello")
    cap = lm.capture([5, 6, 7])
    assert (cap.tokens, cap.name, cap.query_tokens(0)) == (None, "mine", ["0", "1", "2"])
    assert [name for name, _ in lm.next_tokens(cap)] == [
        str(i) for i in cap.output.logits[0, -1].topk(5).indices.tolist()
    ]
    assert LanguageModel(tiny()).name == "LlamaForCausalLM"


# ── a capture of a text ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_capture_of_the_small_model(small):
    cap = small.capture(SENTENCE)
    assert isinstance(cap, Capture) and cap.name == "small"
    assert len(cap.tokens) == len(small.tokenizer(SENTENCE)["input_ids"])
    assert [(layer.kind, layer.layer) for layer in cap.layers] == [("decoder", n) for n in range(4)]
    assert cap.layers[0].query.shape == (4, len(cap.tokens), 32)
    assert cap.query_tokens(2) == cap.key_tokens(2) == cap.tokens
    assert max(cap.check.weights, cap.check.output) <= 1e-5


@pytest.mark.parametrize("name", ["small", pytest.param("minilm", marks=needs_minilm)])
def test_the_weights_are_the_models_own(request, name):
    lm = request.getfixturevalue(name)
    cap = lm.capture(SENTENCE)
    eager = type(lm.model)(lm.model.config).eval()
    eager.load_state_dict(lm.model.state_dict())
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        own = eager(**lm.encode(SENTENCE).inputs, output_attentions=True)
    for i, weights in enumerate(own.attentions):
        for h in range(weights.shape[1]):
            torch.testing.assert_close(cap.attention(i, h), weights[0, h], atol=1e-5, rtol=0)


def test_only_the_last_logits_are_kept_unless_asked(small):
    last, every = small.capture(SENTENCE), small.capture(SENTENCE, all_logits=True)
    tokens, vocabulary = len(last.tokens), small.model.config.vocab_size
    assert last.output.logits.shape == (1, 1, vocabulary)
    assert every.output.logits.shape == (1, tokens, vocabulary)
    torch.testing.assert_close(last.output.logits[0, -1], every.output.logits[0, -1], atol=1e-4, rtol=1e-4)
    assert every.nbytes - last.nbytes == (tokens - 1) * vocabulary * 4


def test_the_last_logits_alone_are_kept_where_the_model_gives_all():
    torch.manual_seed(0)
    ctrl = tf.CTRLLMHeadModel(tf.CTRLConfig(vocab_size=VOCABULARY, n_embd=40, n_layer=2, n_head=5, dff=56)).eval()
    lm = LanguageModel(ctrl)
    last, every = lm.capture([4, 5, 6, 7]), lm.capture([4, 5, 6, 7], all_logits=True)
    assert last.output.logits.shape == (1, 1, VOCABULARY)
    assert every.output.logits.shape == (1, 4, VOCABULARY)
    torch.testing.assert_close(last.output.logits[0, -1], every.output.logits[0, -1])


def test_next_tokens(small):
    cap = small.capture(SENTENCE)
    probabilities = cap.output.logits[0, -1].double().softmax(dim=-1)
    named = small.next_tokens(cap, count=3)
    best = probabilities.argsort(descending=True)[:3].tolist()
    assert [name for name, _ in named] == small.labels(torch.tensor(best))
    assert [p for _, p in named] == pytest.approx([probabilities[i].item() for i in best], abs=1e-6)


def test_the_decoder_of_an_encoder_decoder_starts_by_itself():
    lm = LanguageModel(ARCHITECTURES["BART"].model())
    cap = lm.capture([4, 5, 6])
    written = [2]  # the most likely token again and again, at most 32, its end token left out
    with torch.no_grad():
        while len(written) <= 32:
            logits = lm.model(input_ids=torch.tensor([[4, 5, 6]]), decoder_input_ids=torch.tensor([written])).logits
            best = int(logits[0, -1].argmax())
            if best == lm.model.generation_config.eos_token_id:
                break
            written.append(best)
    assert len(written) > 2 and cap.inputs["decoder_input_ids"].tolist() == [written]
    assert [layer.query.shape[1] for layer in cap.layers] == [3, 3] + [len(written)] * 6
    given = lm.capture([4, 5, 6], decoder_input_ids=torch.tensor([[2, 7]]))
    assert given.layers[2].query.shape[1] == 2
