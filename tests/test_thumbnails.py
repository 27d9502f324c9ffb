"""Thumbnails: the largest weight of each bin of tokens, against bins made by hand."""

import numpy as np
import pytest
import torch

from attention_core import capture
from tests.architectures import make, some_ids


def max_pooled(weights: np.ndarray, size: int) -> np.ndarray:
    """(q, k) → (≤ size, ≤ size), bin i from ⌊i·n/size⌋ up to ⌈(i+1)·n/size⌉."""
    q, k = weights.shape
    rows, columns = min(q, size), min(k, size)
    pooled = np.zeros((rows, columns), dtype=np.float32)
    for i in range(rows):
        for j in range(columns):
            bin_of_rows = weights[int(np.floor(i * q / rows)) : int(np.ceil((i + 1) * q / rows))]
            pooled[i, j] = bin_of_rows[:, int(np.floor(j * k / columns)) : int(np.ceil((j + 1) * k / columns))].max()
    return pooled


@pytest.mark.parametrize("tokens", [1, 7, 31, 32, 33, 64, 100])
def test_thumbnails_are_the_largest_weight_of_each_bin(tokens):
    cap = capture(make("Llama: grouped"), input_ids=some_ids(tokens))
    pictures = cap.thumbnails(size=32)
    assert len(pictures) == len(cap.layers)
    for i, picture in enumerate(pictures):
        assert picture.shape == (6, min(tokens, 32), min(tokens, 32)) and picture.dtype == torch.float32
        for h in range(6):
            np.testing.assert_allclose(picture[h], max_pooled(cap.attention(i, h).numpy(), 32), atol=1e-6)


@pytest.mark.parametrize("source, target", [(23, 5), (5, 23), (40, 9), (150, 23)])
def test_thumbnails_where_rows_and_columns_differ(source, target):
    # 150 source tokens: bins of more than 64 rows are read in pieces
    model = make("BART")
    cap = capture(model, input_ids=some_ids(source), decoder_input_ids=some_ids(target))
    for size in (2, 9):
        for i, picture in enumerate(cap.thumbnails(size)):
            layer = cap.layers[i]
            shape = (layer.heads, min(size, layer.query.shape[1]), min(size, layer.key.shape[1]))
            assert picture.shape == shape
            np.testing.assert_allclose(picture[2], max_pooled(cap.attention(i, 2).numpy(), size), atol=1e-6)
