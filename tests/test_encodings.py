"""The positional encodings against their papers' formulas in NumPy float64 and examples worked by hand; and the small
Transformer with each of them: masks, cache, padding, what it refuses."""

import numpy as np
import pytest
import torch

from attention_core.encodings import (
    RotaryPositions,
    alibi_biases,
    alibi_slopes,
    rope_angles,
    rotate,
    sinusoidal,
    sinusoidal_at,
)
from attention_core.transformer import POSITIONS, SmallConfig, SmallForCausalLM, SmallModel

SIZES = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 6}


def make(positions, kind=SmallForCausalLM, **more):
    torch.manual_seed(0)
    config = SmallConfig(**SIZES, positions=positions, initializer_range=0.3, max_position_embeddings=40, **more)
    return kind(config).eval()


def some_ids(tokens, seed=1):
    return torch.randint(1, 50, (1, tokens), generator=torch.Generator().manual_seed(seed))


# ── sinusoidal: Vaswani et al. 2017, section 3.5 ──────────────────────────────────────────────────────────────────────


def test_sinusoidal_is_the_papers_formula():
    table, size = sinusoidal(600, 96).double().numpy(), 96
    for i in range(size // 2):
        angle = np.arange(600) / 10_000 ** (2 * i / size)
        np.testing.assert_allclose(table[:, 2 * i], np.sin(angle), atol=1e-7)
        np.testing.assert_allclose(table[:, 2 * i + 1], np.cos(angle), atol=1e-7)


def test_sinusoidal_by_hand():
    """Size 4: the second pair turns a hundred times more slowly than the first."""
    expected = [
        [0, 1, 0, 1],
        [0.8414710, 0.5403023, 0.0099998, 0.9999500],
        [0.9092974, -0.4161468, 0.0199987, 0.9998000],
    ]
    np.testing.assert_allclose(sinusoidal(3, 4).numpy(), expected, atol=1e-6)


def test_a_step_is_the_same_rotation_everywhere():
    """The paper's reason for the choice: PE(p + k) is a linear function of PE(p), whatever p is."""
    table = sinusoidal(40, 8).double().numpy().reshape(40, 4, 2)
    for pair in range(4):
        turn, *_ = np.linalg.lstsq(table[:10, pair], table[7:17, pair], rcond=None)
        np.testing.assert_allclose(table[:33, pair] @ turn, table[7:, pair], atol=1e-6)


def test_sinusoidal_anywhere_is_a_row_of_the_table():
    assert torch.equal(sinusoidal_at(torch.tensor([[3, 11]]), 10), sinusoidal(12, 10)[[3, 11]][None])


@pytest.mark.parametrize("size", [0, 7])
def test_pairs_need_an_even_size(size):
    with pytest.raises(ValueError, match="no even size"):
        sinusoidal(3, size)


# ── rotary: Su et al. 2021, equations 15 and 34 ───────────────────────────────────────────────────────────────────────


def test_angles_are_the_papers_formula():
    expected = np.arange(50)[:, None] * 10_000.0 ** (-2 * np.arange(12) / 24)
    np.testing.assert_allclose(rope_angles(50, 24, 10_000.0).double().numpy(), expected, rtol=1e-6)


def test_turned_as_the_rotation_matrix_turns_it():
    random = np.random.default_rng(0)
    x, cos_sin = random.normal(size=8), RotaryPositions(8, 10_000.0)(torch.tensor([[13]]), torch.float64)
    turned = rotate(torch.from_numpy(x), *(part[0, 0, 0] for part in cos_sin)).numpy()
    for pair in range(4):
        angle = 13 * 10_000.0 ** (-2 * pair / 8)
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        np.testing.assert_allclose(turned[[pair, pair + 4]], matrix @ x[[pair, pair + 4]], atol=1e-5)


def test_after_turning_the_product_depends_on_the_distance_alone():
    query, key = torch.randn(2, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cos, sin = RotaryPositions(24, 10_000.0)(torch.arange(64)[None], torch.float64)
    queries, keys = (rotate(x.expand(64, 24), cos[0, 0], sin[0, 0]) for x in (query, key))
    products = queries @ keys.T  # (64, 64)
    for distance in (0, 1, 5, 40):
        along = products.diagonal(-distance)
        assert torch.allclose(along, along[0].expand_as(along), atol=1e-4, rtol=0)
    assert products.diagonal().std() < 1e-4 < 0.1 < products[:, 0].std()


# ── ALiBi: Press et al. 2022, section 3 ───────────────────────────────────────────────────────────────────────────────


def test_slopes_of_the_paper():
    assert alibi_slopes(8).tolist() == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    sixteen = [2**-0.5, 0.5, 2**-1.5, 0.25, 2**-2.5, 2**-3]
    np.testing.assert_allclose(alibi_slopes(16)[:6].numpy(), sixteen, rtol=1e-6)


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 12, 16, 25])
def test_slopes_are_those_of_the_authors_code(heads):
    """get_slopes of github.com/ofirpress/attention_with_linear_biases, in words."""

    def power_of_two(n):
        start = 2 ** (-(2 ** -(np.log2(n) - 3)))
        return [start * start**i for i in range(n)]

    below = 2 ** int(np.floor(np.log2(heads)))
    expected = power_of_two(below) + power_of_two(2 * below)[0::2][: heads - below]
    np.testing.assert_allclose(alibi_slopes(heads).numpy(), expected, rtol=1e-6)


