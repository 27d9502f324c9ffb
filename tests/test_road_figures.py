"""The figures, sentences and tables of the page "Road", against words that were made by hand."""

import numpy as np
import pytest

from attention_core.figures import road_figures as figures
from attention_core.figures import road_tables as tables
from attention_core.figures import road_words as words
from attention_core.figures.road_cells import Cell, head_name, shown, strongest, telling
from attention_core.figures.road_equations import of_cell
from attention_core.seq2seq.saying import Alignment, Saying, Steps

WORD = "knee"  # k n e e and the end: 5 letters; N IY and the end: 3 sounds
WEIGHTS = np.array([[0.1, 0.6, 0.2, 0.1, 0.0], [0.0, 0.1, 0.5, 0.3, 0.1], [0.0, 0.0, 0.0, 0.1, 0.9]])


def alignment(weights: np.ndarray = WEIGHTS, **parts) -> Alignment:
    """Its scores are the logarithms of its weights: what the softmax makes of them is known."""
    scores = np.log(np.where(weights > 0, weights, 1e-9))
    left, right = np.ones((len(weights), 1, 2)), np.stack([scores, np.zeros_like(scores)], axis=-1)
    return Alignment(weights, scores, left, right, **parts)


def saying(station: str = "additive", sounds: str = "N IY", alignments: list[Alignment] | None = None) -> Saying:
    said = [*sounds.split(), "end"]
    steps = Steps(1, 1, len(said)) if station == "transformer" else Steps(5, len(said), len(said))
    found = [alignment()] if alignments is None else alignments
    return Saying(station, WORD, [*WORD, "end"], said, np.array([0.9, 0.75, 0.99][: len(said)]), found, steps)


def by_length(*shares: float) -> list[dict]:
    lengths = [(1, 4), (5, 5), (6, 34)]
    return [part(share) | {"from": low, "to": high} for (low, high), share in zip(lengths, shares, strict=True)]


def part(share: float) -> dict:
    interval = {"share": share, "low": share - 0.02, "high": share + 0.03}
    return {"words": 1234, "wrong": interval, "sound_errors": {name: end / 4 for name, end in interval.items()}}


@pytest.fixture
def found() -> dict:
    rows = {"bottleneck": (0.2, 0.3, 0.6), "additive": (0.2, 0.25, 0.4), "transformer": (0.1, 0.2, 0.35)}
    stations = {
        name: part(0.3)
        | {"by_length": by_length(*shares), "short": part(shares[0]), "long": part(shares[2])}
        | {
            "parameters": 200_000,
            "step_milliseconds": 321.5,
            "steps": {"reading": 8.5, "learning": 7.25, "saying": 7.25},
        }
        for name, shares in rows.items()
    }
    return {"stations": stations, "long": 10, "tested": 3702}


# ── which alignment, which cell ─────────────────────────────────────────────────────────────────────────────────────


def test_the_most_telling_head_is_shown():
    assert telling(np.eye(4)) == pytest.approx(2.0)
    assert telling(np.tile([0.7, 0.2, 0.1], (5, 1))) == pytest.approx(0.0)
    assert telling(np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])) == pytest.approx(0.5)  # H = 1.5, of each row 1
    heads = [
        alignment(np.tile(WEIGHTS[0], (3, 1)), layer=0, head=0),
        alignment(layer=0, head=1),
        alignment(np.full((3, 5), 0.2), layer=2, head=3),
    ]
    one = saying("transformer", alignments=heads)
    assert head_name(shown(one)) == "0.1"
    assert shown(one, "2.3") is heads[2]
    assert shown(saying(), "2.3").layer is None, "a station without heads shows what it has"
    assert shown(saying("bottleneck", alignments=[])) is None


def test_the_ends_are_not_the_strongest_cell():
    assert WEIGHTS.max() == WEIGHTS[2, 4]
    assert strongest(alignment(), saying()) == Cell(0, 1)


