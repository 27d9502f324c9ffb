"""The page Relevance in words, figures and tables: the numbers are those that were given, whatever the tokens are."""

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from attention_core.credibility import Verdict, rank_agreement, top_overlap
from attention_core.credibility import verdict as judged
from attention_core.figures import direct_figures, relevance_figures
from attention_core.figures import relevance_tables as tables
from attention_core.figures import relevance_words as words
from attention_core.figures.cache_figures import DARK, EITHER, LIGHT
from attention_core.figures.planted_words import planted_in_words, planted_table
from attention_core.scorer import Aim, Candidate
from tests.answers import TITLE, answer, asked, curves, numbers, real_answers, taken_apart

MARKUP = ("<b>", "&amp;", "%{y}", "$x$", "<script>")


@pytest.fixture(scope="module")
def real(small):
    return real_answers(small)


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (5.8203, "+5.82"),
        (-0.82, "−0.820"),
        (9.9999, "+10.0"),
        (0.0123456, "+0.0123"),
        (-1234.5, "−1,230"),
        (-1.25e-7, "−1.2 × 10⁻⁷"),
        (0.0, "0"),
        (-0.0, "0"),
        (float("nan"), "—"),
        (float("-inf"), "−∞"),
    ],
)
def test_a_score_has_three_digits_and_a_true_minus(value, said):
    assert words.amount(value) == said


def test_attention_is_a_share_and_what_is_never_negative_has_no_plus():
    assert words.amount(0.2487, "attention") == words.amount(0.2487, "rollout") == "24.9%"
    assert words.amount(0.2487, "value_weighted") == words.amount(0.2487, "attention_x_gradient") == "0.249"
    assert words.amount(0.2487, "shapley") == "+0.249"
    assert words.amount(float("nan"), "attention") == "—"


def test_places_are_counted():
    counted = [words.place(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111, 1003)]
    assert counted == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th", "1,003rd"]


# ── one method ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_method_names_what_speaks_for_and_against():
    said = words.method_in_words(answer([0.5, -0.82, 5.8203, 0.0], aim=asked()))
    assert said == (
        "Leave one out: “·and” (token 2) speaks most for “·queen”: +5.82, then “·The” (token 0), +0.500; "
        "most against it: “·king” (token 1), −0.820."
    )
    contrast = words.method_in_words(answer([0.5, 0.1], aim=asked(["a", "b"], contrast=(0.2, 2))), count=1)
    assert contrast == (
        "Leave one out: “a” (token 0) speaks most for “·queen” rather than “·king”: +0.500; none against it."
    )


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_method_names_as_many_as_wanted(count):
    scores = np.random.default_rng(count).normal(size=200).astype(np.float32)
    said = words.method_in_words(answer(scores.tolist()), count)
    order = np.argsort(-scores, kind="stable")[:count]
    named = [int(n) for n in re.findall(r"\(token (\d+)\)", said)]
    assert named == [*order, int(scores.argmin())]
    found = numbers(re.sub(r"“[^”]*” \(token \d+\)", "", said))
    np.testing.assert_allclose(found, [*scores[order], scores.min()], rtol=6e-3)


def test_nothing_for_nothing_against_and_nothing_at_all():
    assert "no token for “·queen”; most against it: “t1” (token 1), −2.00." in words.method_in_words(
        answer([-1.0, -2.0])
    )
    assert words.method_in_words(answer([0.0, 0.0])) == "Leave one out: 0 for every token."
    assert "none against it" in words.method_in_words(answer([3.0]))


def test_attention_says_where_it_goes():
    said = words.method_in_words(answer([0.249, 0.031, 0.72], "attention", layer=2, head=1), 2)
    assert said == "Attention received (layer 2, head 1): 72.0% goes to “t2” (token 2) and 24.9% to “t0” (token 0)."
    assert "followed through all layers, 60.0% goes to" in words.method_in_words(answer([0.6, 0.4], "rollout"))
    assert "“t0” (token 0) hands on most: 0.600" in words.method_in_words(answer([0.6, 0.4], "value_weighted"))
    assert "counts most for “·queen”: 0.600" in words.method_in_words(answer([0.6, 0.4], "attention_x_gradient"))


