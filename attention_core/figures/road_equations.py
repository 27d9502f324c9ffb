"""The equations of one cell of an alignment, filled with its numbers: score, place, softmax and bell curve.

The letters are the papers' own; sounds and letters count from 0. Knows nothing about pages.
"""

from collections.abc import Callable, Iterable

import numpy as np

from ..seq2seq.local import REACH
from ..seq2seq.recurrent import SIZES
from ..seq2seq.saying import Alignment, Saying
from ..seq2seq.stations import STATIONS
from .formulas import TERMS, Formula, factor, products, tex
from .road_cells import Cell, can_look

STATES = "h with t is the decoder’s vector at this sound, h with a bar the encoder’s vector at this letter"
PRODUCTS = "Number by number the two vectors are multiplied, and all {n} products are added up"
LOCAL = f"{STATES}; the table W was learned and is multiplied with the letter’s vector first. {PRODUCTS}."
SAID = {  # of each score; n: how many products
    "additive": "s is the decoder’s vector before this sound, h the encoder’s vector at this letter. Each goes through "
    "a learned table, W or U; the two are added, and tanh bends every number to between −1 and 1. The result is "
    "multiplied number by number with v, which was learned, too, and all {n} products are added up.",
    "dot": f"{STATES}. {PRODUCTS}: large where both have large numbers of the same sign in the same places.",
    "general": LOCAL,
    "concat": f"{STATES}. Both are put one behind the other and go through the learned table W; tanh bends every "
    "number to between −1 and 1. The result is multiplied number by number with v, which was learned, too, and all "
    "{n} products are added up.",
    "local-m": LOCAL,
    "local-p": LOCAL,
    "transformer": "q is the query that the head makes of this sound, k the key that it makes of this letter. Number "
    "by number they are multiplied and all {n} products added up; the sum is divided by the square root of {n}.",
}


def score_of(alignment: Alignment, cell: Cell) -> float:
    """Σ left · right · scaling (the equation of each station's score), anew from the two vectors."""
    left, right = alignment.factors(cell.sound, cell.letter)
    return float(left @ right) * alignment.scaling


def largest_difference(alignments: Iterable[Alignment]) -> tuple[float, float]:
    """The most that a score is apart from the sum of its products, over all cells; and the largest score's amount. The
    models add up in float32, which keeps about seven digits: of scores around 60 that is 0.00001."""
    apart, largest = 0.0, 0.0
    for one in alignments:
        scores = one.scores[can_look(one)]
        sums = ((one.left * one.right).sum(axis=-1) * one.scaling)[can_look(one)]
        apart, largest = max(apart, np.abs(sums - scores).max()), max(largest, np.abs(scores).max())
    return float(apart), float(largest)


def score(saying: Saying, alignment: Alignment, cell: Cell) -> Formula:
    left, right = alignment.factors(cell.sound, cell.letter)
    name = "e" if saying.station == "additive" else r"\mathrm{score}"
    name += rf"_{{{cell.sound},{cell.letter}}}"
    total, count = float(left @ right), len(left)
    added = rf"\underbrace{{{products(left, right)}}}_{{{count} \text{{ products}}}}"
    if alignment.scaling == 1.0:
        filled = rf"{name} = {added} = {tex(total)}"
    else:
        filled = rf"{name} = \frac{{{added}}}{{\sqrt{{{count}}}}} = \frac{{{tex(total)}}}{{{tex(count**0.5)}}}"
        filled += rf" = {tex(score_of(alignment, cell))}"
    return Formula(STATIONS[saying.station].score, filled, SAID[saying.station].format(n=count))


def softmax(saying: Saying, alignment: Alignment, cell: Cell) -> Formula:
    """exp(score) / Σ exp(score) over the letters that may be looked at."""
    scores = alignment.scores[cell.sound]
    powers = np.exp(scores)  # (letters,): 0 outside of a window
    made = alignment.weights if alignment.before is None else alignment.before
    order = np.argsort(-powers, kind="stable")[:TERMS]
    seen = int(can_look(alignment)[cell.sound].sum())
    terms = " + ".join(tex(float(powers[n])) for n in order if powers[n] > 0) + (r" + \dots" if seen > TERMS else "")
    if saying.station == "additive":
        letters, name = r"\alpha_{ij} = \frac{\exp(e_{ij})}{\sum_k \exp(e_{ik})}", r"\alpha"
    else:
        letters = (
            r"a_t(s) = \frac{\exp(\mathrm{score}(h_t, \bar h_s))}{\sum_{s'} \exp(\mathrm{score}(h_t, \bar h_{s'}))}"
        )
        name = "a"
    if saying.station == "transformer":
        letters = letters.replace(r"h_t, \bar h", "q_t, k")
    return Formula(
        letters,
        rf"{name}_{{{cell.sound},{cell.letter}}} = \frac{{\exp({tex(float(scores[cell.letter]))})}}{{{terms}}} = "
        rf"\frac{{{tex(float(powers[cell.letter]))}}}{{{tex(float(powers.sum()))}}} = "
        rf"{tex(float(made[cell.sound, cell.letter]))}",
        f"exp is 2.718… to the power of the score. Divided by the sum over all {seen} letters that may be looked at "
        "(the end of the word is one of them), the shares are above 0 and together 1.",
    )


