"""The proof of a worksheet reports every number that is broken on purpose, by as much as NumPy says it is off."""

import dataclasses
import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from attention_core import Capture, capture
from attention_core.filling import fill_worksheet
from attention_core.layer import LayerCapture
from attention_core.tracing import trace
from attention_core.worksheet import Compared, Worksheet
from tests import watched
from tests.architectures import ARCHITECTURES, make

LLAMA, GEMMA, SINKS = "Llama: grouped", "Gemma 2: soft cap", "gpt-oss: learned sinks"
T5, MISTRAL = "T5: relative positions", "Mistral: sliding window"
ENTRY = {LLAMA: 1, GEMMA: 1, SINKS: 1, T5: 3, MISTRAL: 2}  # of T5 the decoder's, with a bias and a causal mask
HEAD, TOKEN, KEY = 3, 9, 6
OF_THE_ROW = {"weights", "head output", "attention output", "layer output"}  # what follows from the scores


@cache
def read(name: str) -> tuple[PreTrainedModel, Capture, watched.Call]:
    model = make(name)
    cap = capture(model, **ARCHITECTURES[name].inputs(model))
    return model, cap, watched.calls_of(model, cap.inputs)[ENTRY[name]]


@cache
def seen_of(name: str):
    model, cap, _ = read(name)
    return trace(model, cap.inputs, ENTRY[name], cap.layers[ENTRY[name]].module)


def sheet_of(name: str, **changes) -> Worksheet:
    """The worksheet of a Capture whose layer had something changed."""
    model, cap, _ = read(name)
    layers = list(cap.layers)
    layers[ENTRY[name]] = dataclasses.replace(layers[ENTRY[name]], **changes)
    return fill_worksheet(dataclasses.replace(cap, layers=layers), ENTRY[name], HEAD, TOKEN, model, seen_of(name))


def layer_of(name: str) -> LayerCapture:
    return read(name)[1].layers[ENTRY[name]]


def reported(sheet: Worksheet) -> dict[str, Compared]:
    """What does not agree."""
    return {compared.name: compared for compared in sheet.proof if not compared.agrees}


def softmax(scores: np.ndarray, shown: np.ndarray, sink: float | None = None) -> np.ndarray:
    scores = np.where(shown, scores, -np.inf)
    row = np.exp(scores - scores.max())
    return row / (row.sum() + (0 if sink is None else np.exp(sink - scores.max())))


def check_row(name: str, found: dict[str, Compared], weights: np.ndarray, value: np.ndarray | None = None) -> None:
    """weights (keys,) and value (keys, d) as broken: the proof's figures are those of NumPy."""
    call = read(name)[2]
    own = call.weights[HEAD, TOKEN]
    if "weights" in found:
        expected = np.abs(weights - own).max()
        assert found["weights"].absolute == pytest.approx(expected, abs=1e-6) and expected > 1e-4
        assert found["weights"].relative == found["weights"].absolute  # a weight's unit is 1
    blended = weights @ (call.value[HEAD] if value is None else value)
    theirs = call.blended[TOKEN, HEAD]
    expected, largest = np.abs(blended - theirs).max(), np.abs(theirs).max()
    assert found["head output"].absolute == pytest.approx(expected, abs=1e-5 * largest) and expected > 1e-4
    assert found["head output"].relative == pytest.approx(expected / largest, abs=1e-5)
    assert found["attention output"].relative > 1e-5 and found["layer output"].relative > 1e-5


def with_one(tensor: Tensor, at: tuple[int, ...], more: float) -> Tensor:
    changed = tensor.clone()
    changed[at] += more
    return changed


@pytest.mark.parametrize("name", ENTRY)
def test_an_intact_capture_is_proved(name):
    sheet = sheet_of(name)
    assert reported(sheet) == {} and sheet.missing == {}
    assert [c.name for c in sheet.proof][:4] == ["query", "key", "value", "weights"]
    for compared in sheet.proof:
        ours, own = compared.ours.double().numpy(), compared.own.double().numpy()
        assert compared.absolute == pytest.approx(np.abs(ours - own).max(), abs=1e-12)
        unit = 1.0 if compared.name == "weights" else np.abs(own).max()
        assert compared.relative == pytest.approx(compared.absolute / unit, rel=1e-6)
        assert compared.bound == 1e-5


