"""Policies: what they accept and keep, by hand; and rounding, against NumPy's float64."""

import numpy as np
import pytest
import torch

from attention_core import HeadlightError
from attention_core.keeping import Policy, attention_got, kept_places, most_seen, picked, rounded, rounded_bytes


def rows(heads: int, count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(heads, count, width, generator=torch.Generator().manual_seed(seed)) * 3 + 0.7


@pytest.mark.parametrize(
    "policy, title",
    [
        (Policy(), "Every row"),
        (Policy("window", window=24), "The last 24 rows"),
        (Policy("window", window=1), "The last row"),
        (Policy("sinks", first=4, window=20), "The first 4 rows and the last 20 rows"),
        (Policy("sinks", first=1, window=1), "The first row and the last row"),
        (Policy("least", window=1200), "The 1,200 rows looked at most"),
        (Policy("least", window=1), "The row looked at most"),
        (Policy("row", row=7), "Every row but number 7"),
        (Policy("quantised", bits=4), "Every row, rounded to 4 bits"),
    ],
)
def test_titles(policy, title):
    assert policy.title == title


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"kind": "best"}, "no policy “best”: choose full, window"),
        ({"kind": "window", "window": 0}, "keep at least 1"),
        ({"kind": "least", "window": 2.5}, "keep at least 1"),
        ({"kind": "sinks", "first": 0}, "choose the window alone"),
        ({"kind": "row", "row": -1}, "count from 0"),
        ({"kind": "row", "row": True}, "count from 0"),
        ({"kind": "quantised", "bits": 3}, "choose 8 or 4"),
    ],
)
def test_what_no_policy_can_do(wrong, says):
    with pytest.raises(HeadlightError, match=says):
        Policy(**wrong)


def test_policies_that_do_the_same_are_equal():
    assert Policy("window", window=9, first=1, row=-5, bits=4) == Policy("window", window=9)
    assert Policy("sinks", first=1, window=9) != Policy("sinks", first=2, window=9)
    assert hash(Policy("row", row=3, window=7)) == hash(Policy("row", row=3))


@pytest.mark.parametrize(
    "policy, stay",
    [
        (Policy(), [0, 1, 4, 5, 6, 7]),
        (Policy("window", window=3), [5, 6, 7]),
        (Policy("window", window=50), [0, 1, 4, 5, 6, 7]),
        (Policy("sinks", first=1, window=2), [0, 6, 7]),
        (Policy("sinks", first=5, window=4), [0, 1, 4, 5, 6, 7]),
        (Policy("row", row=4), [0, 1, 5, 6, 7]),
        (Policy("row", row=3), [0, 1, 4, 5, 6, 7]),
        (Policy("quantised"), [0, 1, 4, 5, 6, 7]),
    ],
)
def test_the_rows_that_stay(policy, stay):
    """Of a cache that has lost the tokens 2 and 3 already."""
    positions = torch.tensor([[0, 1, 4, 5, 6, 7]])
    places = kept_places(policy, positions, read=8)
    assert positions.gather(1, places).tolist() == [stay]


def test_the_rows_with_the_most_attention_a_query_stay_in_each_head():
    positions = torch.tensor([[0, 2, 3], [1, 2, 3]])
    # of 4 queries the row of token 0 met 4, that of token 3 met one: 1.6/4 < 0.9/2 < 0.5/1 in the first head
    seen = torch.tensor([[1.6, 0.9, 0.5], [1.8, 0.2, 0.3]])
    places = kept_places(Policy("least", window=2), positions, read=4, seen=seen)
    assert positions.gather(1, places).tolist() == [[2, 3], [1, 3]]
    assert most_seen(seen, 4 - positions, 5).tolist() == [[0, 1, 2]] * 2


def test_attention_is_summed_over_queries_and_over_the_heads_that_share_a_key():
    weights = torch.rand(6, 5, 7, generator=torch.Generator().manual_seed(1))
    got = attention_got(weights, 2)
    expected = np.stack([weights.double().numpy()[3 * g : 3 * g + 3].sum((0, 1)) for g in range(2)])
    assert got.shape == (2, 7) and np.allclose(got.numpy(), expected, atol=1e-5)


