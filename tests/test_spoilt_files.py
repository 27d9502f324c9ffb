"""A file that is damaged, forged, cut short or not ours is refused with a sentence: nothing in it is trusted."""

import copy
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as plain_save
from torch import Tensor

from attention_core import Capture, HeadlightError, stored
from tests.saved import assert_equal, labelled

# ── refused with a sentence ─────────────────────────────────────────────────────────────────────────────────────────


def refused(data: bytes, match: str, folder: Path | None = None) -> None:
    with pytest.raises(HeadlightError, match=match) as caught:
        Capture.from_bytes(data)
    assert str(caught.value).endswith(".") and len(str(caught.value)) < 300
    if folder is not None:
        (folder / "bad.safetensors").write_bytes(data)
        with pytest.raises(HeadlightError, match=match):
            Capture.load(folder / "bad.safetensors")


def body_of(data: bytes) -> int:
    """Where the tensors begin."""
    return 8 + int.from_bytes(data[:8], "little")


def test_what_is_no_recorded_run(tmp_path):
    for data in (b"", b"short", b"once upon a time " * 1000, os.urandom(5000), b"\x80\x04\x95" + bytes(200), bytes(99)):
        refused(data, "not a recorded run that Headlight saved", tmp_path)
    for metadata in (None, {"format": "pt", "facts": "{}"}):
        refused(plain_save({"weight": torch.ones(3, 5)}, metadata), "not a recorded run", tmp_path)


@pytest.mark.parametrize("size", [0, 1, (64 << 20) + 1, 1 << 40, (1 << 64) - 1])
def test_absurd_header_sizes(size, tmp_path):
    refused(size.to_bytes(8, "little") + labelled().to_bytes()[8:], "not a recorded run", tmp_path)


def test_a_huge_file_of_another_kind_is_not_read(tmp_path):
    with open(tmp_path / "huge.safetensors", "wb") as file:
        file.write(b"text " * 10)
        file.truncate(1 << 42)  # sparse: takes no room on the disk, and would not fit into memory
    with pytest.raises(HeadlightError, match="not a recorded run"):
        Capture.load(tmp_path / "huge.safetensors")