def place(saying: Saying, alignment: Alignment, cell: Cell) -> Formula:
    """Where the window of a local station stands (Luong et al. 2015, section 3.2; eq. 9)."""
    assert alignment.centres is not None
    t, s, centre, count = cell.sound, cell.letter, float(alignment.centres[cell.sound]), len(saying.letters)
    away = rf"|s - p_{{{t}}}| = |{s} - {tex(centre)}| = {tex(abs(s - centre))}"
    sign = r"\le" if can_look(alignment)[t, s] else ">"
    inside = rf"{away} {sign} {REACH}"
    if alignment.before is None:
        return Formula(
            rf"p_t = t,\qquad |s - p_t| \le {REACH}",
            rf"p_{{{t}}} = {tex(centre)},\qquad {inside}",
            f"Sound number t looks around letter number t, at most {REACH} letters to each side; behind the last "
            "letter the window stays there. Both count from 0.",
        )
    return Formula(
        rf"p_t = S \cdot \mathrm{{sigmoid}}(v_p^\top \tanh(W_p h_t)),\qquad |s - p_t| \le {REACH}",
        rf"p_{{{t}}} = {count} \cdot {tex(centre / count)} = {tex(centre)},\qquad {inside}",
        f"The middle p of the window is made of the decoder’s vector h, with a learned table W and a learned vector v. "
        f"The sigmoid gives a share between 0 and 1, and S, the {count} letters with the end, makes a place of it. "
        f"Letters more than {REACH} away are not seen.",
    )


def bell(saying: Saying, alignment: Alignment, cell: Cell) -> Formula:
    """The Gaussian of local-p (eq. 10), σ = D / 2."""
    assert alignment.before is not None and alignment.centres is not None
    t, s, centre = cell.sound, cell.letter, float(alignment.centres[cell.sound])
    before, width = float(alignment.before[t, s]), REACH / 2
    curve = float(np.exp(-((s - centre) ** 2) / (2 * width**2)))
    return Formula(
        r"a_t(s) = \mathrm{align}(h_t, \bar h_s) \cdot \exp\left(-\frac{(s - p_t)^2}{2\sigma^2}\right)",
        rf"a_{{{t},{s}}} = {tex(before)} \cdot \exp\left(-\frac{{({s} - {factor(centre)})^2}}{{2 \cdot {tex(width)}^2}}"
        rf"\right) = {tex(before)} \cdot {tex(curve)} = {tex(float(alignment.weights[t, s]))}",
        f"The share (align) is made smaller the farther the letter s is from the middle p: a bell curve of width σ = "
        f"{width:g}, half of the window’s reach. What is taken away goes nowhere, so that a row sums to less than 1.",
    )


def of_cell(saying: Saying, alignment: Alignment, cell: Cell) -> list[Formula]:
    """From the score to the weight, in order; of a letter outside of the window its score has no say."""
    first: list[Callable[[Saying, Alignment, Cell], Formula]] = [place] if alignment.centres is not None else []
    if not can_look(alignment)[cell.sound, cell.letter]:
        return [made(saying, alignment, cell) for made in first]
    last = [bell] if alignment.before is not None else []
    return [made(saying, alignment, cell) for made in (*first, score, softmax, *last)]


def of_the_vector(saying: Saying) -> Formula:
    """The fixed vector (Cho et al. 2014, appendix A): there is no cell, the vector is all there is."""
    letters, size = len(saying.letters), SIZES.hidden
    return Formula(
        r"c = \tanh(V h_T),\qquad s_0 = \tanh(V' c)",
        rf"\underbrace{{h_0,\; h_1,\; \dots,\; h_{{{letters - 1}}}}}_{{{letters} \text{{ letters of }} {size}"
        rf" \text{{ numbers}}}} \;\longrightarrow\; \underbrace{{c}}_{{{size} \text{{ numbers}}}}",
        "h with T is what the encoder knows after the last letter, in both directions. The learned table V makes one "
        f"vector c of it, tanh bends its numbers to between −1 and 1, and a second table V′ makes the decoder’s first "
        f"vector s. A word of 3 letters and one of 30 get the same {size} numbers.",
    )
