"""What the figures, words and tables of "Positions" show is what they are given."""

import re

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from attention_core.encodings import alibi_slopes, rope_angles, sinusoidal
from attention_core.figures import needle_figures as needles
from attention_core.figures import position_figures as figures
from attention_core.figures import position_tables as tables
from attention_core.figures import position_words as words
from attention_core.figures.cache_figures import DARK, LIGHT
from attention_core.needle import Found, Hunted, Needle
from attention_core.ordering import (
    ByDistance,
    Told,
    alibi_penalties,
    encoded_places,
    products_by_distance,
    read_in,
    read_words,
    variant,
    weights_apart,
)
from attention_core.variants import ENCODINGS, Change, Measured

WORDS = ("the", "dog", "saw", "the", "cat")


def measured(rise: float = 0.5) -> dict[str, Measured]:
    """Two variants: one holds, one breaks by `rise`."""
    found = {}
    for name, change in (("alibi", Change(-0.1, -0.2, 0.05)), ("learned", Change(rise, rise - 0.1, rise + 0.1))):
        loss = np.array([4.0, 3.0, 3.0 + change.mean, 3.0 + change.mean])
        shuffled = {1: Change(0.9 if name == "alibi" else 0.7, 0.6, 1.0), 4: Change(0.3, 0.2, 0.4)}
        found[name] = Measured(
            encoding=name,
            positions=np.arange(4) * 16,
            loss=loss,
            low=loss - 0.1,
            high=loss + 0.2,
            trained_length=32,
            texts=7,
            trained_loss=3.5,
            rise=change,
            shuffled=shuffled,
            parameters=1234,
            tokens=5678,
            seconds=9,
        )
    return found


def hunted(chances=(0.9, 0.4, 0.01), ranks=(1, 1, 5)) -> Hunted:
    found = tuple(
        Found(
            text="…",
            distance=distance,
            tokens=distance + 30,
            place=20,
            chance=chance,
            rank=rank,
            without=0.0001,
            likely=(("·Anna" if rank == 1 else "·the", 0.9), ("<s>", 0.1)),
            weights=torch.tensor([[0.1, 0.0], [0.0, weight]]),
        )
        for distance, chance, rank, weight in zip((5, 50, 1000), chances, ranks, (0.9, 0.8, 0.02), strict=True)
    )
    return Hunted(Needle("My friend is called", "Anna"), ("·Anna",), found, (0, 3), 2)


def drawn(figure: go.Figure, name: str) -> go.Scatter:
    return next(trace for trace in figure.data if trace.name == name)


def test_the_map_is_the_matrix():
    table = sinusoidal(9, 6).numpy()
    heat = figures.encoding_map(table).data[0]
    np.testing.assert_array_equal(heat.z, table)
    assert heat.zmin == -heat.zmax
    assert "9 positions, 6 numbers each" in words.map_in_words(table, "sinusoidal", None)
    shown = tables.matrix_table(table, 2)
    assert shown.header == ("position", "number 0", "number 1", "number 5")
    assert shown.rows[1] == ("1", f"{np.sin(1):.4f}", f"{np.cos(1):.4f}", f"{np.cos(10000 ** (-4 / 6)):.4f}")


def test_rows_that_were_never_trained_are_marked():
    table = np.concatenate([np.full((4, 6), 2.0), np.full((4, 6), 0.01)]) * np.tile([1, -1], 3)
    figure = figures.encoding_map(table, 4)
    assert figure.layout.shapes[0].y0 == 3.5
    assert {re.sub("<.*?>", "", note.text) for note in figure.layout.annotations} == {
        "trained up to here ↑",
        "never met ↓",
    }
    assert "positions 0 to 3 were trained: their numbers spread by 2.000" in words.map_in_words(table, "learned", 4)


def test_the_dials_hands_stand_at_their_angles():
    angles = rope_angles(20, 6, 10_000.0).numpy()
    figure = figures.dials_figure(angles, 7)
    hands = [trace for trace in figure.data if trace.line.width == 5]
    assert len(hands) == 3
    for hand, angle in zip(hands, angles[7], strict=True):
        x, y = hand.x[1] - hand.x[0], hand.y[1] - hand.y[0]
        assert (x, y) == pytest.approx((np.cos(angle), np.sin(angle)), abs=1e-5)
    assert "pair 0 has turned 1.1 times round" in words.dials_in_words(angles, 7)
    row = tables.angles_table(angles, 7).rows[0]
    assert row[:3] == ("0", "1", "7.0000") and row[3] == f"{np.degrees(7) % 360:.1f}°"


def test_the_lines_of_angles_turn_at_their_speeds():
    angles = rope_angles(20, 6, 10_000.0).numpy()
    figure = figures.angles_figure(angles, 3)
    assert [trace.name for trace in figure.data] == ["pair 0", "pair 1", "pair 2"]
    fast = figure.data[0]
    x, y = np.asarray(fast.x), np.asarray(fast.y)
    known = ~np.isnan(x)
    np.testing.assert_allclose(y[known], np.degrees(x[known]) % 360, atol=1e-3)
    assert (~known).sum() == 3  # it passes its start three times in 19 radians: the line is broken there
    assert figure.layout.shapes[0].x0 == 3


