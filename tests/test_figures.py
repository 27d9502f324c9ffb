"""Pictures, their words and their tables say what the arrays hold."""

import io

import numpy as np
import pandas as pd
import pytest

from attention_core.export import head_table
from attention_core.figures.heatmaps import vectors_heatmap
from attention_core.figures.words import finding, percent, strongest

TOKENS = ["·the", "<s>", "=1+1", "·the", "$x$"]


def test_strongest_are_the_largest_visible_ones():
    weights = np.array([0.1, 0.4, 0.0, 0.4, 0.9], dtype=np.float32)
    visible = np.array([True, True, True, True, False])
    assert strongest(weights, visible) == [1, 3, 0]  # ties in the order of the text, the hidden one left out
    assert strongest(weights, visible, 9) == [1, 3, 0, 2]
    assert strongest(weights, np.zeros(5, dtype=bool)) == []


@pytest.mark.parametrize(
    ("row", "sees", "words"),
    [
        (
            [0.55, 0.25, 0.1, 0.07, 0.03],
            5,
            "looks 55.0% at “·the” (token 0), 25.0% at “<s>” (token 1) and 10.0% at “=1+1” (token 2).",
        ),
        ([0.2, 0.8, 0, 0, 0], 2, "looks 80.0% at “<s>” (token 1) and 20.0% at “·the” (token 0)."),
        ([1, 0, 0, 0, 0], 1, "looks 100.0% at “·the” (token 0)."),
        ([0, 0, 0, 0, 0], 0, "looks nowhere."),
    ],
)
def test_finding(row, sees, words):
    visible = np.arange(5) < sees
    sentence = finding(2, 1, 4, "$x$", TOKENS, np.array(row, dtype=np.float32), visible)
    assert sentence == f"Layer 2, head 1: “$x$” (token 4) {words}"


def test_percent_has_one_decimal():
    assert [percent(x) for x in (0, 0.0004, 0.0006, 0.12345, 1)] == ["0.0%", "0.0%", "0.1%", "12.3%", "100.0%"]


def test_table_survives_a_spreadsheet():
    weights = np.array([[1, 0, 0, 0, 0], [0.123456789, 0.876543211, 0, 0, 0], [0.2, 0.3, 0.5, 0, 0]], dtype=np.float32)
    visible = np.tril(np.ones((3, 5), dtype=bool))
    text = head_table(weights, visible, TOKENS[:3], TOKENS).to_csv(index=False)
    back = pd.read_csv(io.StringIO(text), header=None, keep_default_na=False, dtype=str)
    assert back.iloc[0, 1:].tolist() == ["·the", "<s>", "'=1+1", "·the", "$x$"]
    assert back.iloc[1:, 0].tolist() == ["·the", "<s>", "'=1+1"]
    assert (back.iloc[1:, 1:].to_numpy() == "").tolist() == (~visible).tolist()  # gaps, not zeros
    assert np.float32(back.iloc[2, 2]) == weights[1, 1]  # to the bit


def test_vectors_keep_equal_tokens_apart():
    vectors = np.linspace(-3, 2, 5 * 7, dtype=np.float32).reshape(5, 7)
    figure = vectors_heatmap(vectors, TOKENS, 10, "keys")
    trace = figure.data[0]
    assert np.array_equal(np.asarray(trace.z), vectors)
    assert list(trace.y) == ["10 ·the", "11 &lt;s&gt;", "12 =1+1", "13 ·the", "14 $x$"]
    assert trace.zmin == -3 and trace.zmax == 3
