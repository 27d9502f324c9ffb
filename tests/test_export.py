"""The numbers as files: equal to the model's own eager weights, gaps and tokens as promised, piece by piece."""

import io

import numpy as np
import pandas as pd
import pytest
import torch

from attention_core import HeadlightError, capture, export
from tests.architectures import make, some_ids, with_eager
from tests.weights_only_models import WEIGHTS_ONLY

TEXT = "The old king met the queen, and the old king smiled. =1+1 -2 @x"
CAUSAL = ["csv", "parquet"]


@pytest.fixture(scope="module")
def run(small):
    """A capture of the small model and its own eager weights, one (heads, tokens, tokens) per layer."""
    with torch.no_grad():
        own = with_eager(small.model)(**small.encode(TEXT).inputs, output_attentions=True).attentions
    return small.capture(TEXT), [weights[0].numpy() for weights in own]


def long_table(data: bytes, form: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(data), keep_default_na=False) if form == "csv" else pd.read_parquet(io.BytesIO(data))


def arrays_of(data: bytes) -> dict[str, np.ndarray]:
    return dict(np.load(io.BytesIO(data), allow_pickle=False))


def test_transformers_own_format(run):
    cap, own = run
    ours = cap.attentions()
    assert isinstance(ours, tuple) and len(ours) == len(own)
    for mine, theirs in zip(ours, own, strict=True):
        assert mine.shape == (1, *theirs.shape)
        np.testing.assert_allclose(mine[0].numpy(), theirs, atol=1e-5)


@pytest.mark.parametrize("which", [(None, None), (2, None)])
@pytest.mark.parametrize("form", CAUSAL)
def test_a_row_for_each_weight_that_may_be(run, form, which):
    cap, own = run
    table = long_table(export.numbers(cap, form, *which), form)
    layers = range(len(own)) if which[0] is None else [which[0]]
    count = len(own[0][0])
    assert list(table.columns) == ["kind", "layer", "head", "query", "query_token", "key", "key_token", "weight"]
    assert len(table) == len(layers) * len(own[0]) * count * (count + 1) // 2
    assert not table.duplicated(["layer", "head", "query", "key"]).any() and set(table.kind) == {"decoder"}
    assert set(table.layer) == set(layers) and (table.key <= table["query"]).all()
    theirs = np.stack(own)[table.layer, table["head"], table["query"], table.key]
    np.testing.assert_allclose(table.weight, theirs, atol=1e-5)
    shown = [export.plain_cell(t) if form == "csv" else t for t in cap.tokens]
    assert table.query_token.tolist() == [shown[q] for q in table["query"]]
    assert table.key_token.tolist() == [shown[k] for k in table.key]


@pytest.mark.parametrize("form", CAUSAL)
def test_weights_survive_to_the_bit(run, form):
    cap, _ = run
    table = long_table(export.numbers(cap, form), form)
    ours = np.stack([[cap.attention(i, h).numpy() for h in range(4)] for i in range(4)])
    assert (table.weight.astype(np.float32) == ours[table.layer, table["head"], table["query"], table.key]).all()


def test_one_head_as_csv_is_its_matrix(run):
    cap, own = run
    data = export.numbers(cap, "csv", 2, 1)
    assert data.startswith(export.UTF8_MARK)
    table = pd.read_csv(io.BytesIO(data), header=None, dtype=str, keep_default_na=False)
    tokens = [export.plain_cell(t) for t in cap.tokens]
    assert table.iloc[0, 1:].tolist() == tokens and table.iloc[1:, 0].tolist() == tokens
    cells = table.iloc[1:, 1:].to_numpy()
    assert (cells == "").tolist() == np.triu(np.ones(cells.shape, bool), 1).tolist()  # gaps, not zeros
    weights = np.where(cells == "", "0", cells).astype(np.float32)
    np.testing.assert_allclose(weights, own[2][1], atol=1e-5)
    assert (weights == cap.attention(2, 1).numpy()).all()


def test_npz_holds_weights_tokens_and_vectors(run):
    cap, own = run
    arrays = arrays_of(export.numbers(cap, "npz"))
    assert arrays["kind"].tolist() == ["decoder"] * 4 and arrays["layer"].tolist() == [0, 1, 2, 3]
    for i, theirs in enumerate(own):
        weights = arrays[f"entry{i}_weights"]
        assert weights.dtype == np.float32 and (np.isnan(weights) == np.triu(np.ones(weights.shape, bool), 1)).all()
        np.testing.assert_allclose(np.nan_to_num(weights), theirs, atol=1e-5)
        assert arrays[f"entry{i}_query_tokens"].tolist() == arrays[f"entry{i}_key_tokens"].tolist() == cap.tokens