def test_slopes_and_penalties():
    slopes = alibi_slopes(4).numpy()
    bars = figures.slopes_figure(slopes).data[0]
    assert bars.text[1] == "1/16 = 0.0625" and list(bars.x) == slopes.tolist()
    penalties = alibi_penalties(4, 11).numpy()
    figure = figures.penalties_figure(penalties, slopes)
    np.testing.assert_allclose(figure.data[2].y, -np.arange(11) / 64)
    assert "a token 10 away gets 8.2%" in words.slopes_in_words(slopes)
    assert "At 10 tokens of distance is added −2.50 by head 0" in words.penalties_in_words(penalties)[1]
    assert tables.penalties_table(penalties).rows[-1][:2] == ("10", "−2.5")
    assert tables.left_table(penalties).rows[-1][:2] == ("10", "8.2%")


@pytest.mark.parametrize("encoding", ["sinusoidal", "rope", "none"])
def test_the_curve_of_what_depends_on_distance_alone(encoding: str):
    found = products_by_distance(encoded_places(encoding, 80, 12, 10_000.0), pairs=40)
    figure = figures.products_figure(found)
    assert len(figure.data) == 1  # no band
    np.testing.assert_allclose(figure.data[0].y, found.mean.numpy(), rtol=1e-6)
    title, said = words.products_in_words(found, encoding)
    assert title == ("Every distance is the same." if encoding == "none" else "It depends on the distance alone.")
    assert tables.products_table(found).rows[0][1] == f"{float(found.mean[0]):.4f}"


def test_the_curve_of_what_does_not():
    found = products_by_distance(torch.randn(60, 5, generator=torch.Generator().manual_seed(0)))
    figure = figures.products_figure(found)
    assert figure.data[0].fill == "toself" and figure.layout.showlegend
    title, said = words.products_in_words(found, "learned")
    assert title == "It depends on the two places." and f"differ by up to {found.spread:.2f}" in said


def test_half_of_the_dot_product():
    flat = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    found = ByDistance(torch.arange(4), flat, flat, flat, 0.0)
    assert "first falls to half at distance 2. " in words.products_in_words(found, "rope")[1]
    wavy = torch.tensor([4.0, 1.0, 3.0, 1.0], dtype=torch.float64)
    found = ByDistance(torch.arange(4), wavy, wavy, wavy, 0.0)
    assert "at distance 1, and is above it again later." in words.products_in_words(found, "rope")[1]


# ── words in another order ──────────────────────────────────────────────────────────────────────────────────────────


def told(encoding: str, causal: bool, largest: float) -> Told:
    return Told(encoding, causal, torch.tensor([0.0, largest, 0.0, 0.0, 0.0], dtype=torch.float64))


def test_equality_is_said_with_its_number():
    title, *rest = words.told_in_words(told("none", False, 1.4e-15), WORDS, True)
    assert title == "The encoder without positions cannot tell the two orders apart"
    assert "0.0000000000 apart" in rest[0] and "1.4 × 10⁻¹⁵" in rest[0]


@pytest.mark.parametrize(
    ("encoding", "causal", "who"),
    [
        ("none", True, "The decoder without positions"),
        ("rope", False, "The encoder with RoPE"),
        ("sinusoidal", True, "The decoder with sinusoidal positions"),
    ],
)
def test_a_difference_is_said_with_its_word_and_why(encoding: str, causal: bool, who: str):
    title, first, *why = words.told_in_words(told(encoding, causal, 1.25), WORDS, True)
    can = "can partly tell the order" if encoding == "none" else "tells the two orders apart"
    assert title == f"{who} {can}" and "“dog” changes most: one of its numbers by 1.2500" in first
    assert ("the sets differ" in "".join(why)) == (encoding == "none")
    assert words.told_in_words(told(encoding, causal, 0.0), WORDS, False)[0] == "Nothing has moved yet"


def test_the_table_of_all_encodings():
    found = {
        (name, causal): told(name, causal, 0.0 if name == "none" else 2.0)
        for name in ENCODINGS
        for causal in (False, True)
    }
    rows = tables.orders_table(found).rows
    assert rows[0] == ("Sinusoidal", "2.0000", "2.0000") and rows[-1][1] == "0.0000000000, the same"
    moved = tables.words_table(told("rope", True, 2.0), WORDS, [4, 1, 2, 3, 0])
    assert moved.rows[0] == ("the", "0", "4", "0") and moved.rows[1] == ("dog", "1", "1", "2")


