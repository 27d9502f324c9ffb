"""The formulas of one attention row, filled with its numbers: LaTeX, with their meaning in words.

Tokens are named by their places, so that no letter of a text becomes a command.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..worksheet import Made, Rotation, Worksheet

TERMS = 3  # of a long sum that are written out


@dataclass(frozen=True)
class Formula:
    """A formula in letters, the same filled with numbers, and what it says."""

    letters: str  # LaTeX
    filled: str  # LaTeX
    words: str


def tex(value: float, digits: int = 4) -> str:
    """A number in LaTeX: four digits, a power of ten only where it would be long."""
    value = float(value)
    if math.isnan(value):
        return r"\text{--}"
    if math.isinf(value):
        return r"\infty" if value > 0 else r"-\infty"
    if value == 0:
        return "0"
    power = math.floor(math.log10(abs(value)))
    if -5 < power < 6:
        return f"{value:.{max(0, digits - 1 - power) if power >= 0 else digits - 2 - power}f}"
    mantissa, exponent = f"{value:.{digits - 2}e}".split("e")
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}"


def factor(value: float) -> str:
    """A number as a factor: in brackets where it is negative."""
    text = tex(value)
    return rf"({text})" if text.startswith("-") else text


def products(first: np.ndarray, second: np.ndarray) -> str:
    """a · b + a · b + … of two arrays (n,)."""
    written = [rf"{factor(a)} \cdot {factor(b)}" for a, b in zip(first[:TERMS], second[:TERMS], strict=True)]
    return " + ".join(written) + (r" + \dots" if len(first) > TERMS else "")


def projection(made: Made, token: int, letter: str) -> Formula:
    """One number of a query, key or value: a row of the projection's weight times what enters."""
    component = made.components[0]
    weight, given = made.weight[0].numpy(), made.given[token].numpy()
    bias = "" if made.bias is None else f" + {factor(float(made.bias[0]))}"
    total = float(made.product(token)[0])
    times = "" if made.factor == 1 else rf",\quad {tex(total)} \cdot {factor(made.factor)} = {tex(total * made.factor)}"
    name = f"{letter}_{{{component}}}"
    return Formula(
        rf"{letter} = W_{letter}\, x" + ("" if made.bias is None else f" + b_{letter}"),
        rf"{name} = {products(weight, given)}{bias} = {tex(total)}{times}",
        f"Number {component} is row {component} of the table W, which the model has learned, times the vector x, "
        f"number by number: all {len(given):,} products are added up"
        f"{'' if made.bias is None else ', and a learned number b'}.",
    )


def turning(sheet: Worksheet, rotation: Rotation) -> Formula:
    """One pair of the query, turned by its angle."""
    first, second = rotation.turning.pairs[0]
    x, y = float(rotation.query_before[first]), float(rotation.query_before[second])
    angle, turned = float(rotation.angles[0]), (float(sheet.query[first]), float(sheet.query[second]))
    return Formula(
        r"\begin{pmatrix} x' \\ y' \end{pmatrix} = \begin{pmatrix} \cos\theta & -\sin\theta \\ \sin\theta & \cos\theta"
        r" \end{pmatrix} \begin{pmatrix} x \\ y \end{pmatrix}, \qquad \theta = \text{position} \cdot \omega",
        rf"\theta_0 = {tex(angle)}:\quad ({tex(x)},\; {tex(y)}) \;\to\; ({tex(turned[0])},\; {tex(turned[1])})",
        f"Two numbers of the vector, here {first} and {second}, are taken as a point and turned around the middle by "
        "an angle that is the position times a fixed speed ω; each pair has a speed of its own. (The angle is given "
        "without full turns.)",
    )


def placed(sheet: Worksheet, numbers: np.ndarray) -> Formula:
    """The vector of a place, added to that of the word."""
    written = ",\\; ".join(tex(float(number)) for number in numbers[:TERMS])
    return Formula(
        r"x = e_{\text{word}} + p_{\text{place}}",
        rf"p_{{{sheet.token}}} = ({written},\; \dots)",
        f"Two vectors of {len(numbers):,} numbers are added, number by number: one for the word, one for the place.",
    )


def compare(sheet: Worksheet, key: int) -> Formula:
    q, k = sheet.token, key
    return Formula(
        r"q \cdot k = \sum_{i} q_i\, k_i",
        rf"q_{{{q}}} \cdot k_{{{k}}} = {products(sheet.query.numpy(), sheet.keys[key].numpy())} "
        rf"= {tex(float(sheet.dots[key]))}",
        f"Number by number, the query of token {q} times the key of token {k}; all {len(sheet.query)} products are "
        "added up. It is large where both have large numbers of the same sign in the same places.",
    )


def scale(sheet: Worksheet, key: int) -> Formula:
    size, scaling = len(sheet.query), sheet.layer.scaling
    dot, scaled = tex(float(sheet.dots[key])), tex(float(sheet.scaled[key]))
    if math.isclose(scaling, size**-0.5, rel_tol=1e-5):
        return Formula(
            r"s = \frac{q \cdot k}{\sqrt{d}}",
            rf"s_{{{key}}} = \frac{{{dot}}}{{\sqrt{{{size}}}}} = \frac{{{dot}}}{{{tex(size**0.5)}}} = {scaled}",
            f"The sum is divided by the square root of how many numbers a query has, {size}.",
        )
    return Formula(
        r"s = (q \cdot k) \cdot c",
        rf"s_{{{key}}} = {factor(float(sheet.dots[key]))} \cdot {factor(scaling)} = {scaled}",
        f"The sum is multiplied by {scaling:.4g}, a number that this model fixes for the purpose.",
    )