# ── sentences ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_agrees():
    three = {"bottleneck": saying("bottleneck", "N EH", []), "additive": saying(), "dot": saying("dot")}
    title, others = words.agreement_in_words(three)
    assert (title, others) == ("Two of three stations say ni", ["One fixed vector says nɛ.", words.NO_JUDGE])
    three["transformer"] = saying("transformer", "N EH", [])
    three["general"] = saying("general")
    _, others = words.agreement_in_words(three)
    assert others == ["One fixed vector and The Transformer say nɛ.", words.NO_JUDGE]
    both = {"additive": saying(), "dot": saying("dot")}
    assert words.agreement_in_words(both) == ("All two stations say ni", [words.NO_JUDGE])
    apart = {"additive": saying(), "dot": saying("dot", "K")}
    assert words.agreement_in_words(apart) == ("The two stations say two different things", [words.NO_JUDGE])


FROM_0 = "Letters and sounds count from 0."


def test_a_cell_in_words():
    title, rest = words.cell_in_words(saying(), alignment(), Cell(1, 2))
    assert title == "Additive attention: i (IY) looks 50.0% at “e” (letter 2)"
    assert rest == [f"Its score is −{abs(np.log(0.5)):.3f}.", "No letter weighs more for this sound.", FROM_0]
    _, rest = words.cell_in_words(saying(), alignment(), Cell(0, 0))
    assert rest[1:] == ["The most, 60.0%, goes to “n” (letter 1).", FROM_0]
    title, _ = words.cell_in_words(saying(), alignment(), Cell(2, 4))
    assert title == "Additive attention: the end looks 90.0% at the end"
    head = alignment(layer=1, head=3)
    title, _ = words.cell_in_words(saying("transformer", alignments=[head]), head, Cell(0, 1))
    assert title.startswith("The Transformer, layer 1, head 3: n (N) looks 60.0%")


def windowed() -> Alignment:
    """The window of 2 letters on both sides of 1.5, and a bell curve over it."""
    before = np.array([[0.2, 0.3, 0.4, 0.1, 0.0]] * 3)
    scores = np.where(before > 0, np.log(np.where(before > 0, before, 1.0)), -np.inf)
    weights = before * np.exp(-((np.arange(5) - 1.5) ** 2) / 2)
    right = np.stack([np.where(np.isfinite(scores), scores, 0.0), np.zeros((3, 5))], axis=-1)
    return Alignment(weights, scores, np.ones((3, 1, 2)), right, before=before, centres=np.full(3, 1.5))


def test_outside_of_the_window():
    one = windowed()
    title, rest = words.cell_in_words(saying("local-p"), one, Cell(0, 4))
    assert title == "Local attention, predictive: n (N) cannot look at the end"
    assert rest == ["It is outside of the window."]
    assert [f.filled.count(r"\mathrm{score}") for f in of_cell(saying("local-p"), one, Cell(0, 4))] == [0]
    _, rest = words.cell_in_words(saying("local-p"), one, Cell(0, 2))
    assert rest[-2] == f"With the bell curve the row sums to {100 * one.weights[0].sum():.1f}%."
    assert tables.weights_tables(saying("local-p"), one)[0].rows[0][5] == "—"


def test_every_alignment_has_its_words():
    assert words.alignment_in_words(saying(), alignment()) == (
        "Additive attention says ni and looks most: n (N) 60.0% at “n” (letter 1), i (IY) 50.0% at “e” (letter 2), "
        "the end 90.0% at the end."
    )
    assert "Nothing to see" in words.alignment_in_words(saying("bottleneck", alignments=[]), None)
    title, rest = words.vector_in_words(saying("bottleneck", alignments=[]))
    assert title == "One fixed vector: 5 letters became one vector of 128 numbers"
    assert "All 3 sounds" in rest[0]


def test_the_weights_as_a_table():
    (table,) = tables.weights_tables(saying(), alignment())
    assert table.header == ("sound ↓ letter →", "k 0", "n 1", "e 2", "e 3", "end", "chance of the sound")
    assert table.rows[1] == ("IY i", "0.0000", "0.1000", "0.5000", "0.3000", "0.1000", "0.7500")
    assert table.rows[2][0] == "end"


def test_a_long_word_has_its_table_in_parts():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(41), size=2)
    one = Saying("dot", "a" * 40, [*"a" * 40, "end"], ["K", "end"], np.array([0.5, 0.25]), [], Steps(41, 2, 2))
    parts = tables.weights_tables(one, alignment(weights))
    assert [len(part.header) - 2 for part in parts] == [18, 18, 5]
    joined = [float(text) for part in parts for text in part.rows[1][1:-1]]
    np.testing.assert_allclose(joined, weights[1], atol=5.1e-5)
    assert {part.rows[0][-1] for part in parts} == {"0.5000"}


