"""A run as one .npz file: what NumPy reads of it, and a Run opened again without the model."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch

from attention_core import HeadlightError, LanguageModel
from attention_core.generation import branch, decode
from attention_core.run import Run
from attention_core.run_file import open_run, run_bytes, run_json
from attention_core.sampling import Sampling
from tests.architectures import ARCHITECTURES, some_ids
from tests.saved import same_bits
from tests.tiny import letters, tiny

NAMES = [
    "Llama: grouped",
    "DeepSeek-V3: latent, values of another size",
    "Gemma 3: local and global layers",
    "gpt-oss: learned sinks",
    "DiffLlama: attention twice in a layer",
    "MiniMax: linear attention between",
    "T5: relative positions",
]
PLAIN = ("number", "input_tokens", "token", "candidates", "read", "cache_bytes", "state_bytes", "seconds", "untouched")
PLAIN += ("seconds_uncached", "max_logit_difference", "same_token", "forced", "ends", "positions", "dropped")


def made(name: str) -> Run:
    model = ARCHITECTURES[name].model()
    model.generation_config.eos_token_id = None
    return Run.of(decode(LanguageModel(model, name=name), some_ids(11), 5, forced={2: 40}))


@pytest.fixture(scope="module")
def written() -> Run:
    """With texts, sampling and a stop word."""
    lm = LanguageModel(tiny(), letters(), name="Tiny")
    lm.model.generation_config.eos_token_id = None
    sampling = Sampling(do_sample=True, temperature=0.9, top_k=30, top_p=0.95, seed=4, stop=("never there",))
    return Run.of(decode(lm, "<s> &amp; “é”", 6, sampling=sampling))


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_opened_again_without_the_model_to_the_bit(name):
    run = made(name)
    opened = open_run(run_bytes(run))
    others = {"names": None, "config": None}
    assert vars(opened.facts) | others == vars(run.facts) | others
    assert opened.facts.config.to_json_string(False) == run.facts.config.to_json_string(False)
    assert len(opened.rows) == len(run.rows) and opened.tokens == run.tokens and opened.texts == run.texts
    for mine, theirs in zip(opened.steps, run.steps, strict=True):
        assert all(getattr(mine, field) == getattr(theirs, field) for field in PLAIN)
        assert mine.logits is None and mine.facts is opened.facts
        for one, other in ((mine.cache, theirs.cache), (mine.cross_cache, theirs.cross_cache)):
            assert [pair is None for pair in one] == [pair is None for pair in other]
            assert all(same_bits(a, b) for p, q in zip(one, other, strict=True) if p for a, b in zip(p, q, strict=True))
        assert len(mine.layers) == len(theirs.layers) > 0
        for i, (one, other) in enumerate(zip(mine.layers, theirs.layers, strict=True)):
            assert same_bits(one.query, other.query) and same_bits(one.value, other.value)
            for head in range(one.heads):
                assert same_bits(mine.attention(i, head), theirs.attention(i, head))
    assert run_bytes(opened) == run_bytes(opened) and run_json(opened) == run_json(run)


def test_the_rows_are_in_the_file_once(written):
    data = run_bytes(written)
    held = sum(rows.nbytes for rows in written.rows)
    arrays = np.load(io.BytesIO(data))
    assert sum(arrays[n].nbytes for n in arrays.files if n.startswith(("key_", "value_"))) == held
    assert [opened.untyped_storage().nbytes() for opened, _ in open_run(data).steps[0].cache] == 3 * [held // 6]


def test_numpy_reads_it_by_clear_names(written):
    arrays = np.load(io.BytesIO(run_bytes(written, attention=True)), allow_pickle=False)
    last = written.steps[-1]
    for layer, (key, value) in enumerate(last.cache):
        assert np.array_equal(arrays[f"key_{layer}"], key.numpy())
        assert np.array_equal(arrays[f"value_{layer}"], value.numpy())
        assert arrays[f"position_{layer}"].tolist() == list(range(last.read))
        assert arrays[f"query_{layer}"].shape == (6, 6, 10)
        for step in written.steps:
            strips = torch.cat([step.attention(layer, head) for head in range(6)])
            assert np.array_equal(arrays[f"attention_{layer}_{step.number}"], strips.numpy())
    described = json.loads(arrays["run.json"])
    assert described == json.loads(run_json(written)) | {"dtypes": {}}
    assert described["sampling"] == {
        "do_sample": True,
        "temperature": 0.9,
        "top_k": 30,
        "top_p": 0.95,
        "seed": 4,
        "stop": ["never there"],
    }
    assert [step["text"] for step in described["steps"]] == written.texts
    assert [c[0] for c in described["steps"][2]["candidates"]] == [c.token for c in written.steps[2].candidates]


def test_texts_and_sampling_come_back(written):
    opened = open_run(run_bytes(written))
    assert opened.facts.text == "<s> &amp; “é”" and opened.facts.sampling == written.facts.sampling
    assert [s.input_texts for s in opened.steps] == [s.input_texts for s in written.steps]
    assert [s.candidate_texts for s in opened.steps] == [s.candidate_texts for s in written.steps]
    assert opened.ends == written.ends


def test_sixteen_bits_come_back_as_they_were():
    lm = LanguageModel(tiny().to(torch.bfloat16))
    run = Run.of(decode(lm, some_ids(7), 3))
    opened = open_run(run_bytes(run))
    for (key, value), (own_key, own_value) in zip(opened.steps[1].cache, run.steps[1].cache, strict=True):
        assert key.dtype == torch.bfloat16 and same_bits(key, own_key) and same_bits(value, own_value)
    assert np.load(io.BytesIO(run_bytes(run)))["key_0"].dtype == np.float32


def test_a_branch_keeps_both_sets_of_rows_and_a_file_can_be_branched(written):
    lm = LanguageModel(tiny(), letters(), name="Tiny")
    lm.model.generation_config.eos_token_id = None
    new = Run.of(branch(lm, open_run(run_bytes(written)), 2, 50))
    again = Run.of(branch(lm, written, 2, 50))
    assert new.tokens == again.tokens and new.tokens[:3] == [*written.tokens[:2], 50]
    opened = open_run(run_bytes(again))
    assert len(opened.rows) == 6 and opened.facts.branched_at == 2
    assert "key_0_1" in np.load(io.BytesIO(run_bytes(again))).files
    for mine, theirs in zip(opened.steps, again.steps, strict=True):
        assert all(
            same_bits(*pair) for p, q in zip(mine.cache, theirs.cache, strict=True) for pair in zip(p, q, strict=True)
        )


# ── files that are not to be trusted ────────────────────────────────────────────────────────────────────────────────


def changed(data: bytes, change) -> bytes:
    """The file with its description changed, everything else as it was."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for part in old.infolist():
            content = old.read(part)
            if part.filename == "run.json":
                whole = json.loads(content)
                change(whole)
                content = json.dumps(whole).encode()
            new.writestr(part.filename, content)
    return out.getvalue()


