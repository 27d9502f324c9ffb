"""Who wrote the token, in words, figures and tables: the numbers are those that were given."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from attention_core.figures import direct_figures
from attention_core.figures.cache_figures import DARK, LIGHT
from tests.answers import asked, numbers, real_answers, taken_apart


@pytest.fixture(scope="module")
def real(small):
    return real_answers(small)


def test_heads_are_those_of_the_model(real):
    aim, _, _, _, _, found = real
    figure = direct_figures.heads_figure(found, DARK)
    given = torch.stack([part.heads for part in found.layers]).detach().numpy()
    np.testing.assert_array_equal(figure.data[0].z, given)
    assert figure.data[0].zmax == -figure.data[0].zmin == pytest.approx(np.abs(given).max())
    bars = {trace.name: trace for trace in direct_figures.parts_figure(found).data}
    np.testing.assert_allclose(bars["attention"].y, [part.attention for part in found.layers], rtol=1e-6)
    np.testing.assert_allclose(bars["feed-forward"].y, [part.rest for part in found.layers], rtol=1e-6)
    assert sum(float(np.sum(bar.y)) for bar in bars.values()) + found.offset == pytest.approx(found.logit, abs=1e-3)
    layer, head, value = direct_figures.strongest_heads(found, 1)[0]
    assert abs(value) == np.abs(given).max() and given[layer, head] == value
    said = direct_figures.direct_in_words(found, aim)
    assert numbers(said[-1]) == [round(found.sum, 5), round(found.logit, 5)]
    table = direct_figures.direct_table(found)
    assert [numbers(cell)[0] for cell in table.rows[2][2:-1]] == [round(float(v), 4) for v in given[1]]


def test_the_part_that_wrote_most_comes_first():
    found = taken_apart([[0.5, 3.84], [-0.7, 0.2]], [1.0, 3.585])
    said = direct_figures.direct_in_words(found, asked())
    assert said[0] == "Layer 0, head 1 wrote the largest part of “·queen”: +3.84 of its logit, 8.55."
    assert said[1] == (
        "Then the feed-forward part of layer 1 (+3.58), the feed-forward part of layer 0 (+1.00) and layer 0, head 0 "
        "(+0.500)."
    )
    assert said[2] == "Most against it: layer 1, head 0 (−0.700)."
    assert said[3] == "All parts sum to 8.55000 of the model’s 8.55000."
    assert direct_figures.strongest_heads(found, 3)[1:] == [
        (1, 0, pytest.approx(-0.7)),
        (0, 0, 0.5),
    ]
    against = taken_apart([[-3.0]], [0.5])
    assert direct_figures.direct_in_words(against, asked(contrast=(0.1, 2)))[0] == (
        "The feed-forward part of layer 0 speaks most for “·queen” rather than “·king”: +0.500, "
        "but all parts together make −2.38."
    )
    assert "No part speaks" in direct_figures.direct_in_words(taken_apart([[-3.0]], [-0.5], embedding=-1.0), asked())[0]
    bent = direct_figures.direct_in_words(taken_apart([[1.0]], [0.5], capped=True, logit=1.5), asked())[-1]
    assert numbers(bent) == [1.625, 1.625, 1.5] and "bends" in bent


def test_layers_whose_heads_are_not_told_apart_are_gaps():
    found = taken_apart([[0.5, -0.25, 1.0], None, [0.75]], [0.1, 0.2, 0.3])
    z = direct_figures.heads_figure(found).data[0].z
    np.testing.assert_array_equal(np.isnan(z), [[0, 0, 0], [1, 1, 1], [0, 1, 1]])
    assert [trace.name for trace in direct_figures.parts_figure(found).data][2] == "the whole layer"
    assert "in 1 of the 3 layers" in " ".join(direct_figures.direct_in_words(found, asked()))
    rows = direct_figures.direct_table(found).rows
    assert rows[2] == ("1", "—", "—", "—", "—", "+0.2000") and rows[3][3:5] == ("—", "—")
    assert {len(row) for row in rows} == {6}
    none = taken_apart([None, None], [0.1, 0.2])
    said = direct_figures.direct_in_words(none, asked())
    assert (
        said[0].startswith("The token’s own vector wrote the largest part") and "layer 1 as a whole (+0.200)" in said[1]
    )
    assert direct_figures.strongest_heads(none, 4) == []
    assert direct_figures.heads_figure(none).data[0].z.shape == (2, 0)
    assert direct_figures.direct_table(none).header == ("layer", "attention", "the rest")


def test_a_large_model_has_one_column_for_its_heads():
    heads = np.random.default_rng(3).normal(size=(30, 32)).astype(np.float32)
    found = taken_apart(heads.tolist(), [0.0] * 30)
    table = direct_figures.direct_table(found)
    assert table.header == ("layer", "attention", "each head", "the rest")
    read = [numbers(part)[1] for part in table.rows[6][2].split("; ")]
    np.testing.assert_allclose(read, heads[5], atol=6e-5)
    assert len(direct_figures.heads_figure(found).data) == 1  # no numbers: they would not fit


def test_the_lens_says_when_the_target_rose():
    chances = [[0.001, 0.2], [0.011, 0.3], [0.011, 0.2], [0.3, 0.1], [0.5, 0.05]]
    ranks = [[80, 3], [1, 2], [10, 2], [1, 3], [1, 4]]
    found = taken_apart([[0.0]] * 5, [0.0] * 5, chances, ranks)
    aim = asked(contrast=(0.05, 4))
    figure = direct_figures.lens_figure(found, aim, LIGHT)
    for n, trace in enumerate(figure.data):
        np.testing.assert_array_equal(trace.y, np.array(chances, np.float32)[:, n])
    assert len(figure.data) == len({trace.line.dash for trace in figure.data}) == 2
    said = direct_figures.lens_in_words(found, aim)
    assert said[0].endswith("“·queen” is the most likely token from layer 3 on; after layer 2 it is 10th (1.1%).")
    assert said[1] == "“·king” is 4th in the end (5.0%); “·queen” is ahead of it from layer 3 on."
    table = direct_figures.lens_table(found, aim)
    assert table.rows[2] == ("2", "1.100%", "10", "20.000%", "2") and len(table.rows) == 5


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        ([1, 1, 1], "is the most likely token after every layer (20.0% after the last)."),
        (
            [3, 1, 2],
            "is the most likely token after layer 1, but not at the end; after the last one it is 2nd (20.0%).",
        ),
        ([30, 22, 21], "is not the most likely token after any layer; after the last one it is 21st (20.0%)."),
    ],
)
def test_the_lens_of_other_targets(ranks, said):
    found = taken_apart([[0.0]] * 3, [0.0] * 3, [[0.1], [0.4], [0.2]], [[rank] for rank in ranks])
    assert direct_figures.lens_in_words(found, asked())[0].endswith(said)
    unseen = replace(found, lens=replace(found.lens, wanted=None, ranks=None))
    assert direct_figures.lens_in_words(unseen, asked()) == [] and not direct_figures.lens_figure(unseen, asked()).data


def test_the_heads_that_look_at_a_token(real):
    _, capture, _, _, _, _ = real
    every = range(len(capture.layers))
    weights = np.stack([tensor[0, :, 3, 1].numpy() for tensor in capture.attentions()])  # (layers, heads)
    found = direct_figures.heads_looking_at(capture, every, 3, [1], 5)
    assert len(found) == 5 and found[0][2] == pytest.approx(weights.max())
    np.testing.assert_allclose([w for *_, w in found], np.sort(weights, axis=None)[::-1][:5], rtol=1e-5)
    np.testing.assert_allclose([weights[layer, head] for layer, head, _ in found], [w for *_, w in found], rtol=1e-5)
    chosen = direct_figures.heads_looking_at(capture, [2], 3, [1], 1)[0]
    assert chosen[:2] == (0, int(weights[2].argmax()))
    assert direct_figures.heads_looking_at(capture, every, 1, [3], 5) == []  # what comes later is not looked at
    assert direct_figures.heads_looking_at(capture, every, 3, [99], 5) == []
    word = np.stack([tensor[0, :, 3, 1:3].sum(dim=-1).numpy() for tensor in capture.attentions()])
    assert direct_figures.heads_looking_at(capture, every, 3, [1, 2], 1)[0][2] == pytest.approx(word.max())