# ── where it breaks ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_curves_and_their_bands(found):
    figure = figures.lengths_figure(found, "additive")
    bands, lines = figure.data[:2], figure.data[2:]
    assert [line.name for line in lines] == ["<b>One fixed vector</b>", "<b>Additive attention</b>", "The Transformer"]
    for line, one in zip(lines, found["stations"].values(), strict=True):
        np.testing.assert_allclose(line.y, [p["wrong"]["share"] for p in one["by_length"]], rtol=1e-6)
    assert len({(line.line.dash, line.marker.symbol) for line in lines}) == 3
    np.testing.assert_allclose(bands[1].y, [0.23, 0.28, 0.43, 0.38, 0.23, 0.18], rtol=1e-5)  # up, and back below
    assert list(figure.layout.xaxis.ticktext) == ["up to 4", "5", "6 and more"]
    assert len(figures.lengths_figure(found, "bottleneck").data) == 1 + 3
    assert "One fixed vector from 20.0% (up to 4 letters) to 60.0% (6 and more)" in words.lengths_alt(found)


def test_the_curves_in_words(found):
    title, rest = words.lengths_in_words(found, "additive")
    assert title == "Of words with 10 letters and more Additive attention says 40.0% wrong, the fixed vector 60.0%"
    assert rest[0] == "Of shorter words Additive attention says 20.0% wrong, the fixed vector 20.0%."
    assert rest[1] == (
        "The Transformer makes the fewest mistakes in long words, 35.0%; the interval of Additive attention meets its "
        "own."
    )
    assert "3,702 words that no station learnt" in rest[2]
    found["stations"]["additive"]["long"]["wrong"] = {"share": 0.3, "low": 0.28, "high": 0.32}
    _, rest = words.lengths_in_words(found, "additive")
    assert rest[1] == "Additive attention makes the fewest mistakes in long words, 30.0%."
    assert rest[2] == "The Transformer, at 35.0%, is not the best at this size and after so short a training."
    found["stations"]["additive"]["long"]["wrong"] = {"share": 0.4, "low": 0.38, "high": 0.43}
    title, rest = words.lengths_in_words(found, "bottleneck")
    assert title == "The fixed vector says 60.0% of words with 10 letters and more wrong"
    assert rest[0] == "Of shorter words it says 20.0% wrong."


def test_the_curves_as_a_table(found):
    table = tables.lengths_table(found)
    assert table.header == (
        "letters (words wrong)",
        "words",
        "One fixed vector",
        "Additive attention",
        "The Transformer",
    )
    assert table.rows[2] == (
        "6 and more",
        "1,234",
        "60.0% (58.0% to 63.0%)",
        "40.0% (38.0% to 43.0%)",
        "35.0% (33.0% to 38.0%)",
    )
    assert tables.lengths_table(found, "sound_errors").rows[2][2] == "15.0% (14.5% to 15.8%)"


# ── steps in a row, and the papers ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def three() -> dict[str, Saying]:
    return {name: saying(name, alignments=[]) for name in ("bottleneck", "additive", "transformer")}


def test_steps_in_a_row(three, found):
    figure = figures.steps_figure(three)
    assert [list(bars.x) for bars in figure.data] == [[5, 5, 1], [3, 3, 1], [3, 3, 3]]
    assert list(figure.data[0].y) == ["One fixed vector", "Additive attention", "The Transformer"]
    title, rest = words.steps_in_words(three)
    assert title == "To learn this word the Transformer needs two steps in a row, additive attention 8"
    assert "5 with the end, and then says sound by sound, 3;" in rest[1]
    assert "as if what each station says were right" in rest[1]
    assert "3 steps for the Transformer" in rest[3]
    alt = words.steps_alt(three)
    assert alt.startswith("Steps in a row for “knee”. One fixed vector: reading 5, learning 3, saying 3; ")
    row = tables.steps_table(three, found).rows[2]
    assert row == ("The Transformer", "1", "1", "3", "8.5 / 7.25 / 7.25", "200,000", "321.5")


def test_the_timeline_says_what_it_is_filled_with():
    title, rest = words.papers_in_words(saying(), Cell(1, 2))
    assert title == "From one vector to attention alone in three years"
    assert "sound number 1 and “e” (letter 2) of “knee”" in rest[0]
