"""Files of Captures: every field and every tensor to the bit; what is shared stays shared."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from attention_core import Capture, HeadlightError, capture, stored
from tests.architectures import ARCHITECTURES, make, some_ids
from tests.saved import LABELS, assert_equal, labelled, same_bits
from tests.weights_only_models import WEIGHTS_ONLY

# ── equal to the bit ────────────────────────────────────────────────────────────────────────────────────────────────

KINDS = ["GPT-2: learned positions", "Mistral: sliding window", "Gemma 2: soft cap", "gpt-oss: learned sinks"]
KINDS += ["DeepSeek-V3: latent, values of another size", "DiffLlama: attention twice in a layer", "BERT", "Splinter"]
KINDS += ["T5: relative positions", "BART", "Bloom: ALiBi", "DeBERTa"]


@pytest.mark.parametrize("name", KINDS)
def test_everything_comes_back_to_the_bit(name):
    architecture = (ARCHITECTURES | WEIGHTS_ONLY)[name]
    model = architecture.model()
    cap = capture(model, **architecture.inputs(model), output_hidden_states=True)
    loaded = Capture.from_bytes(cap.to_bytes())
    assert_equal(loaded, cap)
    assert any("hidden_states" in part for part in loaded.output)
    for i, layer in enumerate(cap.layers):
        assert torch.equal(loaded.attention(i, layer.heads - 1), cap.attention(i, layer.heads - 1))
        assert torch.equal(loaded.visible(i, 0), cap.visible(i, 0)) and loaded.query_tokens(i) == cap.query_tokens(i)
    assert_equal(Capture.from_bytes(loaded.to_bytes()), cap)


def test_padding_and_a_past_come_back_too():
    model, mask = make("Mistral: sliding window"), torch.ones(1, 13, dtype=torch.long)
    mask[0, :4] = 0
    cap = capture(model, input_ids=some_ids(13), attention_mask=mask)
    assert_equal(Capture.from_bytes(cap.to_bytes()), cap)
    with torch.no_grad():
        past = model(input_ids=some_ids(12), use_cache=True).past_key_values
    cap = capture(model, input_ids=some_ids(2), past_key_values=past, use_cache=True)
    assert "past_key_values" in cap.output
    assert_equal(Capture.from_bytes(cap.to_bytes()), cap)


def test_labels_and_numbers_come_back():
    loaded = Capture.from_bytes(labelled().to_bytes())
    assert_equal(loaded, labelled())
    assert {name: getattr(loaded, name) for name in LABELS} == LABELS
    assert loaded.likely[0][1].hex() == (0.1 + 0.2).hex() and isinstance(loaded.likely[0], tuple)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_and_odd_numbers_come_back(dtype):
    cap = capture(make("GPT-2: learned positions").to(dtype), input_ids=some_ids(9))
    odd = torch.tensor([float("nan"), float("-inf"), -0.0, 1e-40], dtype=dtype)
    cap.layers[1].key[0, 0, :4] = odd
    cap.output.logits[0, 0, :4] = odd
    loaded = Capture.from_bytes(cap.to_bytes())
    assert_equal(loaded, cap)
    assert loaded.layers[1].key.dtype == dtype and loaded.layers[1].key[0, 0, 2].signbit()


def test_what_layers_share_is_stored_once_and_shared_again():
    cap = capture(make("Mistral: sliding window"), input_ids=some_ids(300))
    data = cap.to_bytes()
    loaded = Capture.from_bytes(data)
    assert loaded.layers[0].mask is not None and all(layer.mask is loaded.layers[0].mask for layer in loaded.layers)
    assert len(data) < cap.nbytes + 20_000 and loaded.nbytes == cap.nbytes


def test_a_broadcast_tensor_is_stored_once(tmp_path):
    wide = torch.randn(1, 9, 9).expand(6, 9, 9)
    layers = [dataclasses.replace(layer, bias=wide) for layer in labelled().layers]
    cap = dataclasses.replace(labelled(), layers=layers)
    cap.save(tmp_path / "run.safetensors")
    with safe_open(tmp_path / "run.safetensors", "pt") as file:
        shapes = [tuple(file.get_slice(name).get_shape()) for name in file.offset_keys()]
    assert [shape for shape in shapes if shape[1:] == (9, 9)] == [(1, 9, 9)]
    loaded = Capture.load(tmp_path / "run.safetensors")
    assert_equal(loaded, cap)
    assert loaded.layers[0].bias.untyped_storage().nbytes() == 9 * 9 * 4


def test_a_view_is_stored_compactly():
    large = torch.randn(9, 1000, 10)
    narrow = dataclasses.replace(labelled().layers[0], query=large[:, :6].transpose(0, 1))
    cap = dataclasses.replace(labelled(), layers=[narrow, *labelled().layers[1:]])
    data = cap.to_bytes()
    assert len(data) < large.nbytes / 5
    assert_equal(Capture.from_bytes(data), cap)


def test_the_file_is_one_safetensors_file_that_anyone_can_read(tmp_path):
    labelled().save(tmp_path / "run.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]
    with safe_open(tmp_path / "run.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["facts"])
        query = file.get_tensor(facts["layers"][2]["query"])
    assert torch.equal(query, labelled().layers[2].query) and facts["revision"] == "0a1b"


def test_loading_imports_no_model(tmp_path):
    labelled().save(tmp_path / "run.safetensors")
    script = """