def test_an_encoder_is_near_to_a_text_or_to_its_own_vector():
    near = Aim("similarity", ("[CLS]", "cat"), 0, 0.83, "cosine", texts=("A dog.",))
    assert "speaks most for nearness to “A dog.”: +0.400" in words.method_in_words(answer([0.1, 0.4], aim=near))
    assert words.target_in_words(near) == [
        "This text and “A dog.”: 0.830 (cosine; 1: the same direction, 0: nothing in common)."
    ]
    two = replace(near, texts=("A dog.", "A car."), value=-0.12)
    assert "nearness to “A dog.” rather than “A car.”" in words.method_in_words(answer([0.1, 0.4], aim=two))
    assert words.target_in_words(two) == [
        "This text is nearer to “A car.” than to “A dog.”: the difference of the two cosines is −0.120."
    ]
    own = replace(near, kind="vector", texts=(), token=1, value=1.0)
    assert "for the vector of “cat” (token 1): +0.400" in words.method_in_words(answer([0.1, 0.4], aim=own))
    assert numbers(words.target_in_words(own)[0])[-1] == 1.0
    assert [words.watched_in_words(aim) for aim in (near, two, own)] == [
        "nearness to “A dog.” (cosine)",
        "nearer to “A dog.” than “A car.”",
        "what is left of “cat” (cosine)",
    ]


def test_what_is_asked():
    plain = words.target_in_words(asked(notes=("“queen” is read as “·queen”.",)))
    assert plain[0] == "“·queen” has 28.3% here and is the most likely next token."
    assert numbers(plain[1]) == [5.82] and plain[-1] == "“queen” is read as “·queen”."
    held = words.target_in_words(asked(target=(0.0002, 1234), contrast=(0.012, 7)))
    assert held[0] == "“·queen” has less than 0.1% here, rank 1,234 among the next tokens."
    assert held[1] == "“·king” has 1.2%, rank 7." and held[2].startswith("The score is the difference of the two")
    later = words.target_in_words(asked(follows=Candidate(9, "·prince", 0.021, 4)))
    assert later[-1] == "In the text “·prince” follows (2.1%)."
    assert (
        words.target_in_words(asked(follows=Candidate(7, "·queen", 0.283, 1)))[-1] == "It is what follows in the text."
    )
    assert "its probability: 28.3%" in words.target_in_words(asked(score="probability", value=0.283))[1]


def test_a_line_a_token():
    assert words.words_of_tokens(answer([5.8203, -1.0, 2.0, 1.5])) == [
        "+5.8203, the largest of 4",
        "−1.0000, the lowest of 4",
        "+2.0000, the 2nd of 4",
        "+1.5000, the 3rd of 4",
    ]
    assert words.words_of_tokens(answer([0.2491234, 0.1], "attention"))[0] == "24.912%, the largest of 2"
    assert words.words_of_tokens(answer([2.0], spread=[0.25])) == ["+2.0000 ± 0.25"]
    assert words.words_of_tokens(answer([2.0, 2.0]))[1] == "+2.0000, as all 2"
    assert words.words_of_tokens(answer([float("nan"), 2.0]))[0] == "—"


def test_the_ranks_are_those_of_numpy():
    scores = np.random.default_rng(1).normal(size=200).astype(np.float32)
    lines = words.words_of_tokens(answer(scores.tolist()))
    ranks = np.empty(200, dtype=int)
    ranks[np.argsort(-scores)] = np.arange(1, 201)
    for line, rank, score in zip(lines, ranks, scores, strict=True):
        said = {1: "largest", 200: "lowest"}.get(rank, words.place(rank))
        assert line.endswith(f"the {said} of 200") and numbers(line)[0] == pytest.approx(score, rel=1e-4)


