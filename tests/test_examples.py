"""Every example shows what its sentence says, on the model that it names."""

import pytest
import torch

from attention_core import load_model
from attention_core.models import CATALOGUE
from pages.shared.examples import examples, first_look


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.title)
def test_example_is_true(example):
    if not CATALOGUE[example.model].installed:
        pytest.skip(f"{CATALOGUE[example.model].package} is not installed")
    lm = load_model(example.model)
    record = lm.capture(example.text)
    row = record.attention(example.layer, example.head)[example.token]
    assert int(row.argmax()) == example.key and row[example.key] >= example.at_least
    for part, token in (("looks", example.key), ("at", example.token)):
        word = record.tokens[token].strip("·")
        assert f"“{word}”" in example.look_for or example.title == "The token before", part
    if example.title == "A repetition":
        assert lm.next_tokens(record, 1)[0][0] == "·king"
        assert record.tokens[example.key - 1] == record.tokens[example.token]
    if example.title == "The token before":
        weights = record.attention(example.layer, example.head)
        assert torch.equal(weights[1:].argmax(dim=-1), torch.arange(len(weights) - 1))


def test_every_model_has_a_first_look():
    assert all(first_look(model) for model in CATALOGUE) and examples()[0].model == "small"
