"""Rows in pages: counted by hand and by brute force, and the rows of two real runs where their texts begin alike."""

import random
from dataclasses import replace
from os.path import commonprefix

import numpy as np
import pytest
import torch

from attention_core import HeadlightError, cache_bytes
from attention_core.generation import decode
from attention_core.paging import (
    ROWS_A_PAGE,
    common_prefix,
    not_paged,
    page_table,
    paged_layers,
    prefix_agreement,
    row_bytes,
    shared_pages,
    tokens_read,
)
from attention_core.run import Run
from tests.architectures import some_ids
from tests.test_generation import DEEPSEEK, GEMMA, model_of, run_of

LLAMA = "Llama: grouped"


def test_pages_are_taken_one_by_one():
    """11 tokens, then one a step: the sixth decode step opens the second page."""
    run, row = run_of(LLAMA), 3 * 2 * 2 * 10 * 4  # layers, key and value, heads, head_dim, bytes
    tables = [page_table(step) for step in run.steps]
    assert [len(table.pages) for table in tables] == [1] * 6 + [2] * 6
    assert [table.free for table in tables] == [5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10]
    last = tables[-1]
    assert [(page.place, page.first, page.filled) for page in last.pages] == [(0, 0, 16), (1, 16, 6)]
    assert (last.row_bytes, last.used_bytes, last.bytes) == (row, 22 * row, 32 * row)
    assert last.at_once(320) == 320 * row
    assert last.used_bytes == run.steps[-1].cache_bytes


@pytest.mark.parametrize("size", [1, 3, 16, 100])
def test_pages_of_another_size(size):
    table = page_table(run_of(LLAMA).steps[4], size)
    assert sum(page.filled for page in table.pages) == table.tokens == 15
    assert table.bytes - table.used_bytes == table.free * table.row_bytes and 0 <= table.free < size


@pytest.mark.parametrize("name", [LLAMA, DEEPSEEK, "GPT-BigCode: multi-query", "Bloom"])
def test_a_row_takes_the_bytes_of_one_token(name):
    step = run_of(name).steps[3]
    assert row_bytes(step) == cache_bytes(step.facts.config, 1) and not not_paged(step)


def test_what_is_not_paged_is_said():
    gemma = run_of(GEMMA).steps[-1]  # windows of 6 in its layers 0 and 2
    assert paged_layers(gemma) == (1, 3) and row_bytes(gemma) == 2 * 2 * 2 * 10 * 4
    assert not_paged(gemma) == ("Layers 0, 2: sliding window of 6: keeps the last 5 rows.",)
    mixed = run_of("MiniMax: linear attention between").steps[-1]
    assert paged_layers(mixed) == (1, 3)
    assert not_paged(mixed)[0] == "Layers 0, 2: linear attention: keeps a state of fixed size and no rows."
    assert not_paged(mixed)[1].startswith(f"{mixed.state_bytes:,} bytes of other states")
    assert "cross-attention" in not_paged(run_of("BART").steps[2])[-1]
    with pytest.raises(HeadlightError, match="without windows, such as small"):
        page_table(run_of("Mistral: sliding window").steps[-1])


def test_a_common_prefix_is_pythons_own():
    chance = random.Random(0)
    for _ in range(300):
        one, other = ([chance.randint(0, 1) for _ in range(chance.randint(0, 9))] for _ in range(2))
        assert common_prefix(one, other) == len(commonprefix([one, other]))


def test_shared_pages_by_brute_force():
    """A page is known by every token up to its end: what is the same in both is held once, if it is full."""
    chance = random.Random(1)
    for _ in range(200):
        alike, size = chance.randint(0, 40), chance.choice([1, 4, 16])
        begin = [7] * alike
        one, other = (begin + [n, *[7] * chance.randint(0, 30)] for n in (1, 2))
        shared = shared_pages(one, other, 24, size)
        known = {
            tuple(tokens[: end + size]) if end + size <= len(tokens) else (n, end)
            for n, tokens in enumerate((one, other))
            for end in range(0, len(tokens), size)
        }
        places = {page.place for table in (shared.one, shared.other) for page in table.pages}
        assert len(places) == len(known) and places == set(range(len(known)))
        assert shared.bytes == len(known) * size * 24
        assert shared.prefix == alike and shared.rows == shared.pages * size <= alike
        assert shared.saved_bytes == shared.one.bytes + shared.other.bytes - shared.bytes


@pytest.mark.parametrize("name", [LLAMA, "GPT-2: learned positions", DEEPSEEK, GEMMA])
def test_rows_of_the_same_beginning_agree(name):
    """Two real runs, their difference measured once more on the model's own caches, in float64."""
    lm, ids = model_of(name), some_ids(19)
    one = Run.of(decode(lm, ids, 4, uncached=False))
    second = torch.cat([ids[:, :17], (ids[:, 17:18] + 1) % 90 + 3, ids[:, :6]], dim=1)
    other = Run.of(decode(lm, second, 2, uncached=False))
    assert common_prefix(tokens_read(one, 3), tokens_read(other, 1)) == 17
    found = prefix_agreement(one.steps[3], other.steps[1], 17)
    assert found.apart < 1e-5 * found.largest
    caches = [lm.model(input_ids=given, use_cache=True).past_key_values for given in (ids, second)]
    apart = []
    for layer in paged_layers(one.steps[3]):
        for part in ("keys", "values"):
            rows = [getattr(cache.layers[layer], part)[0, :, :17].double().detach().numpy() for cache in caches]
            apart.append(np.abs(rows[0] - rows[1]).max())
    assert abs(max(apart) - found.apart) < 1e-5 * found.largest
    assert prefix_agreement(one.steps[3], other.steps[1], 18).apart > 1e-2  # the first token that is another one


def test_the_largest_difference_of_keys_and_of_values():
    """Rows changed by hand."""
    step = run_of(LLAMA).steps[-1]
    again = Run.of(decode(model_of(LLAMA), some_ids(11), 12, uncached=False)).steps[-1]
    assert prefix_agreement(step, again, 11).apart == 0
    key, value = again.cache[1]
    key[1, 4, 3] += 0.5
    value[0, 9, 2] -= 2.0
    found = prefix_agreement(step, again, 11)
    assert (found.key, found.value) == pytest.approx((0.5, 2.0), rel=1e-5) and found.apart == found.value
    assert prefix_agreement(step, again, 4).apart == 0
    assert found.largest == max(float(t[:, :11].abs().max()) for pair in step.cache for t in pair)


def test_what_cannot_be_compared():
    step = run_of(LLAMA).steps[0]
    with pytest.raises(HeadlightError, match="two texts of one model"):
        prefix_agreement(step, run_of("GPT-2: learned positions").steps[0], 3)
    with pytest.raises(HeadlightError, match="the same beginning"):
        prefix_agreement(step, step, 0)
    other = replace(step, facts=replace(step.facts, source=(1, 2)))
    with pytest.raises(HeadlightError, match="different encoders"):
        prefix_agreement(step, other, 3)


def test_a_page_is_of_sixteen_rows():
    """vLLM's default, and the paper's (section 7.2)."""
    assert ROWS_A_PAGE == page_table(run_of(LLAMA).steps[0]).size == 16