def test_bars_that_have_not_converged_say_so():
    aim = asked(value=5.0)
    said = words.how_sure(answer([2.0, 2.1, 0.0, 0.0], "integrated_gradients", aim, without=1.0))
    assert numbers(said) == [4.1, 4.0, 2.5] and "add up as they should" in said
    said = words.how_sure(answer([9.0, 8.32, 0.0, 0.0], "integrated_gradients", aim, without=1.0))
    assert numbers(said)[:3] == [17.3, 4.0, 333] and "not converged" in said and "don’t believe" in said
    assert words.how_sure(answer([1.0, 2.0])) == ""


def test_shapley_values_say_how_sure_they_are():
    said = words.how_sure(answer([1.0, 2.0], "shapley", without=2.8203, spread=[0.1, 0.31], samples=25))
    assert "25 random orders" in said and "“t1” (token 1)" in said and "0.31" in said
    assert "not known" in words.how_sure(answer([1.0, 2.0], "shapley", without=2.8203, samples=1))


# ── several methods ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_two_that_agree_most_and_least():
    ranks = np.array([[1, 0.82, 0.04], [0.82, 1, 0.3], [0.04, 0.3, 1]])
    overlap = np.array([[1, 0.75, 0.25], [0.75, 1, 0.5], [0.25, 0.5, 1]])
    assert words.agreement_in_words(["A", "B", "C"], ranks, overlap, 4) == [
        "A and B order the tokens alike (rank agreement 0.82; 3 of the 4 most relevant tokens are the same).",
        "A and C hardly agree (0.04; 1 of 4).",
    ]
    two = words.agreement_in_words(["A", "C"], ranks[::2, ::2] * -1, overlap[::2, ::2], 1)
    assert len(two) == 1 and "−0.04" in two[0]
    assert "other way round" in words.agreement_in_words(["A", "B"], -ranks[:2, :2], overlap[:2, :2], 4)[0]
    table = tables.agreement_table(["A", "B", "C"], ranks, overlap, 4)
    assert table.rows == (("A", "B", "0.820", "3 of 4"), ("A", "C", "0.040", "1 of 4"), ("B", "C", "0.300", "2 of 4"))


def test_methods_without_an_order_are_not_compared():
    scores = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0]), torch.zeros(3)]
    said = words.agreement_in_words(["A", "B", "flat"], rank_agreement(scores), top_overlap(scores, 1), 1)
    assert "rank agreement 0.50" in said[0] and said[-1].startswith("flat: the same for every token")
    one = [torch.ones(1)] * 2
    assert words.agreement_in_words(["A", "B"], rank_agreement(one), top_overlap(one, 1), 1) == [
        "There is no order to compare."
    ]
    assert words.agreement_in_words(["A"], np.ones((1, 1)), np.ones((1, 1)), 1) == []


@pytest.mark.parametrize(
    ("gain", "beaten", "said"),
    [
        (0.43, 20, "A beats all 20 random orders (area 0.43; theirs −0.11 to 0.15)."),
        (0.16, 19, "A beats 19 of 20 random orders"),
        (0.10, 14, "A beats 14 of 20 random orders (area 0.10; theirs −0.11 to 0.15): not surely better than chance."),
        (-0.05, 6, "A beats 6 of 20 random orders"),
        (-0.3, 0, "A beats none of 20 random orders (area −0.30; theirs −0.11 to 0.15): its bars would have misled"),
        (float("nan"), 0, "A: cannot be judged"),
    ],
)
def test_a_verdict(gain, beaten, said):
    verdict = Verdict(0.2, 0.3, gain, beaten, 20, -0.11, 0.15, 11)
    assert words.verdict_in_words("A", verdict).startswith(said)
    assert ("fooled you here" in words.verdict_in_words("A", verdict)) == (beaten == 6)
    row = tables.curves_table({"A": verdict}).rows[0]
    assert row[0] == "A" and row[3] == ("—" if gain != gain else f"{gain:.4f}".replace("-", "−"))