@pytest.mark.parametrize("name", [LLAMA, GEMMA, SINKS, MISTRAL])
def test_a_broken_key(name):
    layer, call, sink = layer_of(name), read(name)[2], sheet_of(name).sink
    shared = layer.key_value_head(HEAD)
    key = with_one(layer.key, (shared, KEY, 2), 0.7)
    found = reported(sheet_of(name, key=key))
    assert found.keys() == {"key"} | OF_THE_ROW
    assert found["key"].absolute == pytest.approx(0.7, abs=1e-5)
    assert found["key"].relative == pytest.approx(0.7 / key[shared].abs().max().item(), rel=1e-4)
    broken = dataclasses.replace(call, key=call.key + 0)
    broken.key[HEAD, KEY, 2] += 0.7
    check_row(name, found, softmax(broken.scores(HEAD, TOKEN), sheet_of(name).visible.numpy(), sink))


@pytest.mark.parametrize("name", [LLAMA, T5])
def test_a_broken_query(name):
    layer, call = layer_of(name), read(name)[2]
    query = with_one(layer.query, (HEAD, TOKEN, 4), -0.6)
    sheet = sheet_of(name, query=query)
    found = reported(sheet)
    assert found.keys() == {"query"} | OF_THE_ROW
    assert found["query"].absolute == pytest.approx(0.6, abs=1e-5)
    assert found["query"].relative == pytest.approx(0.6 / query[HEAD, TOKEN].abs().max().item(), rel=1e-4)
    broken = dataclasses.replace(call, query=call.query + 0)
    broken.query[HEAD, TOKEN, 4] -= 0.6
    check_row(name, found, softmax(broken.scores(HEAD, TOKEN), sheet.visible.numpy()))
    other = sheet_of(name, query=with_one(layer.query, (HEAD, TOKEN - 1, 4), -0.6))
    assert reported(other) == {}, "another token's query is no part of this row"


@pytest.mark.parametrize("name", [LLAMA, T5])
def test_a_broken_value(name):
    layer, call = layer_of(name), read(name)[2]
    shared, key = layer.key_value_head(HEAD), int(call.weights[HEAD, TOKEN].argmax())
    found = reported(sheet_of(name, value=with_one(layer.value, (shared, key, 1), 0.8)))
    assert found.keys() == {"value"} | OF_THE_ROW - {"weights"}
    assert found["value"].absolute == pytest.approx(0.8, abs=1e-5)
    value = call.value[HEAD].copy()
    value[key, 1] += 0.8
    check_row(name, found, call.weights[HEAD, TOKEN], value)
    assert found["head output"].absolute == pytest.approx(0.8 * call.weights[HEAD, TOKEN, key], abs=1e-5)


@pytest.mark.parametrize("name", [LLAMA, GEMMA])
def test_a_broken_scaling(name):
    sheet, call = sheet_of(name, scaling=layer_of(name).scaling * 1.05), read(name)[2]
    found = reported(sheet)
    assert found.keys() == OF_THE_ROW
    broken = dataclasses.replace(call, scaling=call.scaling * 1.05)
    check_row(name, found, softmax(broken.scores(HEAD, TOKEN), sheet.visible.numpy()))


@pytest.mark.parametrize("cap", [None, 2.5])
def test_a_broken_soft_cap(cap):
    sheet, call = sheet_of(GEMMA, softcap=cap), read(GEMMA)[2]
    found = reported(sheet)
    assert found.keys() == OF_THE_ROW and call.softcap == 3.0
    broken = dataclasses.replace(call, softcap=cap)
    check_row(GEMMA, found, softmax(broken.scores(HEAD, TOKEN), sheet.visible.numpy()))


def test_a_broken_bias():
    layer, call = layer_of(T5), read(T5)[2]
    sheet = sheet_of(T5, bias=with_one(layer.bias, (HEAD, TOKEN, KEY), 1.5))
    found = reported(sheet)
    assert found.keys() == OF_THE_ROW
    broken = dataclasses.replace(call, bias=call.bias + 0)
    broken.bias[HEAD, TOKEN, KEY] += 1.5
    check_row(T5, found, softmax(broken.scores(HEAD, TOKEN), sheet.visible.numpy()))


def test_a_broken_sink():
    layer, call = layer_of(SINKS), read(SINKS)[2]
    sheet = sheet_of(SINKS, sink=with_one(layer.sink, (HEAD,), 1.0))
    found = reported(sheet)
    assert found.keys() == OF_THE_ROW
    own = make(SINKS).model.layers[layer.layer].self_attn.sinks[HEAD].item()
    check_row(SINKS, found, softmax(call.scores(HEAD, TOKEN), sheet.visible.numpy(), own + 1.0))
    none = reported(sheet_of(SINKS, sink=None))
    assert none.keys() == OF_THE_ROW
    check_row(SINKS, none, softmax(call.scores(HEAD, TOKEN), sheet.visible.numpy()))


