"""How encodings compare two places, and words in another order: against NumPy and passes that the test makes."""

import numpy as np
import pytest
import torch

from attention_core.encodings import rope_angles, sinusoidal
from attention_core.errors import HeadlightError
from attention_core.language import LanguageModel
from attention_core.ordering import (
    SAME,
    Words,
    alibi_penalties,
    compare_orders,
    encoded_places,
    last_vectors,
    learned_table,
    products_by_distance,
    read_in,
    read_words,
    variant,
    weights_apart,
    word_differences,
)
from attention_core.transformer import SmallConfig, SmallModel
from attention_core.variants import ENCODINGS
from tests.tiny import letters

SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
SENTENCE = "the dog saw the cat"


def fresh(positions: str, causal: bool) -> torch.nn.Module:
    torch.manual_seed(3)
    heads = {"num_key_value_heads": 2, "head_dim": 12, "vocab_size": 97}
    config = SmallConfig(**SIZES, **heads, positions=positions, is_causal=causal, initializer_range=0.3)
    return SmallModel(config).eval().double()


@pytest.fixture(scope="module")
def words() -> Words:
    return read_words(variant("none", True), SENTENCE)


def test_products_are_those_of_every_pair():
    table = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    found = products_by_distance(table, pairs=3)
    rows = table.numpy().astype(np.float64)
    for k in range(5):
        pairs = [rows[p] @ rows[p + k] for p in range(7 - k)]
        assert float(found.mean[k]) == pytest.approx(np.mean(pairs))
        assert float(found.low[k]) == pytest.approx(np.quantile(pairs, 0.05))
        assert float(found.high[k]) == pytest.approx(np.quantile(pairs, 0.95))
    assert found.distances.tolist() == [0, 1, 2, 3, 4]
    assert not found.by_distance_alone
    with pytest.raises(ValueError, match="no 8 pairs"):
        products_by_distance(table, pairs=8)


@pytest.mark.parametrize(("encoding", "factor"), [("sinusoidal", 1), ("rope", 2)])
def test_sinusoidal_and_rope_depend_on_the_distance_alone(encoding: str, factor: int):
    """A pair of a sine and a cosine gives cos(k θ); a pair of ones that is turned 2 cos(k θ)."""
    found = products_by_distance(encoded_places(encoding, 90, 10, 10_000.0), pairs=50)
    theta = 10_000.0 ** (-np.arange(0, 10, 2) / 10)
    expected = factor * np.cos(np.arange(41)[:, None] * theta).sum(axis=1)
    np.testing.assert_allclose(found.mean.numpy(), expected, atol=2e-5)
    assert found.by_distance_alone and found.spread < 1e-4


def test_what_is_compared():
    assert torch.equal(encoded_places("sinusoidal", 5, 6, 1.0), sinusoidal(5, 6))
    assert products_by_distance(encoded_places("none", 40, 6, 1.0)).mean.tolist() == [6.0] * 9
    angle = float(rope_angles(4, 2, 10_000.0)[3, 0])
    turned = encoded_places("rope", 4, 2, 10_000.0)[3]
    assert turned.tolist() == pytest.approx([np.cos(angle) - np.sin(angle), np.sin(angle) + np.cos(angle)], abs=1e-6)
    for encoding in ("alibi", "learned"):
        with pytest.raises(ValueError, match=encoding):
            encoded_places(encoding, 5, 6, 1.0)


def test_the_learned_table_is_the_models_and_depends_on_more_than_the_distance():
    table = learned_table()
    assert torch.equal(table, variant("learned", True).model.model.embed_positions.weight)
    found = products_by_distance(encoded_places("learned", 128, table.shape[1], 1.0, table))
    assert len(found.mean) == 97 and not found.by_distance_alone
    assert bool((found.low <= found.mean).all()) and bool(found.mean[0] > found.mean[-1])


def test_alibi_takes_off_slope_times_distance():
    """Press et al. 2022: four heads have the slopes 1/4, 1/16, 1/64 and 1/256."""
    expected = -np.outer([1 / 4, 1 / 16, 1 / 64, 1 / 256], [0, 1, 2])
    np.testing.assert_allclose(alibi_penalties(4, 3).numpy(), expected)