def test_every_point_of_the_curves():
    one, random = (
        curves([[0.9, 0.4, 0.1]], [[0.1, 0.6, 0.9]], 2),
        curves([[0.9, 0.8, 0.1], [0.9, 0.6, 0.1]], [[0.1] * 3] * 2, 2),
    )
    table = tables.points_table({"A": one}, random)
    assert table.header == (
        "tokens gone or come",
        "A, going",
        "A, coming",
        *(f"random orders, on average, {w}" for w in ("going", "coming")),
    )
    assert table.rows[1] == ("1", "0.4000", "0.6000", "0.7000", "0.1000")


def test_one_token_has_but_one_order():
    same = curves([[0.9, 0.1]], [[0.1, 0.9]], 1)
    said = words.verdict_in_words("A", judged(same, same))
    assert "a text of so few tokens has too few orders" in said and "fooled" not in said
    flat = replace(judged(same, same), tokens=9)
    assert "every order of these tokens does the same" in words.verdict_in_words("A", flat)


def test_attention_is_shown_to_fail_where_it_does():
    attention, occlusion = answer([0.7, 0.2, 0.1], "attention"), answer([0.05, -0.3, 5.8203])
    general, own = words.attention_paragraph(attention.aim, attention, occlusion, None)
    assert "Jain and Wallace (2019)" in general and "Wiegreffe and Pinter (2019)" in general
    assert own == (
        "Here “t0” (token 0) gets the most attention, 70.0%, but without it the score loses only 0.0500; "
        "“t2” (token 2) gets 10.0%, and without it the score loses 5.82."
    )
    gains = words.attention_paragraph(attention.aim, attention, answer([0.0, -0.3, -5.0]), None)[1]
    assert "stays the same" in gains and "the score gains 5.00" in gains


def test_attention_is_shown_to_agree_only_where_it_does():
    better, chance = (Verdict(0, 1, gain, beaten, 20, -0.1, 0.1, 9) for gain, beaten in ((0.5, 20), (0.0, 10)))
    attention, occlusion = answer([0.7, 0.2, 0.1], "attention"), answer([2.0, 0.3, 0.1])
    assert "the two agree" in words.attention_paragraph(attention.aim, attention, occlusion, better)[1]
    for verdict in (chance, None):
        assert len(words.attention_paragraph(attention.aim, attention, occlusion, verdict)) == 1
    assert len(words.attention_paragraph(attention.aim, attention, answer([0.9, 1.0, 0.8]), better)) == 1
    own = words.attention_paragraph(attention.aim, attention, answer([0.9, 1.0, 0.8]), chance)[1]
    assert "“t1” (token 1) is missed most" in own and "the score loses 1.00, but 1 token gets more" in own
    assert len(words.attention_paragraph(attention.aim, None, occlusion, better)) == 1
    assert len(words.attention_paragraph(attention.aim, attention, answer([0.0, 0.0, 0.0]), better)) == 1


def test_the_table_of_scores(real):
    _, _, answers, _, _, _ = real
    table = tables.relevance_table(answers)
    assert table.header == ("token", "place", *(TITLE[a.method] for a in answers))
    for column, found in enumerate(answers, 2):
        cells = [row[column] for row in table.rows]
        scale = 100 if found.method in words.SHARES else 1
        read = [numbers(cell)[0] for cell in cells]
        np.testing.assert_allclose(read, scale * found.scores.numpy(), rtol=1e-4, atol=6e-4)
    drawn = tables.relevance_table([answer([1.0, -2.0], "shapley", spread=[0.1, 0.25])])
    assert drawn.header[-1] == "its standard error" and drawn.rows[1] == ("t1", "1", "−2.0000", "0.250")