def test_no_heads_no_slopes():
    with pytest.raises(ValueError, match="no slopes for 0 heads"):
        alibi_slopes(0)


def test_biases_by_hand():
    """Two heads, the queries 2 and 3 behind a cache of two: a sixteenth a step, then a 256th."""
    biases = alibi_biases(alibi_slopes(2), torch.arange(2, 4), torch.arange(4))
    assert biases.shape == (2, 2, 4)
    assert biases[0].tolist() == [[-2 / 16, -1 / 16, 0, -1 / 16], [-3 / 16, -2 / 16, -1 / 16, 0]]
    assert biases[1, 1].tolist() == [-3 / 256, -2 / 256, -1 / 256, 0]


def test_alibi_weights_of_a_layer_are_the_softmax_of_biased_scores():
    model, ids, seen = make("alibi"), some_ids(9), {}
    model.set_attn_implementation("eager")
    attention = model.model.layers[0].self_attn
    for name in ("q_proj", "k_proj"):
        getattr(attention, name).register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    with torch.no_grad():
        weights = model(input_ids=ids, output_attentions=True).attentions[0][0].numpy()  # (4, 9, 9)
    query, key = (seen[name][0].double().numpy().reshape(9, 4, 6) for name in ("q_proj", "k_proj"))
    for head, slope in enumerate([1 / 4, 1 / 16, 1 / 64, 1 / 256]):
        for row in range(9):
            scores = key[: row + 1, head] @ query[row, head] / np.sqrt(6) - slope * (row - np.arange(row + 1))
            expected = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            np.testing.assert_allclose(weights[head, row, : row + 1], expected, atol=1e-6)
            assert not weights[head, row, row + 1 :].any()


# ── the small Transformer with each ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_cache_changes_nothing(positions, implementation):
    model, ids = make(positions), some_ids(17)
    model.set_attn_implementation(implementation)
    with torch.no_grad():
        whole = model(input_ids=ids, use_cache=False).logits
        first = model(input_ids=ids[:, :9], use_cache=True)
        second = model(input_ids=ids[:, 9:16], past_key_values=first.past_key_values, use_cache=True)
        last = model(input_ids=ids[:, 16:], past_key_values=second.past_key_values, use_cache=True)
    parts = torch.cat([first.logits, second.logits, last.logits], dim=1)
    assert torch.allclose(whole, parts, atol=1e-4, rtol=0)


@pytest.mark.parametrize("positions", POSITIONS)
def test_padding_on_the_left_changes_nothing(positions):
    model, ids = make(positions), some_ids(8)
    padded = torch.cat([torch.zeros(1, 5, dtype=torch.long), ids], dim=1)
    mask = torch.tensor([[0] * 5 + [1] * 8])
    how = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    plain = model.generate(input_ids=ids, **how)
    assert torch.equal(model.generate(input_ids=padded, attention_mask=mask, **how)[:, 5:], plain)
    assert plain.shape == (1, 14)


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_decoder_never_looks_ahead_and_an_encoder_does(positions):
    ids, changed = some_ids(12), some_ids(12)
    changed[0, 9:] = torch.tensor([7, 8, 9])
    for causal in (True, False):
        model = make(positions, SmallModel, is_causal=causal)
        with torch.no_grad():
            before, after = (model(input_ids=i).last_hidden_state[0, :9] for i in (ids, changed))
        assert torch.equal(before, after) == causal


def test_learned_positions_end_where_their_table_does():
    model = make("learned")
    with torch.no_grad():
        assert model(input_ids=some_ids(40)).logits.shape == (1, 40, 50)
        with pytest.raises(ValueError, match="learned positions end after 40 tokens: give a shorter text"):
            model(input_ids=some_ids(41))


@pytest.mark.parametrize("positions", ["sinusoidal", "rope", "alibi", "none"])
def test_the_others_have_no_end(positions):
    with torch.no_grad():
        assert make(positions)(input_ids=some_ids(90)).logits.isfinite().all()


def test_unknown_positions_are_refused():
    with pytest.raises(ValueError, match="no positions “wheels”: choose one of rope, sinusoidal, learned, alibi, none"):
        make("wheels")


def test_an_encoder_writes_nothing():
    with pytest.raises(ValueError, match="use SmallModel"):
        make("none", is_causal=False)
    assert not make("none", SmallModel, is_causal=False).can_generate()