def put(*path):
    """Set what lies at a path in the description: put("steps", 0, "token", "x")."""
    *way, last, value = path

    def change(whole):
        for part in way:
            whole = whole[part]
        whole[last] = value

    return change


@pytest.mark.parametrize(
    "change, says",
    [
        (put("mark", "other"), "not a run"),
        (put("version", 2), "another version"),
        (put("steps", []), "fits together"),
        (put("steps", {}), "fits together"),
        (put("steps", 0, None), "fits together"),
        (put("steps", 1, "token", "x"), "fits together"),
        (put("steps", 1, "input_tokens", []), "fits together"),
        (put("steps", 1, "candidates", [[1, 2]]), "fits together"),
        (put("steps", 1, "kept", 0, [0, 0, 99]), "fits together"),
        (put("steps", 1, "kept", 0, [9, 0, 3]), "fits together"),
        (put("steps", 1, "readings", 0, "call", 99), "fits together"),
        (put("steps", 1, "readings", 0, "query", "key_0"), "fits together"),
        (put("steps", 1, "readings", 0, "query", "../x"), "fits together"),
        (put("steps", 1, "readings", 0, "positions", [3, 3]), "fits together"),
        (put("steps", 1, "readings", 0, "bias", "key_1"), "fits together"),
        (put("steps", 1, "readings", 0, "mask", "query_0"), "fits together"),
        (put("steps", 1, "readings", 0, "weights", "query_0"), "fits together"),
        (put("calls", 0, "kind", "encoder"), "fits together"),
        (put("calls", 0, "scaling", "1"), "fits together"),
        (put("rows", 0, "key", "query_0"), "fits together"),
        (put("rows", 0, "first", -1), "fits together"),
        (put("names", [[1]]), "fits together"),
        (put("facts", "prompt", ["a"]), "fits together"),
        (put("sampling", "temperature", -1), "temperature"),
        (put("dtypes", {"none": "bfloat16"}), "fits together"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(written, change, says):
    with pytest.raises(HeadlightError, match=says):
        open_run(changed(run_bytes(written), change))


def test_other_and_spoilt_files_are_refused(written):
    data = run_bytes(written)
    for bad in (b"", b"PK", b"x" * 99, data[: len(data) // 2], data[:-9]):
        with pytest.raises(HeadlightError, match="Choose one|again"):
            open_run(bad)
    place = data.index(b"NUMPY") + 300
    with pytest.raises(HeadlightError, match="damaged"):
        open_run(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    other = io.BytesIO()
    np.savez(other, a=np.zeros(3))
    with pytest.raises(HeadlightError, match="not a run"):
        open_run(other.getvalue())


def test_pickles_are_never_opened(written):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(run_bytes(written))) as old, zipfile.ZipFile(out, "w") as new:
        for part in old.infolist():
            content = old.read(part)
            if part.filename == "key_0.npy":
                pickled = io.BytesIO()
                np.save(pickled, np.array([{"a": 1}], dtype=object), allow_pickle=True)
                content = pickled.getvalue()
            new.writestr(part.filename, content)
    with pytest.raises(HeadlightError, match="damaged"):
        open_run(out.getvalue())
