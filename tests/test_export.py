"""Numbers and pictures outside the app: files against the model's own eager weights, captions that can be read."""

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from attention_core import HeadlightError, export
from attention_core.figures import printed
from attention_core.figures.captions import caption_of
from attention_core.figures.paper import as_bytes
from tests.architectures import with_eager

TEXT = "The old king met the queen, and the old king smiled."


@pytest.fixture(scope="module")
def run(small):
    ids = small.encode(TEXT).inputs
    with torch.no_grad():
        own = with_eager(small.model)(**ids, output_attentions=True).attentions
    return small.capture(TEXT), [weights[0].numpy() for weights in own]


def test_the_models_own_format(run):
    cap, own = run
    ours = cap.attentions()
    assert isinstance(ours, tuple) and len(ours) == len(own)
    for mine, theirs in zip(ours, own, strict=True):
        assert mine.shape == (1, *theirs.shape)
        np.testing.assert_allclose(mine[0].numpy(), theirs, atol=1e-5)


@pytest.mark.parametrize("which", [(None, None), (2, 1)])
@pytest.mark.parametrize("form", ["csv", "parquet", "npz"])
def test_numbers_equal_eager(run, form, which):
    cap, own = run
    data = export.numbers(cap, form, *which)
    if form == "npz":
        arrays = np.load(io.BytesIO(data), allow_pickle=False)
        found = [array for name, array in arrays.items() if array.ndim >= 2 and array.shape[-2:] == own[0].shape[-2:]]
        wanted = own if which[0] is None else [own[2][1]]
        assert len(found) == len(wanted)
        for mine, theirs in zip(found, wanted, strict=True):
            mine = np.nan_to_num(mine.reshape(theirs.shape))
            np.testing.assert_allclose(mine, theirs, atol=1e-5)
        return
    if form == "csv" and which[0] is not None:
        table = pd.read_csv(io.BytesIO(data), index_col=0, keep_default_na=True)
        np.testing.assert_allclose(np.nan_to_num(table.to_numpy(dtype=float)), own[2][1], atol=1e-5)
        return
    table = pd.read_csv(io.BytesIO(data)) if form == "csv" else pd.read_parquet(io.BytesIO(data))
    table = table.dropna(subset="weight")
    seen = np.zeros(len(table), dtype=bool)
    for layer, weights in enumerate(own):
        for head in range(len(weights)):
            rows = table[(table.layer == layer) & (table["head"] == head)]
            np.testing.assert_allclose(rows.weight, weights[head][rows["query"], rows["key"]], atol=1e-5)
            if which[0] is None or (layer, head) == which:
                assert len(rows) == len(weights[0]) * (len(weights[0]) + 1) // 2  # what may be looked at
                seen[table.index.get_indexer(rows.index)] = True
    assert seen.all()


def test_too_many_numbers_get_a_sentence(run, monkeypatch):
    monkeypatch.setattr(export, "MOST_NUMBERS", 100)
    with pytest.raises(HeadlightError, match=r"\."):
        export.numbers(run[0], "csv")


@pytest.mark.parametrize("form, begins", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_pictures_and_their_caption(run, form, begins):
    cap, own = run
    weights, tokens = own[3][1].copy(), cap.query_tokens(3)
    weights[np.triu_indices(len(weights), 1)] = np.nan
    caption = caption_of(cap, 3, 1)
    figure = printed.heatmap(weights, tokens, tokens, title="Layer 3, head 1", caption=caption, row=4)
    data = as_bytes(figure, form)
    assert data.startswith(begins) and len(data) > 3000
    if form == "svg":
        words = " ".join(re.sub(r"<[^>]*>", " ", data.decode()).split())
        for part in ("layer 3, head 1", "small", "The old king met the queen", "king"):
            assert part in words, part


def test_the_command_line(run):
    command = [sys.executable, "-m", "attention_core", TEXT, "--model", "small", "--layer", "2", "--head", "1"]
    root = Path(__file__).parents[1]
    done = subprocess.run([*command, "--csv", "-"], cwd=root, capture_output=True)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(io.BytesIO(done.stdout), index_col=0)
    np.testing.assert_allclose(np.nan_to_num(table.to_numpy(dtype=float)), run[1][2][1], atol=1e-5)
    broken = subprocess.run([*command[:-1], "99"], cwd=root, capture_output=True, text=True)
    assert broken.returncode == 1 and "head" in broken.stderr and "Traceback" not in broken.stderr


def test_a_notebook_shows_a_picture(run):
    shown = run[0]._repr_html_()
    assert "<iframe" in shown or "<img" in shown