def test_predictions_and_attention_are_the_readings():
    lm = variant("none", False)
    read = read_words(lm, "the dog saw the cat")
    before, after = (read_in(lm, read, order) for order in (range(5), [4, 1, 2, 3, 0]))
    assert words.predictions_in_words(before, after).startswith("An encoder predicts no next word")
    said = words.attention_in_words(before, after, 1, 2, 4, weights_apart(before, after, 1, 2))
    row = before.capture.attention(1, 2)[4]
    assert said.startswith(f"Layer 1, head 2: “·cat” (4) looks {100 * float(row.max()):.1f}% at")
    assert "“·cat” (0) looks" in said and "No weight between the same two tokens" in said
    listed = {row[:2]: row[2:] for row in tables.attention_table(before, after, 1, 2).rows}
    one, other = listed["·cat (4)", "·dog (1)"]
    assert one == other == f"{100 * float(row[1]):.1f}%"  # the same pair, wherever it stands
    decoder = variant("rope", True)
    pair = [read_in(decoder, read, order) for order in (range(5), [4, 1, 2, 3, 0])]
    first = tables.likely_table(*pair).rows[0]
    assert first[0] == f"{pair[0].capture.likely[0][0]} {100 * pair[0].capture.likely[0][1]:.1f}%"
    assert "is expected next" in words.predictions_in_words(*pair)


# ── longer texts and the needle ─────────────────────────────────────────────────────────────────────────────────────


def test_the_loss_has_a_line_and_an_interval_for_each():
    found = measured()
    figure = figures.loss_figure(found)
    line = drawn(figure, "Learned")
    np.testing.assert_allclose(line.y, [4.0, 3.0, 3.5, 3.5])
    assert list(line.x) == [8, 24, 40, 56] and figure.layout.shapes[0].x0 == 32
    band = figure.data[2]
    np.testing.assert_allclose(band.y[:4], found["learned"].high, rtol=1e-6)
    title, *said = words.loss_in_words(found)
    assert title == "Trained on 32 tokens, read 2 times as many"
    assert (
        said[0].startswith("ALiBi holds")
        and said[1]
        == "The loss of the others rises from the last 16 positions of the training to the last 16 here: "
        "Learned by 0.50 nats a token."
    )
    assert said[2] == "It is 0.1 nats higher from position 32 (Learned)." and "7 texts" in said[-1]
    assert words.risen_at(measured(0.05)["learned"]) is None
    assert tables.loss_table(found).rows[2] == ("32 to 47", "2.900 (2.800 to 3.100)", "3.500 (3.400 to 3.700)")
    assert tables.variants_table(found).rows[1][:4] == ("Learned", "1,234", "3.500", "+0.500 (+0.400 to +0.600)")
    shuffled = words.shuffled_in_words(found)[1]
    assert "Only the last word left in place" in shuffled and "rises by 0.70 (Learned) to 0.90 (ALiBi) nats" in shuffled
    assert shuffled.endswith("With the last 4 words in place it rises by at most 0.30.")


def test_names_at_the_ends_of_lines_do_not_touch():
    places = figures.spread(np.array([3.0, 1.0, 1.01, 1.02]), 0.5)
    order = np.sort(places)
    assert (np.diff(order) >= 0.5 - 1e-9).all() and np.argsort(places).tolist() == [1, 2, 3, 0]
    assert np.mean(places) == pytest.approx(np.mean([3.0, 1.0, 1.01, 1.02]))


def test_the_needle_in_figures_words_and_tables():
    found = hunted()
    figure = needles.chances_figure(found, LIGHT)
    np.testing.assert_allclose(drawn(figure, "with the needle in the text").y, [0.9, 0.4, 0.01], rtol=1e-6)
    assert list(figure.layout.xaxis.ticktext) == ["5", "50", "1,000"]
    assert found.best_heads(2) == [(1, 1), (0, 0)]
    heads = needles.needle_heads_figure(found, found.best_heads(2), DARK)
    assert heads.data[0].name == "layer 3, head 1"
    title, *said = needles.needle_in_words(found, "It")
    assert title == "It finds the needle up to 50 tokens back"
    assert (
        "with 40.0%; without the needle it has less than 0.1%" in said[0] and "“·the” is expected instead" in said[-1]
    )
    assert needles.heads_of_needle_in_words(found, [(1, 1)])[0] == "Layer 3, head 1 looks for it"
    assert needles.needle_table(found).rows[0][:4] == ("5", "35", "90.0%", "1")
    assert needles.needle_heads_table(found, [(1, 1)]).rows == (("3", "1", "90.0%", "80.0%", "2.0%"),)
    assert "left out: 2" in needles.asked_in_words(found)


def test_a_needle_that_is_missed():
    assert needles.needle_in_words(hunted(ranks=(2, 3, 5)), "It")[0] == "It does not find the needle"
    said = needles.needle_in_words(hunted(ranks=(1, 3, 1)), "It")
    assert said[0] == "It finds the needle at 2 of 3 distances" and "It misses it at 50." in said[2]
    assert said[1].startswith("The farthest is 1,000 tokens back: there “")
    pale = hunted()
    for one in pale.found:
        one.weights.mul_(0.01)
    assert needles.heads_of_needle_in_words(pale, pale.best_heads(1))[0] == "No head looks for it"


def test_every_encoding_is_told():
    assert list(words.TOLD) == list(ENCODINGS)
    for about in words.TOLD.values():
        assert about.formula and about.paper and about.what.endswith(".") and about.letters.endswith(".")