def test_a_words_tokens_stay_together():
    words = Words(("a", "bcd", "e"), ((1,), (2, 3, 4), (5,)), (("a",), ("b", "c", "d"), ("e",)))
    assert words.in_order([2, 1, 0]) == ([5, 2, 3, 4, 1], [2, 1, 1, 1, 0])
    for order in ([0, 1], [0, 1, 1], [0, 1, 3]):
        with pytest.raises(HeadlightError, match="shuffle"):
            words.in_order(order)


def test_words_are_read_with_the_space_before_them(words: Words):
    tokenizer = variant("none", True).tokenizer
    assert words.words == ("the", "dog", "saw", "the", "cat")
    assert words.ids == tuple(tuple(tokenizer(f" {word}")["input_ids"]) for word in words.words)
    assert words.ids[0] == words.ids[3] and words.tokens[1] == ("·dog",)


@pytest.mark.parametrize("sentence", ["", "dog", "a " * 25, f"the {'x' * 41}"])
def test_a_sentence_that_cannot_be_moved(sentence: str):
    with pytest.raises(HeadlightError, match="type another"):
        read_words(variant("none", True), sentence)


def test_word_differences_by_hand():
    words = Words(("a", "bc"), ((1,), (2, 3)), (("a",), ("b", "c")))
    first = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])  # a b c
    second = torch.tensor([[2.0, 0.5], [3.0, -4.0], [1.0, 0.0]])  # b c a
    assert word_differences(words, first, [0, 1, 1], second, [1, 1, 0]).tolist() == [0.0, 4.0]


@pytest.mark.parametrize("positions", ENCODINGS)
@pytest.mark.parametrize("causal", [False, True])
def test_only_an_encoder_without_positions_cannot_tell_the_order(positions: str, causal: bool):
    """Freshly made models: nothing of it is learned."""
    words = read_words(LanguageModel(fresh(positions, True).float(), letters()), "ab cd ef")
    stack = fresh(positions, causal)
    start, there = words.in_order([0, 1, 2]), words.in_order([2, 0, 1])
    vectors = [last_vectors(stack, ids) for ids, _ in (start, there)]
    assert vectors[0].dtype == torch.float64
    largest = float(word_differences(words, vectors[0], start[1], vectors[1], there[1]).max())
    assert (largest < SAME) == (positions == "none" and not causal)
    if largest >= SAME:
        assert largest > 1e-3


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_shipped_models_too(encoding: str, words: Words):
    order = [4, 0, 3, 1, 2]
    encoder, decoder = (compare_orders(words, order, encoding, causal) for causal in (False, True))
    assert encoder.same == (encoding == "none") and not decoder.same
    assert encoder.differences.shape == (5,) and encoder.differences.dtype == torch.float64
    with torch.no_grad():  # the same in float32, by the model's own eager attention
        model = variant(encoding, True).model
        both = [model.model(torch.tensor([words.in_order(o)[0]])).last_hidden_state[0] for o in (range(5), order)]
    moved = torch.stack([both[0][word] - both[1][order.index(word)] for word in range(5)]).abs().amax(dim=1)
    torch.testing.assert_close(decoder.differences.float(), moved, atol=1e-3, rtol=1e-3)


def test_nothing_moves_in_the_original_order(words: Words):
    assert compare_orders(words, range(5), "rope", True).largest == 0.0


def test_a_reading_is_the_models_own(words: Words):
    lm = variant("rope", True)
    reading = read_in(lm, words, [4, 1, 2, 3, 0])
    ids = torch.tensor([words.in_order([4, 1, 2, 3, 0])[0]])
    with torch.no_grad():
        chances = lm.model(ids).logits[0, -1].softmax(-1)
    assert reading.in_words == "cat dog saw the the"
    assert reading.capture.likely[0][1] == pytest.approx(float(chances.max()), abs=1e-5)
    assert reading.places() == [4, 1, 2, 3, 0]


def test_the_attention_of_an_encoder_without_positions_moves_with_the_words(words: Words):
    orders = (range(5), [4, 0, 3, 1, 2])
    for encoding, same in (("none", True), ("rope", False), ("alibi", False)):
        before, after = (read_in(variant(encoding, False), words, order) for order in orders)
        apart = max(weights_apart(before, after, layer, head) for layer in range(3) for head in range(4))
        assert (apart < 1e-5) == same