def test_cut_short_or_longer(tmp_path):
    data = labelled().to_bytes()
    start = body_of(data)
    for end in (start // 2, start - 1, start, start + 1, (start + len(data)) // 2, len(data) - 1):
        refused(data[:end], "cut short", tmp_path)
    refused(data + b"\0", "damaged", tmp_path)


def test_flipped_bits_of_the_data_are_noticed():
    data = labelled().to_bytes()
    places = torch.randint(body_of(data), len(data), (60,), generator=torch.Generator().manual_seed(0)).tolist()
    for at in [body_of(data), *places, len(data) - 1]:
        for bit in (0, 7):
            spoilt = bytearray(data)
            spoilt[at] ^= 1 << bit
            refused(bytes(spoilt), "damaged")


def test_flipped_bits_of_the_header_change_nothing_unnoticed():
    """The facts, the names, the shapes, the checksum itself."""
    data = labelled().to_bytes()
    noticed, places = 0, range(8, body_of(data), 23)
    for at in places:
        spoilt = bytearray(data)
        spoilt[at] ^= 1
        try:
            loaded = Capture.from_bytes(bytes(spoilt))
        except HeadlightError:
            noticed += 1
        else:
            assert_equal(loaded, labelled())  # white space, or the like
    assert noticed > 0.9 * len(places)


@pytest.mark.parametrize(
    "version, sentence",
    [("2", "newer Headlight: update"), ("9" * 20, "newer Headlight: update"), ("0", "older Headlight: record the run")]
    + [(version, "older Headlight: record the run again") for version in ("", "1.5", "²", None)],
)
def test_another_version(version, sentence, tmp_path):
    data = labelled().to_bytes()
    header = json.loads(data[8 : body_of(data)])
    header["__metadata__"] |= {"version": version}
    if version is None:
        del header["__metadata__"]["version"]
    text = json.dumps(header).encode()
    refused(len(text).to_bytes(8, "little") + text + data[body_of(data) :], sentence, tmp_path)


def test_a_header_nested_without_end():
    text = b'{"__metadata__":' + b"[" * 200_000
    refused(len(text).to_bytes(8, "little") + text, "damaged|not a recorded run")


def forged(path: tuple, value: object, tensors: dict[str, Tensor] | None = None) -> bytes:
    """A file with a right checksum and another fact at a path; LEFT_OUT: without it."""
    held, facts = stored.unpack(labelled().to_bytes())
    *where, last = path
    at = changed = copy.deepcopy(facts)
    for step in where:
        at = at[step]
    if value is LEFT_OUT:
        del at[last]
    else:
        at[last] = value
    return stored.pack(held | (tensors or {}), changed)


LEFT_OUT = object()
DEEP: object = "t0"
for _name in "abcdefghi":
    DEEP = {_name: DEEP}
WRONG = [(("layers", 1, "query"), value) for value in ("nothing", ["t0"], None, 3)]
WRONG += [(("layers", 1, "kind"), value) for value in ("sideways", ["decoder"], "__import__('os').getcwd()")]
WRONG += [(("layers", 1, "layer"), value) for value in (-1, True, 1.5, 1 << 70)]
WRONG += [(("layers", 1, "scaling"), value) for value in ("0.3", None)]
WRONG += [(("layers", 1, name), value) for name, value in (("softcap", "no"), ("causal", 1), ("module", None))]
WRONG += [(("layers", 1, "module"), LEFT_OUT), (("layers", 1), None), (("layers",), {"0": {}}), (("layers",), LEFT_OUT)]
WRONG += [(("inputs",), ["input_ids"]), (("inputs", "input_ids"), 3), (("output",), None), (("output", "logits"), DEEP)]
WRONG += [(("output", "logits"), "t999"), (("check",), {}), (("check", "weights"), "0"), (("check", "calls"), -3)]
WRONG += [(("check", "reason"), None), (("tokens",), ["a"]), (("tokens",), "abcdefghi"), (("tokens",), [1] * 9)]
WRONG += [(("words",), [0] * 8), (("words",), [0.5] * 9), (("segments",), [True] * 9), (("special",), [0] * 9)]
WRONG += [(("likely",), value) for value in ([["a"]], [["a", "b"]], None)]
WRONG += [
    (("predicts",), "yes"),
    (("text",), None),
    (("left_out",), -1),
    (("characters",), 1e300),
    (("name",), LEFT_OUT),
]
WRONG += [(("expanded",), value) for value in (None, {"t0": [1 << 40, 1, 1]}, {"t0": [-1]}, {"nothing": [3]})]


@pytest.mark.parametrize("path, value", WRONG)
def test_facts_that_do_not_fit(path, value):
    refused(forged(path, value), "no recorded run that fits together")


@pytest.mark.parametrize(
    "field, tensor",
    [("query", torch.zeros(shape)) for shape in ((6, 9), (6, 9, 11), (5, 9, 10), (6, 0, 10), (0, 9, 10))]
    + [("key", torch.zeros(shape)) for shape in ((0, 9, 10), (2, 8, 10), (4, 9, 10))]
    + [("value", torch.zeros(shape)) for shape in ((2, 8, 10), (10,))]
    + [("query", torch.zeros(6, 9, 10).long()), ("key_positions", torch.zeros(9)), ("recorded", torch.zeros(6, 9, 9))]
    + [("key_positions", torch.zeros(8).long()), ("mask", torch.zeros(1, 9, 9).long()), ("mask", torch.zeros(9, 9))]
    + [("mask", torch.zeros(2, 9, 9)), ("bias", torch.zeros(1, 5, 9)), ("bias", torch.zeros(1, 9, 9).bool())]
    + [("sink", torch.zeros(5)), ("sink", torch.zeros(6, 8))],
)
def test_tensors_that_do_not_fit(field, tensor):
    data = forged(("layers", 1, field), "other", {"other": tensor})
    refused(data, r"no recorded run that fits together \(layer entry 1\)")


def test_no_name_in_a_file_is_looked_up():
    held, facts = stored.unpack(labelled().to_bytes())
    facts["output"] = {"__class__": facts["output"]["logits"], "__reduce__": facts["output"]["logits"]}
    loaded = Capture.from_bytes(stored.pack(held, facts))
    assert type(loaded.output).__name__ == "Output" and not callable(loaded.output["__reduce__"])
    with pytest.raises(AttributeError):
        _ = loaded.output.logits