def cap(sheet: Worksheet, key: int) -> Formula:
    top = sheet.layer.softcap or 0.0
    return Formula(
        r"s' = c \cdot \tanh\left(\frac{s}{c}\right)",
        rf"s'_{{{key}}} = {tex(top)} \cdot \tanh\left(\frac{{{tex(float(sheet.scaled[key]))}}}{{{tex(top)}}}\right) "
        rf"= {tex(float(sheet.capped[key]))}",
        f"Small scores stay nearly as they are, large ones are bent so that none exceeds {top:g}.",
    )


def add(sheet: Worksheet, key: int) -> Formula:
    assert sheet.bias is not None
    return Formula(
        r"s' = s + b",
        rf"s'_{{{key}}} = {tex(float(sheet.capped[key]))} + {factor(float(sheet.bias[key]))} "
        rf"= {tex(float(sheet.scores[key]))}",
        "A number that the model keeps for this pair of places is added to the score.",
    )


def mask(sheet: Worksheet) -> Formula:
    q = sheet.token
    ruled_out = int((~sheet.visible).sum())
    return Formula(
        r"s'_k = \begin{cases} s_k & \text{if } k \text{ may be looked at} \\ -\infty & \text{otherwise} \end{cases}",
        rf"{len(sheet.visible) - ruled_out} \text{{ of }} {len(sheet.visible)} \text{{ scores stay}},\quad "
        rf"{ruled_out} \text{{ become }} -\infty",
        f"A token that token {q} may not look at gets a score so low that nothing of it is left.",
    )


def softmax(sheet: Worksheet, key: int) -> Formula:
    order = np.argsort(-sheet.exponentials.numpy(), kind="stable")[:TERMS]
    parts = [tex(float(sheet.exponentials[int(k)])) for k in order if bool(sheet.visible[int(k)])]
    dots = r" + \dots" if int(sheet.visible.sum()) > len(parts) or sheet.takes_part is not None else ""
    exponential = tex(float(sheet.exponentials[key]))
    return Formula(
        r"w_k = \frac{e^{\,s_k - \max s}}{\sum_j e^{\,s_j - \max s}}",
        rf"w_{{{key}}} = \frac{{e^{{\,{tex(float(sheet.masked[key]))} - {factor(sheet.largest)}}}}}"
        rf"{{{' + '.join(parts)}{dots}}} = \frac{{{exponential}}}{{{tex(sheet.divisor)}}} "
        rf"= {tex(float(sheet.weights[key]))}",
        "e (2.718…) to the power of each score, divided by the sum of all of them: every share is above 0 and together "
        "they make 1. Taking the largest score away first changes nothing, but keeps the numbers small.",
    )


def sink(sheet: Worksheet) -> Formula:
    assert sheet.sink is not None
    if sheet.layer.sink_scales_output:
        return Formula(
            r"o' = o \cdot \frac{\sum_j e^{s_j}}{e^{s_{\text{sink}}} + \sum_j e^{s_j}}",
            rf"s_{{\text{{sink}}}} = {tex(sheet.sink)}:\quad o' = o \cdot {tex(sheet.shrink)}",
            "The sink's score stands beside those of the tokens; its share makes the head's output smaller.",
        )
    taken = 1 - float(sheet.weights.sum())
    return Formula(
        r"w_{\text{sink}} = \frac{e^{s_{\text{sink}} - m}}{\sum_j e^{s_j - m} + e^{s_{\text{sink}} - m}},"
        r"\quad m = \max s",
        rf"w_{{\text{{sink}}}} = \frac{{{tex(taken * sheet.divisor)}}}{{{tex(sheet.divisor)}}} = {tex(taken)}",
        "The sink is treated like one more token that has a score but no value: what it takes goes nowhere.",
    )


def blend(sheet: Worksheet) -> Formula:
    order = np.argsort(-sheet.weights.numpy(), kind="stable")
    order = order[: int(sheet.visible.sum())]
    weights, values = sheet.weights.numpy()[order], sheet.values.numpy()[order, 0]
    shrunk = "" if sheet.shrink == 1.0 else rf"\cdot {tex(sheet.shrink)} "
    total = rf"\left({products(weights, values)}\right) {shrunk}" if shrunk else products(weights, values) + " "
    return Formula(
        r"o = \sum_k w_k\, v_k",
        rf"o_0 = {total}= {tex(float(sheet.output[0]))}",
        "Number 0 of the output is number 0 of every value times that token's weight, added up (the largest weights "
        f"come first here); the same for all {sheet.values.shape[1]} numbers.",
    )


def hand_on(sheet: Worksheet) -> Formula:
    assert sheet.added is not None
    row, output = sheet.added.weight[0].numpy(), sheet.output.numpy()
    return Formula(
        r"a = W_O^{(h)}\, o",
        rf"a_0 = {products(row, output)} = {tex(float(sheet.added.heads[sheet.head, 0]))}",
        f"This head's {len(output)} columns of the output projection W turn its output into "
        f"{len(sheet.added.weight):,} numbers, which are added to the token's vector.",
    )
