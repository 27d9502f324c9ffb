"""python -m attention_core: what it prints and writes is what the model's own eager attention says."""

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from attention_core import Capture, __main__
from attention_core.figures.words import percent
from tests.architectures import with_eager

ROOT = Path(__file__).parents[1]
TEXT = "The old king met the queen, and the old king smiled."
COMMAND = [sys.executable, "-m", "attention_core"]


@pytest.fixture(scope="module")
def own(small):
    """(layers, heads, tokens, tokens): the small model's own eager weights."""
    with torch.no_grad():
        weights = with_eager(small.model)(**small.encode(TEXT).inputs, output_attentions=True).attentions
    return torch.stack(weights)[:, 0].numpy()


@pytest.fixture
def ask(small, monkeypatch, capfdbinary):
    """(arguments) → (exit code, standard output, standard error), with the small model loaded once for all."""
    monkeypatch.setattr(__main__, "load_model", lambda name, dtype: small)

    def run(*given: str) -> tuple[int, bytes, str]:
        try:
            code = __main__.main(list(given))
        except SystemExit as stopped:
            code = stopped.code
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return run


def test_the_whole_command_as_one_types_it(own):
    done = subprocess.run(
        [*COMMAND, TEXT, "--model", "small", "--layer", "2", "--head", "1", "--csv", "-"], cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(io.BytesIO(done.stdout), index_col=0)
    np.testing.assert_allclose(np.nan_to_num(table.to_numpy(dtype=float)), own[2, 1], atol=1e-5)
    assert done.stdout.startswith("from ↓ to →".encode())  # nothing in front of the numbers
    assert b"Traceback" not in done.stderr and b"Loading weights" not in done.stderr


def test_a_reader_that_has_enough_ends_it_quietly():
    command = f"'{sys.executable}' -m attention_core '{TEXT * 8}' --csv - | head -n 3; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith('"kind","layer"') and done.stdout.endswith("\n0\n")
    assert "Broken" not in done.stderr and "Exception" not in done.stderr and "Traceback" not in done.stderr


def test_an_error_is_one_line(ask):
    for given, says in [
        ([TEXT, "--layer", "9", "--head", "0"], "has no such layer 9. It has layer 0, layer 1, layer 2, layer 3."),
        ([TEXT, "--layer", "2", "--head", "9"], "There is no head 9 in layer 2: choose 0 to 3."),
        ([TEXT, "--layer", "2", "--head", "1", "--token", "99"], "There is no token 99 in layer 2: choose 0 to "),
        ([TEXT, "--kind", "cross"], "No head has a token"),
        (["  "], "The text is empty"),
        (["--file", "/nowhere/text.txt"], "/nowhere/text.txt cannot be read"),
        ([TEXT, "--csv", "/nowhere/out.csv"], "/nowhere/out.csv cannot be written"),
    ]:
        code, out, err = ask(*given)
        assert code == 1 and not out and says in err, (given, err)
        assert err.count("\n") == 1 and err.startswith("attention_core: "), err


def test_a_wrong_command_line_ends_with_two(ask):
    for given, says in [
        ([], "give a text"),
        ([TEXT, "--file", "x"], "give a text"),
        ([TEXT, "--head", "1"], "--head needs --layer"),
        ([TEXT, "--png", "x.png"], "add --layer and --head"),
        ([TEXT, "--csv", "-", "--npz", "-"], "one file only"),
        ([TEXT, "--dtype", "float7"], "float7"),
        ([TEXT, "--layer", "two"], "two"),
    ]:
        code, out, err = ask(*given)
        assert code == 2 and not out and says in err, (given, err)


def test_a_model_that_is_nowhere_gets_a_sentence(capfdbinary):
    assert __main__.main([TEXT, "--model", "no such model"]) == 1
    out, err = capfdbinary.readouterr()
    assert not out and "There is no model “no such model”" in err.decode() and err.count(b"\n") == 1


@pytest.mark.parametrize("token", [3, 9])  # at token 3, heads rest on the first one
def test_without_a_file_it_says_what_it_found(ask, own, small, token):
    code, out, _ = ask(TEXT, "--layer", "3", "--head", "1", "--token", str(token))
    lines, tokens = out.decode().splitlines(), small.capture(TEXT).tokens
    row = own[3, 1, token]
    best = np.argsort(-row)[:3]
    looks = [f"{percent(row[k])} at “{tokens[k]}” (token {k})" for k in best]
    assert code == 0
    assert (
        lines[0] == f"Layer 3, head 1: “{tokens[token]}” (token {token}) looks {looks[0]}, {looks[1]} and {looks[2]}."
    )
    rows = own[:, :, token].copy()
    rows[..., [0, token]] = 0
    largest = rows.max(axis=-1)
    order = sorted(np.ndindex(largest.shape), key=lambda place: -largest[place])[:10]
    assert lines[3:] == [
        f"{percent(largest[lh]):>7}  layer {lh[0]}, head {lh[1]}: “{tokens[token]}” → “{tokens[rows[lh].argmax()]}” "
        f"(token {rows[lh].argmax()})"
        for lh in order
    ]
    chosen = ask(TEXT, "--token", str(token))[1].decode().splitlines()[0]
    assert chosen.startswith(f"Layer {order[0][0]}, head {order[0][1]}: “{tokens[token]}” (token {token}) looks ")


def test_every_file_at_once(ask, own, tmp_path, small):
    names = {name: tmp_path / f"out.{name}" for name in __main__.OUTPUTS}
    given = [part for name, path in names.items() for part in (f"--{name}", str(path))]
    code, out, err = ask(TEXT, "--layer", "2", "--head", "1", *given)
    assert (code, out) == (0, b""), err
    begins = {
        "parquet": b"PAR1",
        "npz": b"PK",
        "png": b"\x89PNG",
        "svg": b"<?xml",
        "pdf": b"%PDF",
        "html": b"<!doctype",
    }
    for name, start in begins.items():
        assert names[name].read_bytes().startswith(start), name
    assert names["csv"].read_bytes().startswith(b"\xef\xbb\xbf")  # a file is for a spreadsheet
    table = pd.read_parquet(names["parquet"])
    np.testing.assert_allclose(table.weight, own[2, 1][table["query"], table.key], atol=1e-5)
    weights = np.load(names["npz"])["entry2_weights"]
    np.testing.assert_allclose(np.nan_to_num(weights), own[2, 1], atol=1e-5)
    words = " ".join(re.sub("<[^>]*>", " ", names["svg"].read_text(encoding="utf-8")).split())
    assert f"small, layer 2, head 1. Text: “{TEXT}”." in words
    loaded = Capture.load(names["save"])
    assert torch.equal(loaded.attention(2, 1), small.capture(TEXT).attention(2, 1))


def test_all_heads_or_a_layer(ask, own):
    for given, layers in [([], range(4)), (["--layer", "2"], [2])]:
        table = pd.read_csv(io.BytesIO(ask(TEXT, *given, "--csv", "-")[1]))
        assert set(table.layer) == set(layers) and set(table["head"]) == set(range(4))
        theirs = own[table.layer, table["head"], table["query"], table.key]
        np.testing.assert_allclose(table.weight, theirs, atol=1e-5)


@pytest.mark.parametrize("form", ["parquet", "npz", "png", "save"])
def test_standard_output_takes_bytes(ask, form):
    data = ask(TEXT, "--layer", "1", "--head", "0", f"--{form}", "-")[1]
    begins = {"parquet": b"PAR1", "npz": b"PK", "png": b"\x89PNG"}
    assert len(data) > 1000 and data.startswith(begins.get(form, b""))


def test_the_text_may_come_from_a_file(ask, tmp_path):
    file = tmp_path / "text.txt"
    file.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert ask("--file", str(file))[1] == ask(TEXT)[1]
    file.write_bytes(b"\xff\xfe\x00")
    code, _, err = ask("--file", str(file))
    assert code == 1 and "no UTF-8 text" in err


def test_too_many_numbers_leave_an_old_file_alone(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(__main__.export, "MOST_NUMBERS", 100)
    file = tmp_path / "out.csv"
    file.write_text("old")
    code, _, err = ask(TEXT, "--csv", str(file))
    assert code == 1 and "numbers" in err and file.read_text() == "old"


def test_a_long_text_is_pooled_in_the_picture(ask, monkeypatch):
    monkeypatch.setattr(__main__, "CELLS_UP_TO", 8)
    svg = ask(TEXT, "--layer", "2", "--head", "1", "--svg", "-")[1].decode()
    words = " ".join(re.sub("<[^>]*>", " ", svg).split())
    assert "Each cell is the largest weight of several tokens." in words