# ── figures of the test ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("what", ["deletion", "insertion"])
def test_curves_are_those_given(real, what):
    _, _, _, drawn, random, _ = real
    figure = relevance_figures.curves_figure(drawn, random, what, "probability of “<b>”", LIGHT)
    lines = {trace.name: trace for trace in figure.data}
    for title, given in drawn.items():
        np.testing.assert_array_equal(lines[title].y, getattr(given, what)[0])
        np.testing.assert_allclose(lines[title].x, 100 * given.removed / given.tokens, rtol=1e-6)
    heights, points = getattr(random, what), len(random.removed)
    np.testing.assert_allclose(lines[relevance_figures.RANDOM].y, heights.mean(axis=0), rtol=1e-5)
    band = lines["90% of random orders"].y
    np.testing.assert_allclose(band[:points], np.quantile(heights, 0.95, axis=0), rtol=1e-5)
    np.testing.assert_allclose(band[points:][::-1], np.quantile(heights, 0.05, axis=0), rtol=1e-5)
    assert figure.layout.yaxis.title.text == "probability of “&lt;b&gt;”"
    assert len(relevance_figures.curves_figure(drawn, None, what, "", EITHER, share=False).data) == len(drawn)


def test_no_two_methods_differ_in_colour_alone():
    one = curves([[1, 0.5, 0]], [[0, 0.5, 1]])
    every = relevance_figures.curves_figure(dict.fromkeys(TITLE.values(), one), one, "deletion", "p", DARK)
    lines = [trace for trace in every.data if trace.name in TITLE.values()]
    assert len(lines) == len({trace.line.dash for trace in lines}) == len({trace.marker.symbol for trace in lines})
    few = relevance_figures.curves_figure({TITLE["occlusion"]: one}, None, "deletion", "p", DARK)
    same = next(trace for trace in lines if trace.name == TITLE["occlusion"])
    assert few.data[0].line == same.line and few.data[0].marker.symbol == same.marker.symbol


def test_curves_in_words():
    given = {"A": curves([[0.9, 0.3, 0.2, 0.1, 0.05]], [[0.05, 0.6, 0.7, 0.8, 0.9]])}
    random = curves([[0.9, 0.8, 0.5, 0.4, 0.05], [0.9, 0.6, 0.5, 0.4, 0.05]], np.zeros((2, 5)))
    assert relevance_figures.curves_in_words(given, random, "deletion") == (
        "From 90.0% with every token to 5.0% without any. With 1 of 4 tokens replaced it is at 30.0% by A and 70.0% "
        "by random orders, on average: the lower the better."
    )
    assert "With 1 of 4 tokens put in it is at 60.0% by A:" in relevance_figures.curves_in_words(
        given, None, "insertion"
    )
    assert "0.300 by A" in relevance_figures.curves_in_words(given, None, "deletion", share=False)
    assert relevance_figures.curves_in_words({}, random, "deletion") == ""
    single = {"A": curves([[0.9, 0.1]], [[0.1, 0.9]], 1)}
    assert "With 1 of 1 tokens replaced it is at 10.0%" in relevance_figures.curves_in_words(single, None, "deletion")


GAINS = ((0.43, 20), (0.1, 12), (-0.3, 0))  # and how many random orders have less


def test_areas_are_those_given():
    verdicts = {f"<{n}>": Verdict(0.2, 0.3, g, b, 20, -0.11, 0.15, 9) for n, (g, b) in enumerate(GAINS)}
    figure = relevance_figures.areas_figure(verdicts, LIGHT)
    np.testing.assert_array_equal(figure.data[0].x, np.array([0.43, 0.1, -0.3], np.float32))
    assert figure.data[0].text == ("0.43", "0.10", "−0.30")
    assert figure.data[0].customdata == ("better", "like chance", "worse")
    assert len({*figure.data[0].marker.pattern.shape}) == 3
    band = figure.layout.shapes[0]
    assert (band.x0, band.x1) == (-0.11, 0.15)
    assert [*figure.layout.yaxis.ticktext] == ["&lt;0&gt;", "&lt;1&gt;", "&lt;2&gt;"]
    assert numbers(relevance_figures.areas_in_words(verdicts).replace("<", "").replace(">", ""))[1::2][:3] == [
        0.43,
        0.1,
        -0.3,
    ]
    assert relevance_figures.areas_figure({}).data and relevance_figures.areas_in_words({}) == ""


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("colours", [LIGHT, DARK, EITHER])
def test_agreement_is_the_matrix_given(count, colours):
    matrix = np.corrcoef(np.random.default_rng(count).normal(size=(count, 20))).reshape(count, count)
    matrix[0, -1] = matrix[-1, 0] = np.nan
    names = [f"m<{n}>" for n in range(count)]
    figure = relevance_figures.agreement_figure(names, matrix, colours)
    np.testing.assert_array_equal(figure.data[0].z, matrix.astype(np.float32))
    assert [numbers(t)[0] if t != "—" else None for t in figure.data[1].text] == [
        None if np.isnan(v) else pytest.approx(v, abs=0.006) for v in matrix.flat
    ]
    assert figure.data[1].textfont.size >= 15
    assert "&lt;0&gt;" in figure.layout.yaxis.ticktext[0] and "<0>" not in figure.to_json()
    assert ("m<1> " in relevance_figures.agreement_map_in_words(names, matrix)) == (count > 1)


