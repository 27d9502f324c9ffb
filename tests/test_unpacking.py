"""A GGUF file: unpacked exactly and once, or told in a sentence why not, with the network off."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import gguf
import pytest
import torch
import transformers as tf

from attention_core import HeadlightError, load_model, memory, unpacking
from tests.gguf_files import KIND, gguf_name, llama, stored, write_gguf

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADLIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def unpacked(monkeypatch):
    """The files that were really unpacked, in order."""
    files, unpack = [], unpacking._unpack

    def counted(file, *args):
        files.append(file)
        return unpack(file, *args)

    monkeypatch.setattr(unpacking, "_unpack", counted)
    return files


@pytest.fixture
def file(tmp_path):
    return write_gguf(tmp_path / "mine.gguf", llama())


def silent(stage: str) -> None:
    pass


def assert_same(model: tf.PreTrainedModel, expected: dict[str, torch.Tensor]) -> None:
    state = model.state_dict()
    assert set(state) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name


# ── what is loaded is what the file says ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("again", [False, True])
def test_f16_is_loaded_exactly(file, unpacked, again):
    """The original weights are float16 numbers: they come back to the bit, and so does the original's attention."""
    original = llama()
    lm = load_model(str(file))
    if again:
        lm = load_model(str(file))
    assert len(unpacked) == 1 and (lm.name, lm.revision) == ("mine.gguf", "")
    assert lm.model.dtype == torch.float32 and type(lm.model) is tf.LlamaForCausalLM
    assert_same(lm.model, original.state_dict())
    original.set_attn_implementation("eager")
    cap = lm.capture("The cat", all_logits=True)
    assert cap.tokens == ["T", "he", "·cat"]
    with torch.no_grad():
        own = original(torch.tensor([[30, 35, 36]]), output_attentions=True)
    for i, weights in enumerate(own.attentions):
        ours = torch.stack([cap.attention(i, h) for h in range(6)])
        torch.testing.assert_close(ours, weights[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(cap.output.logits, own.logits, atol=1e-4, rtol=1e-4)


def by_hand(file: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a file through gguf's own dequantize, queries and keys put back in transformers' order."""
    tensors = {t.name: torch.tensor(gguf.dequantize(t.data, t.tensor_type)) for t in gguf.GGUFReader(file).tensors}
    expected = {}
    for name, parameter in llama().state_dict().items():
        order = torch.arange(parameter.shape[0], dtype=torch.float32)[:, None]
        rows = torch.tensor(stored(name, order)).flatten().long().argsort()
        expected[name] = tensors[gguf_name(name)][rows]
    return expected


@pytest.mark.parametrize("kind", [KIND.Q8_0, KIND.Q4_0, KIND.F16])
def test_quantised_weights_are_unpacked_exactly(tmp_path, kind):
    file = write_gguf(tmp_path / "mine.gguf", llama(), kind)
    expected = by_hand(file)
    first, second = load_model(str(file)), load_model(str(file))
    assert_same(first.model, expected)
    assert_same(second.model, expected)
    where = {"gguf_file": file.name, "dtype": torch.float32, "quantization_config": tf.GgufConfig(dequantize=True)}
    assert_same(second.model, tf.AutoModelForCausalLM.from_pretrained(tmp_path, **where).state_dict())
    changed = (expected["lm_head.weight"] - llama().lm_head.weight).abs().max()
    assert (changed == 0) == (kind is KIND.F16), "a quantised file is not the original"


@pytest.mark.parametrize("dtype, expected", [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_sixteen_bits(file, dtype, expected):
    assert_same(load_model(str(file), dtype=dtype).model, llama().to(expected).state_dict())


def test_one_byte(file):
    lm = load_model(str(file), dtype="int8")
    weight = lm.model.model.layers[1].mlp.up_proj.weight
    assert weight.qdata.dtype == torch.int8 and lm.check.weights < 1e-5
    assert 0 < (weight.dequantize() - llama().model.layers[1].mlp.up_proj.weight).abs().max() < 0.01


# ── what is bad gets its sentence, before anything is unpacked ──────────────────────────────────────────────────────


def refused(file: Path, sentence: str, **options) -> None:
    with pytest.raises(HeadlightError, match=sentence) as error:
        load_model(str(file), **options)
    assert len(str(error.value)) < 600 and "\n" not in str(error.value)


def test_a_gigabyte_of_text_named_gguf(tmp_path, unpacked, monkeypatch):
    file = tmp_path / "big.gguf"
    with file.open("wb") as opened:
        opened.write(b"Once upon a time")
        opened.truncate(1 << 30)
    monkeypatch.setattr(unpacking, "read_gguf_metadata", lambda path: pytest.fail("the file was read"))
    refused(file, "big.gguf is no GGUF file, whatever its name: choose another file")
    assert not unpacked


@pytest.mark.parametrize("length", [0, 3, 4, 20, 300, 2000, -1, -5000])
def test_a_file_that_was_cut_short(file, unpacked, length):
    whole = file.read_bytes()
    file.write_bytes(whole[:length])
    refused(file, "no GGUF file" if 0 <= length < 4 else "mine.gguf .*was cut short.*[Cc]opy")
    assert not unpacked


def test_a_damaged_header(file, unpacked):
    whole = file.read_bytes()
    file.write_bytes(whole[:24] + b"\xff" * 64 + whole[88:])
    refused(file, "mine.gguf is damaged or was cut short: copy or download it again")
    file.write_bytes(whole[:4] + (77).to_bytes(4, "little") + whole[8:])
    refused(file, "mine.gguf cannot be read: .*v77.* Choose another file")
    assert not unpacked


def test_an_architecture_that_transformers_cannot_read(tmp_path, unpacked):
    file = write_gguf(tmp_path / "mine.gguf", llama(), architecture="plamo9")
    refused(file, "holds the architecture plamo9, which transformers cannot read from GGUF: give the transformers fold")
    refused(write_gguf(tmp_path / "m.gguf", llama(), architecture="mamba"), "state-space model: it has no attention")
    assert not unpacked


def test_no_tokenizer(tmp_path, unpacked):
    file = write_gguf(tmp_path / "mine.gguf", llama(), tokenizer=False)
    refused(file, "mine.gguf has no tokenizer in it: convert the model again together with its tokenizer")
    assert not unpacked


def test_a_missing_tensor_is_not_invented(tmp_path):
    file = write_gguf(tmp_path / "mine.gguf", llama(), without="model.layers.1.mlp.up_proj.weight")
    refused(file, r"mine.gguf lacks weights \(model.layers.1.mlp.up_proj.weight …\)")


def test_what_does_not_fit_is_refused(file, monkeypatch, unpacked):
    size = sum(p.numel() for p in llama().parameters())
    monkeypatch.setattr(memory, "free_bytes", lambda device: size)
    monkeypatch.setattr(unpacking, "free_bytes", lambda device: size)
    refused(file, "mine.gguf, which is unpacked in float32 first, needs about .* GB are free in this machine's memory")
    refused(file, "mine.gguf needs about .* in bfloat16", dtype="bfloat16")
    assert not unpacked


def test_sixteen_bits_that_fit_only_as_such_are_unpacked_straight(file, cache, monkeypatch):
    size = sum(p.numel() for p in llama().parameters())
    for module in (memory, unpacking):
        monkeypatch.setattr(module, "free_bytes", lambda device: 3 * size)
    assert_same(load_model(str(file), dtype="bfloat16").model, llama().to(torch.bfloat16).state_dict())
    assert not cache.exists()


# ── the cache ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_of_the_same_name_and_size_is_another_one(tmp_path, unpacked):
    folders = tmp_path / "a", tmp_path / "b"
    for seed, folder in enumerate(folders):
        folder.mkdir()
        write_gguf(folder / "mine.gguf", llama(seed))
    files = [folder / "mine.gguf" for folder in folders]
    assert files[0].stat().st_size == files[1].stat().st_size
    for seed, file in enumerate(files):
        assert_same(load_model(str(file)).model, llama(seed).state_dict())
    shutil.copyfile(files[1], files[0])  # changed in its place
    assert_same(load_model(str(files[0])).model, llama(1).state_dict())
    (tmp_path / "link").symlink_to(folders[1])
    load_model(str(tmp_path / "link" / "mine.gguf"))  # the same file by another way
    assert unpacked == [files[0], files[1], files[0]]


def test_only_the_last_used_files_stay_in_the_cache(tmp_path, cache, unpacked):
    files = [write_gguf(tmp_path / f"m{n}.gguf", llama(n)) for n in range(unpacking.KEPT_FILES + 1)]
    for n, file in enumerate(files[:-1]):
        load_model(str(file))
        place = next(p for p in (cache / "gguf").iterdir() if p.name.startswith(f"m{n}-") and p.is_dir())
        os.utime(place, (n, n))  # long ago, one after the other
    load_model(str(files[0]))
    load_model(str(files[-1]))
    stay = sorted(p.name[:2] for p in (cache / "gguf").iterdir() if p.is_dir())
    assert stay == ["m0", *(f"m{n}" for n in range(2, unpacking.KEPT_FILES + 1))]
    assert len(unpacked) == unpacking.KEPT_FILES + 1


def test_a_file_that_comes_with_us_is_kept_rounded(file, cache):
    first = unpacking.load_gguf(file, silent, kept_as="ours").model
    second = unpacking.load_gguf(file, silent, kept_as="ours").model
    assert_same(first, {name: t.bfloat16().float() for name, t in llama().state_dict().items()})
    assert_same(second, first.state_dict())
    assert [p.name for p in cache.iterdir() if p.is_dir()] == [f"ours-{file.stat().st_size}"]


def test_threads_at_once_unpack_once(file, unpacked):
    loaded, start = [], threading.Barrier(4)

    def load():
        start.wait()
        loaded.append(unpacking.load_gguf(file, silent))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(loaded) == 4 and unpacked == [file]


PROCESS = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from attention_core import unpacking
log, file, meeting = map(Path, sys.argv[2:5])
unpack = unpacking._unpack

def slow(*args):
    with log.open("a") as lines:
        lines.write("unpacked\\n")
    time.sleep(1.5)
    return unpack(*args)

unpacking._unpack = slow
(meeting / sys.argv[5]).touch()
while len(list(meeting.iterdir())) < 2:
    time.sleep(0.01)
loaded = unpacking.load_gguf(file, print)
assert loaded.tokenizer("The cat")["input_ids"] == [30, 35, 36] and loaded.model.dtype == torch.float32
"""


def test_two_processes_at_once_unpack_once(file, tmp_path):
    (tmp_path / "meeting").mkdir()
    log = tmp_path / "log"
    paths = [str(Path(__file__).parents[1]), str(log), str(file), str(tmp_path / "meeting")]
    runs = [
        subprocess.Popen([sys.executable, "-c", PROCESS, *paths, name], stdout=-1, stderr=-1, text=True)
        for name in "ab"
    ]
    results = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], results
    assert log.read_text().split() == ["unpacked"]
    assert sum("Waiting" in out for out, _ in results) == 1, "who comes second is told what it waits for"


def _refuse(*args, **kwargs):
    raise OSError(30, "Read-only file system")


@pytest.mark.parametrize("kept_as", ["", "ours"])
@pytest.mark.parametrize("what", ["mkdir", "lock", "mkdtemp", "save", "full"])
def test_a_cache_that_cannot_be_written_still_gives_the_model(file, cache, unpacked, monkeypatch, what, kept_as):
    with monkeypatch.context() as broken:
        if what == "mkdir":
            broken.setattr(Path, "mkdir", _refuse)
        elif what == "lock":
            broken.setattr(unpacking.FileLock, "acquire", _refuse)
        elif what == "mkdtemp":
            broken.setattr(unpacking.tempfile, "mkdtemp", _refuse)
        elif what == "save":  # the disk fills up half-way
            broken.setattr(tf.PreTrainedTokenizerFast, "save_pretrained", _refuse)
        else:
            broken.setattr(unpacking.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
        unkept = unpacking.load_gguf(file, silent, kept_as=kept_as)
        with pytest.raises(HeadlightError, match="in int8 needs a folder .*: set HEADLIGHT_CACHE to one"):
            unpacking.load_gguf(file, silent, "int8", kept_as=kept_as)
    assert unkept.tokenizer("The cat")["input_ids"] and unpacked
    assert not any(p.name != "gguf" for p in cache.glob("**/*") if p.is_dir()), "a half-written folder stays behind"
    kept = unpacking.load_gguf(file, silent, kept_as=kept_as)
    assert unkept.model.dtype == kept.model.dtype == torch.float32
    assert_same(unkept.model, kept.model.state_dict())


def test_a_kept_model_needs_no_writing(file, unpacked, monkeypatch):
    unpacking.load_gguf(file, silent)
    for owner, name in (
        (Path, "mkdir"),
        (unpacking.FileLock, "acquire"),
        (unpacking.tempfile, "mkdtemp"),
        (os, "utime"),
    ):
        monkeypatch.setattr(owner, name, _refuse)
    unpacking.load_gguf(file, silent)
    assert len(unpacked) == 1