def test_rows_are_picked_for_all_heads_or_for_each():
    whole = rows(2, 5, 3)
    assert torch.equal(picked(whole, torch.tensor([[0, 3]])), whole[:, [0, 3]])
    each = picked(whole, torch.tensor([[0, 3], [1, 4]]))
    assert torch.equal(each, torch.stack([whole[0, [0, 3]], whole[1, [1, 4]]]))
    one = picked(whole, torch.tensor([[4]]))
    assert one.untyped_storage().nbytes() == one.nbytes == 2 * 3 * 4  # the others are not held behind it
    assert picked(whole, torch.zeros(1, 0, dtype=torch.long)).shape == (2, 0, 3)


# ── rounding ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bits", [8, 4])
def test_rounding_is_that_of_whole_numbers_with_a_scale_and_a_zero_point(bits):
    """Worked in NumPy's float64, with whole numbers that are really held."""
    whole = rows(2, 5, 7)
    flat, top = whole.double().flatten(0, 1).numpy(), 2**bits - 1
    low, high = flat.min(1, keepdims=True).clip(max=0), flat.max(1, keepdims=True).clip(min=0)
    scale = ((high - low) / top).astype(np.float32)
    zero = np.rint(-low / scale).astype(np.uint8)
    codes = (np.rint(flat / scale) + zero).clip(0, top).astype(np.uint8)  # (heads × rows, head_dim)
    back = (codes.astype(float) - zero) * scale
    assert np.allclose(rounded(whole, bits).flatten(0, 1).numpy(), back, atol=1e-5)
    if bits == 4:  # two in a byte, the last one alone
        codes = np.pad(codes, ((0, 0), (0, 1)))
        codes = codes[:, ::2] << 4 | codes[:, 1::2]
    assert rounded_bytes(whole, bits) == codes.nbytes + scale.nbytes + zero.nbytes


@pytest.mark.parametrize("bits", [8, 4])
def test_every_row_of_a_head_has_its_own_scale(bits):
    whole = rows(3, 5, 64) * torch.logspace(-3, 3, 15).view(3, 5, 1)
    less = rounded(whole, bits)
    reach = whole.amax(dim=2).clamp(min=0) - whole.amin(dim=2).clamp(max=0)
    step = reach / (2**bits - 1)
    assert bool(((less - whole).abs().amax(dim=2) <= step * 1.001).all())
    assert bool(((less - whole).abs().mean(dim=2) > step * 0.1).all())  # it is rounded at all
    assert all(len(less[h, r].unique()) <= 2**bits for h in range(3) for r in range(5))
    zeros = whole.clone()
    zeros[..., ::2] = 0
    assert bool((rounded(zeros, bits)[..., ::2] == 0).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_rounded_rows_keep_their_kind_of_numbers(dtype):
    assert rounded(rows(2, 3, 5).to(dtype), 8).dtype == dtype


def test_rows_of_one_sign_of_zeros_and_no_rows_at_all():
    for whole in (rows(1, 2, 5).abs() + 4, -rows(1, 2, 5).abs() - 4):
        assert float((rounded(whole, 8) - whole).abs().max()) <= float(whole.abs().max()) / 255 * 1.001
    assert torch.equal(rounded(torch.zeros(2, 3, 5), 4), torch.zeros(2, 3, 5))
    assert rounded(torch.zeros(2, 0, 5), 4).shape == (2, 0, 5)


def test_bytes_of_rounded_rows():
    assert rounded_bytes(rows(3, 10, 64), 4) == 3 * 10 * (32 + 5)
    assert rounded_bytes(rows(3, 10, 64), 8) == 3 * 10 * (64 + 5)
    assert rounded_bytes(rows(1, 1, 7), 4) == 4 + 5  # half a byte stays empty
