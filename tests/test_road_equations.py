"""The equations of the page "Road" are filled with the cells' own numbers, worked anew in NumPy in float64."""

import re

import numpy as np
import pytest
import torch

from attention_core.figures.formulas import tex
from attention_core.figures.road_cells import Cell, can_look
from attention_core.figures.road_equations import largest_difference, of_cell, of_the_vector, score_of
from attention_core.seq2seq.saying import Saying, say
from attention_core.seq2seq.stations import STATIONS, load_station
from tests.test_road_figures import alignment, saying


@pytest.fixture(scope="module")
def said() -> dict[str, Saying]:
    """What untrained stations say: their numbers are as real."""
    torch.manual_seed(3)
    return {name: say(station.make().eval(), "through", name) for name, station in STATIONS.items()}


@pytest.mark.parametrize("name", [name for name in STATIONS if name != "bottleneck"])
def test_scores_are_the_sums_of_their_products(said, name):
    one = said[name]
    for found in one.alignments:
        left, right = np.broadcast_arrays(found.left, found.right)
        sums = np.einsum("tsd,tsd->ts", left, right) * found.scaling
        seen = can_look(found)
        np.testing.assert_allclose(sums[seen], found.scores[seen], atol=1e-5)
        assert score_of(found, Cell(0, 0)) == pytest.approx(sums[0, 0])
    apart, largest = largest_difference(one.alignments)
    assert apart < 1e-5
    assert largest == max(np.abs(found.scores[can_look(found)]).max() for found in one.alignments)


def test_a_wrong_score_would_be_found():
    one = alignment()
    one.scores[1, 2] += 0.25
    assert largest_difference([alignment(), one])[0] == pytest.approx(0.25)


@pytest.mark.parametrize("name", [name for name in STATIONS if name != "bottleneck"])
def test_scores_of_the_shipped_weights_are_the_sums_of_their_products(name):
    one = say(load_station(name), "responsibilities", name)
    for found in one.alignments:
        sums = np.einsum("tsd,tsd->ts", *np.broadcast_arrays(found.left, found.right)) * found.scaling
        seen = can_look(found)
        np.testing.assert_allclose(sums[seen], found.scores[seen], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in STATIONS if name != "bottleneck"])
def test_equations_are_filled_with_the_cells_numbers(said, name):
    one = said[name]
    found = one.alignments[-1]
    sound = 1
    letter = int(found.weights[sound].argmax())
    formulas = of_cell(one, found, Cell(sound, letter))
    ends = [formula.filled.rsplit("= ", 1)[1] for formula in formulas]
    scores = found.scores[sound]
    powers = np.exp(scores)
    share = powers[letter] / powers.sum()
    expected = [tex(float(scores[letter])), tex(float(share))]
    if name == "local-p":
        centre = float(found.centres[sound])
        expected.append(tex(float(share * np.exp(-((letter - centre) ** 2) / 2))))
        assert rf"{len(one.letters)} \cdot {tex(centre / len(one.letters))} = {tex(centre)}" in formulas[0].filled
    assert ends[-len(expected) :] == expected
    assert len(formulas) == len(expected) + name.startswith("local")
    score = formulas[len(formulas) - len(expected)]
    left, right = found.factors(sound, letter)
    count = 16 if name == "transformer" else 128
    assert rf"{{{count} \text{{ products}}}}" in score.filled and str(count) in score.words
    for value in (left[0], right[0], left[2], right[2]):
        assert tex(float(value)) in score.filled
    assert score.letters == STATIONS[name].score


def test_every_equation_can_be_set(said):
    for name, one in said.items():
        formulas = [of_the_vector(one)] if name == "bottleneck" else of_cell(one, one.alignments[0], Cell(0, 0))
        for formula in formulas:
            for latex in (formula.letters, formula.filled):
                assert latex.count("{") == latex.count("}") and latex.count(r"\left") == latex.count(r"\right")
                assert not re.search(r"nan|[^\x00-\x7f]", latex)
            assert formula.words.endswith(".") and "{" not in formula.words


def test_the_vector_is_as_long_for_any_word():
    formula = of_the_vector(saying("bottleneck", alignments=[]))
    assert r"5 \text{ letters of } 128 \text{ numbers}" in formula.filled
    assert r"\underbrace{c}_{128 \text{ numbers}}" in formula.filled