import sys
from attention_core import Capture
before = set(sys.modules)
assert "transformers.models.llama.modeling_llama" not in before
cap = Capture.load(sys.argv[1])
assert cap.output.logits.shape == (1, 9, 97) and len(cap.thumbnails()) == 3 and cap.query_tokens(0)[1] == "<s>"
assert not [name for name in set(sys.modules) - before if name.startswith("transformers")]
print("opened")
"""
    command = [sys.executable, "-c", script, str(tmp_path / "run.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=120)
    assert done.stdout.strip() == "opened", done.stderr[-2000:]


# ── written whole or not at all ─────────────────────────────────────────────────────────────────────────────────────


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    labelled().save(path)
    before = path.read_bytes()

    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(HeadlightError, match=r"could not be written \(No space left on device\): choose another place"):
        dataclasses.replace(labelled(), name="other").save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_who_reads_the_old_file_meanwhile_reads_it_to_its_end(tmp_path):
    path = tmp_path / "run.safetensors"
    labelled().save(path)
    before = path.read_bytes()
    with open(path, "rb") as old:
        dataclasses.replace(labelled(), name="other").save(path)
        assert old.read() == before
    assert Capture.load(path).name == "other"


def test_a_place_that_is_not_there_is_said(tmp_path):
    with pytest.raises(HeadlightError, match="could not be written .*: choose another place"):
        labelled().save(tmp_path / "no" / "run.safetensors")
    for place in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(HeadlightError, match="could not be read .*: choose a saved file"):
            Capture.load(place)


# ── the format alone ────────────────────────────────────────────────────────────────────────────────────────────────


def test_tensors_that_overlap_are_packed_apart():
    base = torch.arange(24.0).reshape(4, 6)
    given = {"a": base, "b": base, "c": base[1:3], "d": base[:, ::2], "e": torch.zeros(0, 3), "f": torch.zeros(0)}
    given |= {"g": torch.tensor(3.5), "h": torch.tensor([True, False])}
    tensors, facts = stored.unpack(stored.pack(given, {"x": [1, None, "é"]}))
    assert facts == {"x": [1, None, "é"]} and tensors.keys() == given.keys()
    assert all(same_bits(tensors[name], given[name]) for name in given)


def test_the_checksum_is_sha256_of_the_facts_and_of_every_tensor(tmp_path):
    data = stored.pack({"b": torch.tensor([1, 2]), "a": torch.ones(2, 3)}, {"n": 1})
    digest = hashlib.sha256(b'{"n": 1}')
    digest.update(b"\na torch.float32 (2, 3)\n" + torch.ones(2, 3).numpy().tobytes())
    digest.update(b"\nb torch.int64 (2,)\n" + torch.tensor([1, 2]).numpy().tobytes())
    (tmp_path / "file").write_bytes(data)
    with safe_open(tmp_path / "file", "pt") as file:
        assert file.metadata()["sha256"] == digest.hexdigest()
