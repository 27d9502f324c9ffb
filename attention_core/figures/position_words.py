"""How order gets into a Transformer, in sentences: the five encodings, words in another order, longer texts.

Knows nothing about pages, and runs no model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..ordering import ByDistance, Reading, Told
from ..variants import ENCODINGS, Change, Measured
from .blocks import small, written
from .relevance_words import listed
from .words import percent

RISEN = 0.1  # nats: a rise that is told of


@dataclass(frozen=True)
class Encoding:
    """One way to tell a Transformer where a token stands."""

    title: str
    what: str  # what is done
    why: str  # what follows from it
    formula: str  # LaTeX
    letters: str  # what its letters stand for
    paper: str


TOLD = {
    "sinusoidal": Encoding(
        "Waves are added",
        "Every position has a vector of its own, made of sines and cosines, which is added to the token’s vector. The "
        "first numbers change quickly from position to position, the last ones slowly, like the hands of a clock.",
        "Nothing is learned, and there is a vector for every position however far.",
        r"\begin{gathered} PE_{p,\,2i} = \sin\!\left(\frac{p}{10000^{2i/d}}\right) \\[4pt] PE_{p,\,2i+1} = "
        r"\cos\!\left(\frac{p}{10000^{2i/d}}\right) \end{gathered}",
        "p is the position, d how many numbers a vector has, i counts the pairs of a sine and a cosine from 0.",
        "Vaswani et al. 2017, “Attention is all you need”, section 3.5",
    ),
    "learned": Encoding(
        "A learned vector is added",
        "A table has one row for each position. The row is added to the token’s vector, and it is learned like all "
        "other weights.",
        "A position that no text of the training reached keeps the random row that it began with.",
        r"x_p = E_{t} + P_p",
        "E is the table of tokens and t the token, P the table of positions and p the position; x is what the first "
        "layer reads.",
        "Gehring et al. 2017, section 3.1; compared in Vaswani et al. 2017, section 3.5 and table 3, row E",
    ),
    "rope": Encoding(
        "Queries and keys are turned",
        "Nothing is added to the tokens’ vectors. The numbers of every query and key are taken in pairs, and each pair "
        "is turned like the hand of a dial: the farther on in the text, the farther round. Each has its own speed.",
        "When a query meets a key, only the angle between the two counts, and that is their distance.",
        r"\begin{gathered} \begin{pmatrix} x' \\ y' \end{pmatrix} = "
        r"\begin{pmatrix} \cos p\,\theta_i & -\sin p\,\theta_i \\ "
        r"\sin p\,\theta_i & \cos p\,\theta_i \end{pmatrix} \begin{pmatrix} x \\ y \end{pmatrix} \\[4pt] "
        r"\theta_i = 10000^{-2i/d} \end{gathered}",
        "x and y are the two numbers of pair i, p is the position, θ how far the pair turns at every step, d how many "
        "numbers a query has.",
        "Su et al. 2021, “RoFormer”, equations 15 and 34",
    ),
    "alibi": Encoding(
        "Distance costs",
        "Nothing is added to vectors and nothing is turned. From every score something is taken off: a fixed slope "
        "times the distance of the two tokens. Each head has a slope of its own.",
        "Heads with a large slope look nearby; heads with a small slope can look far. Nothing is learned.",
        r"s = \frac{q \cdot k}{\sqrt{d}} - m_h \,\lvert p - r \rvert",
        "s is the score, q the query at position p, k the key at position r, d how many numbers each has, m the slope "
        "of head h.",
        "Press et al. 2022, “Train short, test long”, section 3",
    ),
    "none": Encoding(
        "Nothing is added",
        "The model gets the tokens’ vectors alone. Attention compares vectors, not places: to it a text is a bag of "
        "words.",
        "If every word sees all others, no order can be told at all. If each word sees only those before it, the order "
        "gets in by a back door: the first word sees one word, the tenth sees ten.",
        r"s = \frac{q \cdot k}{\sqrt{d}}",
        "s is the score, q the query, k the key, d how many numbers each has. There is no letter for a position.",
        "Haviv et al. 2022, “Transformer language models without positional encodings still learn positional "
        "information”",
    ),
}


# ── each seen ───────────────────────────────────────────────────────────────────────────────────────────────────────


def map_in_words(table: np.ndarray, encoding: str, trained: int | None) -> str:
    """The alternative text of the matrix."""
    positions, size = table.shape
    said = f"A map of {positions} positions, {size} numbers each."
    if encoding == "learned" and trained is not None and trained < positions:
        inside, outside = (float(part.std()) for part in (table[:trained], table[trained:]))
        return (
            f"{said} The rows of positions 0 to {trained - 1} were trained: their numbers spread by "
            f"{written(inside, '.3f')}. From {trained} on they are as random as at the start, and spread by "
            f"{written(outside, '.3f')}."
        )
    return (
        f"{said} The first two repeat every {written(2 * np.pi, '.1f')} positions, the last two every "
        f"{written(_last_wave(size), ',.0f')}."
    )


def _last_wave(size: int) -> float:
    return float(2 * np.pi * 10_000.0 ** ((size - 2) / size))


def dials_in_words(angles: np.ndarray, position: int) -> str:
    """angles (positions, pairs) in radians."""
    turns = angles[position] / (2 * np.pi)
    return (
        f"At position {position} pair 0 has turned {_turned(turns[0])}, pair {len(turns) - 1}, the slowest, "
        f"{_turned(turns[-1])}."
    )


def _turned(turns: float) -> str:
    degrees = 360 * float(turns)
    if degrees < 360:
        return f"{written(degrees, '.1f')}°"
    return f"{written(float(turns), '.1f')} times round"


def slopes_in_words(slopes: np.ndarray) -> str:
    near, far = int(slopes.argmax()), int(slopes.argmin())
    return (
        f"Head {near} loses {written(float(slopes[near]), '.3g')} of its score with every token of distance, head "
        f"{far} only {written(float(slopes[far]), '.3g')}. Where scores are equal, a token 10 away gets "
        f"{percent(np.exp(-10 * slopes[near]))} of the weight of a token at hand in head {near}, and "
        f"{percent(np.exp(-10 * slopes[far]))} in head {far}."
    )


def products_in_words(found: ByDistance, encoding: str) -> list[str]:
    """What the curve of the dot product says."""
    first, last = float(found.mean[0]), float(found.mean[-1])
    half = _half(found)
    far = len(found.mean) - 1
    ends = f"It is {written(first, '.2f')} for a place with itself and {written(last, '.2f')} at {far} apart."
    if encoding == "none":
        return [
            "Every distance is the same.",
            f"The dot product is {written(first, '.0f')} at any distance: nothing in it says where two tokens stand.",
        ]
    if not found.by_distance_alone:
        return [
            "It depends on the two places.",
            f"{ends} Pairs at the same distance differ by up to {written(found.spread, '.2f')}: the table was learned "
            "row by row, and nothing makes it treat equal distances alike.",
        ]
    near = f" It first falls to half at distance {half}" if half is not None else ""
    if half is not None:
        near += ", and is above it again later." if bool((found.mean[half:] > found.mean[0] / 2).any()) else "."
    return [
        "It depends on the distance alone.",
        f"{ends}{near} Of all pairs at the same distance, no two differ by more than {small(found.spread)}.",
    ]


def _half(found: ByDistance) -> int | None:
    below = (found.mean <= found.mean[0] / 2).nonzero()
    return int(below[0]) if len(below) else None


def penalties_in_words(penalties: np.ndarray) -> list[str]:
    at = penalties.shape[1] - 1
    parts = [f"{written(float(row[at]), '.2f')} by head {head}" for head, row in enumerate(penalties)]
    return ["It depends on the distance alone.", f"At {at} tokens of distance is added {listed(parts)}."]


# ── words in another order ──────────────────────────────────────────────────────────────────────────────────────────


def order_in_words(before: Reading, after: Reading) -> str:
    return f"“{before.in_words}” and “{after.in_words}”"


def told_in_words(told: Told, words: Sequence[str], moved: bool) -> list[str]:
    """Whether a variant tells two orders apart, and why."""
    name, how = ENCODINGS[told.encoding], "decoder" if told.causal else "encoder"
    without = told.encoding == "none"
    who = f"The {how} without positions" if without else f"The {how} with {_in_text(name)}"
    if not moved:
        return ["Nothing has moved yet", "Drag a word to another place, or press Shuffle."]
    if told.same:
        return [
            f"{who} cannot tell the two orders apart",
            f"Every word’s vector is the same in both: {told.largest:.10f} apart (the largest difference is "
            f"{small(told.largest)}, the rounding of sums). It sees the same words, and nothing tells it where they "
            "stand.",
        ]
    worst = int(told.differences.argmax())
    said = [
        f"{who} can partly tell the order" if without else f"{who} tells the two orders apart",
        f"The vector of “{words[worst]}” changes most: one of its numbers by {written(told.largest, '.4f')}.",
    ]
    if without:
        said.append(
            "Nothing tells it where a word stands, but each word sees only those before it: the sets differ, and so do "
            "the vectors. The very first word of an order sees itself alone."
        )
    elif not told.causal:
        said.append("The words that it sees are the same. Only the encoding tells it where they stand.")
    return said


def _in_text(name: str) -> str:
    return f"{name[0].lower()}{name[1:]} positions" if name in ("Sinusoidal", "Learned") else name


def predictions_in_words(before: Reading, after: Reading) -> str:
    """What is expected next in both orders."""
    first, second = before.capture.likely, after.capture.likely
    if not first or not second:
        return "An encoder predicts no next word: it gives each word a vector."
    (one, share), (other, chance) = first[0], second[0]
    if one == other:
        return f"“{one}” is expected next in both orders: {percent(share)} as the words stood, {percent(chance)} now."
    return f"As the words stood, “{one}” is expected next ({percent(share)}); now it is “{other}” ({percent(chance)})."


def attention_in_words(
    before: Reading, after: Reading, layer: int, head: int, token: int, apart: float | None = None
) -> str:
    """Where a token of the sentence looks in both orders; apart: the largest difference of a weight, if all see all."""
    said = []
    for reading, how in ((before, "as the words stood"), (after, "in this order")):
        tokens, place = reading.capture.tokens or [], reading.places()[token]
        row = reading.capture.attention(layer, head)[place]
        key = int(row.argmax())
        said.append(f"“{tokens[place]}” ({place}) looks {percent(float(row[key]))} at “{tokens[key]}” ({key}) {how}")
    same = "" if apart is None else f" No weight between the same two tokens differs by more than {small(apart)}."
    return f"Layer {layer}, head {head}: {', '.join(said)}.{same}"


# ── longer texts ────────────────────────────────────────────────────────────────────────────────────────────────────


def loss_in_words(measured: Mapping[str, Measured]) -> list[str]:
    """Which variants hold beyond the trained length, and which break."""
    first = next(iter(measured.values()))
    end = int(first.positions[-1] + first.positions[1] - first.positions[0])
    holds = [found for found in measured.values() if found.extrapolates]
    breaks = sorted((found for found in measured.values() if not found.extrapolates), key=lambda one: one.rise.mean)
    times = f"{end / first.trained_length:g}"
    title = f"Trained on {first.trained_length} tokens, read {times} times as many"
    said = []
    if holds:
        verb = "holds" if len(holds) == 1 else "hold"
        kept = listed([ENCODINGS[one.encoding] for one in holds])
        said.append(f"{kept} {verb}: at the end the loss has not risen by more than chance.")
    if breaks:
        parts = [f"{ENCODINGS[one.encoding]} by {written(one.rise.mean, '.2f')}" for one in breaks]
        whose = "The loss of the others" if holds else "The loss"
        step = int(first.positions[1] - first.positions[0])
        said.append(
            f"{whose} rises from the last {step} positions of the training to the last {step} here: {listed(parts)} "
            "nats a token."
        )
        begins = [(at, ENCODINGS[one.encoding]) for one in breaks if (at := risen_at(one)) is not None]
        if begins:
            said.append(
                f"It is {RISEN} nats higher from position {listed([f'{at} ({who})' for at, who in sorted(begins)])}."
            )
    said.append(f"Each line is the mean over {first.texts} texts that none of the models was trained on.")
    return [title, *said]


def risen_at(found: Measured) -> int | None:
    """The first bin behind the trained length whose loss is RISEN above that of the last trained one."""
    before = found.loss[found.positions < found.trained_length][-1]
    behind = (found.positions >= found.trained_length) & (found.loss >= before + RISEN)
    return int(found.positions[behind][0]) if behind.any() else None


def nats() -> str:
    return (
        "Loss: how little the model expected the token that really came. One nat more means that it gave it a chance "
        "2.7 times smaller."
    )


def shuffled_in_words(measured: Mapping[str, Measured]) -> list[str]:
    """What it costs when the words before the nearest ones are read in a random order."""
    stayed = sorted({words for one in measured.values() for words in one.shuffled})
    if not stayed:
        return []
    rises = [{ENCODINGS[name]: one.shuffled[words].mean for name, one in measured.items()} for words in stayed]
    most, least = max(rises[0], key=rises[0].__getitem__), min(rises[0], key=rises[0].__getitem__)
    kept = "the last word" if stayed[0] == 1 else f"the last {stayed[0]} words"
    return [
        "And when the words that were read are shuffled?",
        f"Only {kept} left in place, all before in a random order: the loss of the next token rises by "
        f"{written(rises[0][least], '.2f')} ({least}) to {written(rises[0][most], '.2f')} ({most}) nats. With the last "
        f"{stayed[-1]} words in place it rises by at most {written(max(rises[-1].values()), '.2f')}.",
    ]


def models_in_words(measured: Mapping[str, Measured]) -> str:
    """What the small models are, and what they share."""
    first = next(iter(measured.values()))
    size = f"about {round(first.parameters, -3):,} numbers each"
    read = f"{first.tokens / 1e6:.1f} million tokens of children’s stories, at most {first.trained_length} at a time"
    least = min(one.parameters for one in measured.values())
    more = [
        f"{ENCODINGS[n]} has {one.parameters - least:,} more" for n, one in measured.items() if one.parameters > least
    ]
    differs = f"Only the encoding differs ({listed(more)}: its table)." if more else "Only the encoding differs."
    return f"The five small models are our own, {size}, trained alike on {read}. {differs}"


def change_in_words(change: Change) -> str:
    return f"{written(change.mean, '+.3f')} ({written(change.low, '+.3f')} to {written(change.high, '+.3f')})"