@pytest.mark.parametrize("head", range(6))
def test_the_vectors_of_a_head_make_its_weights(head):
    """softmax(q · kᵀ × scaling), in NumPy's float64, from the file alone: the right key-value head is in it."""
    model = make("Llama: grouped")
    cap, ids = capture(model, input_ids=some_ids(7)), some_ids(7)
    with torch.no_grad():
        own = with_eager(model)(input_ids=ids, output_attentions=True).attentions[1][0]
    heads = own.shape[0]
    assert heads == 6 and cap.layers[1].key.shape[0] == 2
    arrays = arrays_of(export.numbers(cap, "npz", 1, head))
    assert not [name for name in arrays if name.startswith("entry0")]
    query, key = arrays["entry1_query"].astype(np.float64), arrays["entry1_key"].astype(np.float64)
    scores = query @ key.T * cap.layers[1].scaling
    scores[np.triu_indices(7, 1)] = -np.inf
    weights = np.exp(scores - scores.max(1, keepdims=True))
    np.testing.assert_allclose(weights / weights.sum(1, keepdims=True), own[head], atol=1e-6)
    assert np.array_equal(arrays["entry1_value"], cap.layers[1].value[head // 3])
    assert arrays["entry1_weights"].shape == (7, 7)


def test_a_model_that_hands_out_weights_alone():
    model = WEIGHTS_ONLY["Bloom: ALiBi"].build().eval()
    ids = some_ids(7)
    with torch.no_grad():
        own = with_eager(model)(input_ids=ids, output_attentions=True).attentions
    arrays = arrays_of(export.numbers(capture(model, input_ids=ids), "npz"))
    np.testing.assert_allclose(np.nan_to_num(arrays["entry2_weights"]), own[2][0], atol=1e-6)
    assert not [name for name in arrays if name.endswith(("_query", "_key", "_value"))]
    assert arrays["entry0_key_tokens"].tolist() == [str(k) for k in range(7)]  # no tokenizer: positions


def test_encoder_and_decoder_are_told_apart():
    model = make("T5: relative positions")
    ids, target = some_ids(7), some_ids(5, seed=1)
    with torch.no_grad():
        own = with_eager(model)(input_ids=ids, decoder_input_ids=target, output_attentions=True)
    cap = capture(model, input_ids=ids, decoder_input_ids=target)
    table = long_table(export.numbers(cap, "parquet"), "parquet")
    for kind, theirs in (
        ("encoder", own.encoder_attentions),
        ("decoder", own.decoder_attentions),
        ("cross", own.cross_attentions),
    ):
        part = table[table.kind == kind]
        stacked = torch.stack(theirs)[:, 0].numpy()  # (layers, heads, q, k)
        np.testing.assert_allclose(part.weight, stacked[part.layer, part["head"], part["query"], part.key], atol=1e-5)
        q, k = stacked.shape[2:]
        each = q * (q + 1) // 2 if kind == "decoder" else q * k
        assert len(part) == stacked.shape[0] * stacked.shape[1] * each


def content(data: bytes, form: str) -> dict[str, np.ndarray]:
    if form == "npz":
        return arrays_of(data)
    return {name: column.to_numpy() for name, column in long_table(data, form).items()}


@pytest.mark.parametrize("form", export.FORMS)
@pytest.mark.parametrize("which", [(None, None), (1, None), (1, 3)])
def test_pieces_make_the_same_file(run, monkeypatch, form, which):
    """Written a few rows at a time, the file says what it says when it is written at once."""
    cap, _ = run
    whole = content(export.numbers(cap, form, *which), form)
    monkeypatch.setattr(export, "_AT_ONCE", 3 * len(cap.tokens))
    pieces = content(export.numbers(cap, form, *which), form)
    assert list(whole) == list(pieces)
    for name, array in whole.items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(array, pieces[name], atol=1e-5)  # products of other shapes round otherwise
        elif form == "csv" and array.dtype.kind == "O":
            assert [_rounded(cell) for cell in array] == [_rounded(cell) for cell in pieces[name]]
        else:
            assert np.array_equal(array, pieces[name])


def _rounded(cell: object) -> object:
    """Of the matrix, whose columns are text because of the gaps in them."""
    try:
        return pytest.approx(float(str(cell)), abs=1e-5)
    except ValueError:
        return cell


class _Pipe(io.RawIOBase):
    """Takes bytes and nothing else, like a pipe."""

    def __init__(self):
        self.taken = b""

    def writable(self):
        return True

    def write(self, data):
        self.taken += bytes(data)
        return len(data)


@pytest.mark.parametrize("form", export.FORMS)
def test_a_pipe_is_enough(run, form):
    cap, _ = run
    pipe = _Pipe()
    export.write_numbers(cap, form, pipe, 1, 2)
    straight = content(export.numbers(cap, form, 1, 2), form)
    through = content(pipe.taken, form)
    assert list(straight) == list(through)
    for name, array in straight.items():
        assert np.array_equal(array, through[name], equal_nan=array.dtype.kind == "f")


def test_numbers_are_counted_and_bounded(run, monkeypatch):
    cap, own = run
    tokens = len(cap.tokens)
    assert export.count_numbers(cap) == sum(w.size for w in own)
    assert export.count_numbers(cap, 1) == own[1].size and export.count_numbers(cap, 1, 0) == tokens**2
    monkeypatch.setattr(export, "MOST_NUMBERS", tokens**2)
    export.numbers(cap, "csv", 0, 0)
    with pytest.raises(HeadlightError, match=rf"These are {16 * tokens**2:,} numbers.*choose one head or a shorter"):
        export.numbers(cap, "csv")


@pytest.mark.parametrize(
    "asked, says",
    [
        (("xlsx",), "choose csv, parquet, npz"),
        (("csv", None, 1), "choose a layer"),
        (("csv", 9), "choose 0 to 3"),
        (("npz", 0, 4), "choose 0 to 3"),
    ],
)
def test_what_there_is_not_gets_a_sentence(run, asked, says):
    with pytest.raises(HeadlightError, match=says):
        export.numbers(run[0], *asked)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(text):
    assert export.plain_cell(text) == f"'{text}"
    assert export.plain_cell(f"·{text}") == f"·{text}"
    table = export.head_table(np.ones((1, 1), np.float32), np.ones((1, 1), bool), [text], [text])
    assert list(table.columns)[1] == table.iloc[0, 0] == f"'{text}"