def test_a_broken_mask():
    layer, call = layer_of(MISTRAL), read(MISTRAL)[2]
    assert layer.mask.dtype == torch.bool and not layer.mask[0, TOKEN, TOKEN - 7]
    for key in (TOKEN - 7, TOKEN + 1, int(call.weights[HEAD, TOKEN].argmax())):
        mask = layer.mask.clone()
        mask[0, TOKEN, key] ^= True
        sheet = sheet_of(MISTRAL, mask=mask)
        shown = call.weights[HEAD, TOKEN] > 0
        shown[key] ^= True
        assert (sheet.visible.numpy() == shown).all()
        if key == TOKEN + 1:
            assert reported(sheet).keys() == OF_THE_ROW
        check_row(MISTRAL, reported(sheet), softmax(call.scores(HEAD, TOKEN), shown))
    found = reported(sheet_of(LLAMA, causal=False))
    assert found.keys() == OF_THE_ROW
    check_row(LLAMA, found, softmax(read(LLAMA)[2].scores(HEAD, TOKEN), np.ones(23, dtype=bool)))


@pytest.mark.parametrize("which", ["query", "key", "value"])
@pytest.mark.parametrize("part", ["weight", "bias", "factor", "given"])
def test_a_broken_projection(which, part):
    """A number of a worksheet's own way to the vector: of the weight, the bias, the factor, or what it is given."""
    name = "GPT-2: learned positions"
    model = make(name)
    torch.nn.init.normal_(model.transformer.h[2].attn.c_attn.bias, generator=torch.Generator().manual_seed(4))
    cap = capture(model, **ARCHITECTURES[name].inputs(model))
    sheet = fill_worksheet(cap, 2, HEAD, TOKEN, model)
    assert reported(sheet) == {}
    (made,) = sheet.origins[which].pieces
    changed = {"weight": with_one(made.weight, (5, 7), 0.3), "bias": with_one(made.bias, (5,), 0.3)}
    changed |= {"factor": made.factor * 1.1, "given": with_one(made.given, (TOKEN, 7), 0.3)}
    origin = dataclasses.replace(sheet.origins[which], pieces=(dataclasses.replace(made, **{part: changed[part]}),))
    found = reported(dataclasses.replace(sheet, origins=sheet.origins | {which: origin}))
    assert found.keys() == {which}
    used = {"query": sheet.query[None], "key": sheet.keys, "value": sheet.values}[which].double().numpy()
    given = made.given.double().numpy()
    rows = [TOKEN] if which == "query" else slice(None)
    expected = {
        "weight": np.abs(0.3 * given[rows, 7]).max(),
        "bias": 0.3,
        "factor": 0.1 * np.abs(used).max(),
        "given": np.abs(0.3 * made.weight[:, 7].double().numpy()).max(),
    }[part]
    assert found[which].absolute == pytest.approx(expected, abs=1e-5 * np.abs(used).max())
    assert found[which].relative == pytest.approx(expected / np.abs(used).max(), abs=1e-5)


def test_nan_never_agrees():
    layer = layer_of(LLAMA)
    shared = layer.key_value_head(HEAD)
    for which in ("query", "key", "value"):
        head, row = (HEAD, TOKEN) if which == "query" else (shared, KEY)
        found = reported(sheet_of(LLAMA, **{which: with_one(getattr(layer, which), (head, row, 0), math.nan)}))
        assert found.keys() >= {which, "head output", "attention output", "layer output"}
        assert all(math.isnan(compared.absolute) for compared in found.values())
    number, nothing = torch.tensor([1.0, 2.0]), torch.tensor([1.0, math.nan])
    for ours, own in ((nothing, number), (number, nothing), (nothing, nothing)):
        assert not Compared("x", ours, own, 1e-5).agrees and not Compared("x", ours, own, 1e-5, unit=1.0).agrees
    infinite = torch.tensor([1.0, math.inf])
    for ours, own in ((infinite, number), (number, infinite), (infinite, infinite)):
        assert not Compared("x", ours, own, 1e-5).agrees


def test_the_bound_is_where_agreement_ends():
    own = torch.tensor([-4.0, 1.0])
    assert Compared("x", own + torch.tensor([0.0, 0.03]), own, 0.01).agrees  # of the largest value, not of its own
    beyond = Compared("x", own + torch.tensor([0.05, 0.0]), own, 0.01)
    assert not beyond.agrees
    assert beyond.absolute == pytest.approx(0.05, rel=1e-5) and beyond.relative == pytest.approx(0.0125, rel=1e-5)
    assert Compared("x", torch.zeros(2), torch.zeros(2), 1e-5).agrees