@pytest.mark.parametrize("colours", [LIGHT, DARK, EITHER])
def test_numbers_are_read_on_every_cell(colours):
    """At least 4.5 : 1 (WCAG 2), computed from the colours of the figure."""
    values = np.linspace(-1, 1, 41)[None]
    figure = relevance_figures.signed_map(values, [["0"] * 41], 1.0, colours)
    stops = [np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for _, c in figure.data[0].colorscale]

    def luminance(rgb):
        part = rgb / 255
        return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)

    for value, ink in zip(values[0], figure.data[1].textfont.color, strict=True):
        cell = luminance(stops[1] + (stops[2 if value > 0 else 0] - stops[1]) * abs(value))
        low, high = sorted((cell, 0.0 if ink == "#000000" else 1.0))
        assert (high + 0.05) / (low + 0.05) >= 4.5


# ── tokens are text ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("token", MARKUP)
def test_tokens_that_look_like_markup(token):
    aim = replace(asked([token, "b"]), target=Candidate(1, token, 0.2, 3), contrast=Candidate(2, token * 2, 0.1, 4))
    found = answer([0.5, -0.1], aim=aim)
    for said in (words.method_in_words(found), words.target_in_words(aim)[0]):
        assert f"“{token}”" in said  # words are text: whoever puts them on a page escapes them
    assert tables.relevance_table([found]).rows[0][0] == token
    parts = taken_apart([[0.5]], [0.1], [[0.2, 0.1]], [[3, 4]])
    assert f"“{token}”" in direct_figures.direct_in_words(parts, aim)[0]
    assert f"“{token}”" in direct_figures.lens_table(parts, aim).header
    lines = direct_figures.lens_figure(parts, aim).data
    assert [line.name for line in lines] == [f"“{html.escape(token)}”", f"“{html.escape(token * 2)}”"]
    assert all(token not in line.hovertemplate.replace("%{y:", "") for line in lines)
    drawn = curves([[1, 0]], [[0, 1]], 1)
    figure = relevance_figures.curves_figure({token: drawn}, None, "deletion", words.watched_in_words(aim), LIGHT)
    assert figure.data[0].name == html.escape(token)
    assert html.escape(token) in figure.layout.yaxis.title.text


def test_the_planted_task_is_told_as_it_was_measured():
    file = Path(__file__).parents[1] / "assets" / "lookup" / "measurements.json"
    measured = json.loads(file.read_text(encoding="utf-8"))
    said = planted_in_words(measured)
    for name, share in measured["first"].items():
        assert f"{TITLE[name]} {100 * share:.1f}%" in said[0]
    assert TITLE[max(measured["deletion"], key=measured["deletion"].get)] in said[1]
    assert f"Leave one out {100 * measured['first_without_gaps']['occlusion']:.1f}%" in said[2]
    rows = planted_table(measured).rows
    assert [row[0] for row in rows] == [TITLE[name] for name in measured["first"]]
    assert [float(row[3]) for row in rows] == pytest.approx([*measured["deletion"].values()], abs=6e-4)
