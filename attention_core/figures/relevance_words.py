"""Which tokens mattered, how far the methods agree and which of them to believe, in sentences.

Tokens stand as the model reads them, in “ ”. Knows nothing about pages, and runs no model.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from torch import Tensor

from ..attribution import CONVERGED, METHODS, Explanation
from ..credibility import FEWEST, Verdict, order_of
from ..scorer import Aim
from .blocks import small, written
from .captions import short
from .words import percent

SHARES = ("attention", "rollout")  # methods whose scores sum to 1
TEXT_UP_TO = 60  # letters of a text that a sentence names
BEFORE = "what the model gives before it is turned into probabilities"
SCORES = {  # of one token, and of two
    "logit": (f"its logit ({BEFORE})", f"logits ({BEFORE})"),
    "log_probability": ("the logarithm of its probability", "logarithms of the probability"),
    "probability": ("its probability", "probabilities"),
}
ALIKE, SOMEWHAT = 0.7, 0.3  # rank agreements from which two orders are called so
LITTLE = 0.25  # of the largest change: a token mattered little; half of the largest weight: it is looked at little


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def amount(value: float, method: str = "") -> str:
    """A score with three digits: "+5.82", "−0.820"; no plus where a method has nothing below 0; attention "24.9%"."""
    if method in SHARES and np.isfinite(value):
        return percent(value)
    return digits(value, plus=method not in METHODS or METHODS[method].signed)


def digits(value: float, count: int = 3, plus: bool = False) -> str:
    """So many significant digits and a true minus: 0.0123, 5.82, 1,230, 1.2 × 10⁻⁷."""
    value = float(value)
    if not np.isfinite(value) or value == 0:
        return written(value, "g")
    value = float(f"{value:.{count}g}")
    decimals = max(0, count - 1 - int(np.floor(np.log10(abs(value)))))
    size = f"{abs(value):,.{decimals}f}" if 1e-3 <= abs(value) < 1e7 else small(abs(value))
    return ("−" if value < 0 else "+" if plus else "") + size


def chance(share: float) -> str:
    """ "28.3%"; what would be "0.0%" is "less than 0.1%"."""
    return "less than 0.1%" if 0 < share < 0.0005 else percent(share)


def place(count: int) -> str:
    """ "1st", "2nd", "11th"."""
    ending = "th" if count % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count:,}{ending}"


def listed(parts: Sequence[str]) -> str:
    """ "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def exact(value: float, method: str) -> str:
    if method in SHARES and np.isfinite(value):
        return f"{100 * float(value):.3f}%"
    return digits(value, 5, plus=METHODS[method].signed)


def _named(aim: Aim, token: int) -> str:
    return f"“{aim.tokens[token]}” (token {token})"


# ── what is asked ───────────────────────────────────────────────────────────────────────────────────────────────────


def target_in_words(aim: Aim) -> list[str]:
    """How likely the target is, what the score is, and what follows in the text."""
    if aim.kind != "next" or aim.target is None:
        return [_nearness_in_words(aim), *aim.notes]
    target, contrast = aim.target, aim.contrast
    rank = " and is the most likely next token" if target.rank == 1 else f", rank {target.rank:,} among the next tokens"
    said = [f"“{target.token}” has {chance(target.share)} here{rank}."]
    if contrast is not None:
        said.append(f"“{contrast.token}” has {chance(contrast.share)}, rank {contrast.rank:,}.")
        value = digits(aim.value, plus=True)
        said.append(f"The score is the difference of the two {SCORES[aim.score][1]}: {value}.")
    else:
        value = chance(aim.value) if aim.score == "probability" else digits(aim.value)
        said.append(f"The score is {SCORES[aim.score][0]}: {value}.")
    if aim.follows is not None and aim.follows.id == target.id:
        said.append("It is what follows in the text.")
    elif aim.follows is not None:
        said.append(f"In the text “{aim.follows.token}” follows ({chance(aim.follows.share)}).")
    return [*said, *aim.notes]


def _nearness_in_words(aim: Aim) -> str:
    value = digits(aim.value)
    if aim.kind == "vector":
        left = f"How much of the vector of {_named(aim, aim.token)} is left"
        return f"{left}: {value} (cosine) while nothing is missing."
    one, other = ([short(text, TEXT_UP_TO) for text in aim.texts] + [""])[:2]
    if other:
        near, far = (one, other) if aim.value >= 0 else (other, one)
        nearer = f"This text is nearer to “{near}” than to “{far}”"
        return f"{nearer}: the difference of the two cosines is {digits(aim.value, plus=True)}."
    return f"This text and “{one}”: {value} (cosine; 1: the same direction, 0: nothing in common)."


def watched_in_words(aim: Aim) -> str:
    """What is watched while tokens go and come: the name of an axis."""
    if aim.kind == "vector":
        return f"what is left of “{aim.tokens[aim.token]}” (cosine)"
    if aim.kind == "similarity" or aim.target is None:
        one, other = ([short(text, 20) for text in aim.texts] + [""])[:2]
        return f"nearer to “{one}” than “{other}”" if other else f"nearness to “{one}” (cosine)"
    if aim.contrast is not None:
        return f"share of “{aim.target.token}”, against “{aim.contrast.token}”"
    return f"probability of “{aim.target.token}”"


def _goal(aim: Aim) -> str:
    """What a token speaks for."""
    if aim.kind == "vector":
        return f"the vector of {_named(aim, aim.token)}"
    if aim.kind == "similarity" or aim.target is None:
        texts = [f"“{short(text, TEXT_UP_TO)}”" for text in aim.texts]
        return f"nearness to {' rather than '.join(texts)}"
    against = "" if aim.contrast is None else f" rather than “{aim.contrast.token}”"
    return f"“{aim.target.token}”{against}"


# ── one method ──────────────────────────────────────────────────────────────────────────────────────────────────────


def method_in_words(explanation: Explanation, count: int = 3) -> str:
    """The tokens that matter most, and the one that speaks most against the target."""
    aim, name, scores = explanation.aim, explanation.method, explanation.scores
    method, values = METHODS[name], scores.tolist()
    order = [i for i in order_of(scores) if values[i] > 0]
    best = [(_named(aim, i), amount(values[i], name)) for i in order[: max(1, count)]]
    title = method.title + of_head(explanation)
    if not any(values):
        return f"{title}: 0 for every token."
    if name in SHARES:
        through = "followed through all layers, " if name == "rollout" else ""
        first, *others = [f"{share}{' goes' if n == 0 else ''} to {token}" for n, (token, share) in enumerate(best)]
        return f"{title}: {through}{listed([first, *others])}."
    then = f", then {listed([f'{token}, {value}' for token, value in best[1:]])}" if best[1:] else ""
    if not method.signed:
        does = "hands on most" if name == "value_weighted" else f"counts most for {_goal(aim)}"
        return f"{title}: {best[0][0]} {does}: {best[0][1]}{then}."
    most = f"{best[0][0]} speaks most for {_goal(aim)}: {best[0][1]}{then}" if best else f"no token for {_goal(aim)}"
    worst = int(scores.argmin())
    against = f"most against it: {_named(aim, worst)}, {amount(values[worst], name)}"
    return f"{title}: {most}; {against if values[worst] < 0 else 'none against it'}."


def of_head(explanation: Explanation) -> str:
    layer, head = explanation.settings.layer, explanation.settings.head
    return "" if layer is None else f" (layer {layer})" if head is None else f" (layer {layer}, head {head})"


def words_of_tokens(explanation: Explanation) -> list[str]:
    """What is said of each token: its number, and how many are larger."""
    scores, spread, name = explanation.scores, explanation.spread, explanation.method
    said = []
    ranks = 1 + (scores[None] > scores[:, None]).sum(dim=1)  # (tokens,)
    for i, value in enumerate(scores.tolist()):
        sure = "" if spread is None else f" ± {digits(float(spread[i]), 2)}"
        said.append(f"{exact(value, name)}{sure}{_rank(int(ranks[i]), scores, i)}")
    return said


def _rank(rank: int, scores: Tensor, token: int) -> str:
    count = len(scores)
    if count == 1 or not bool(scores[token].isfinite()):
        return ""
    if bool((scores == scores[token]).all()):
        return f", as all {count}"
    least = bool((scores >= scores[token]).all())
    return f", the largest of {count}" if rank == 1 else f", the {'lowest' if least else place(rank)} of {count}"


def how_sure(explanation: Explanation) -> str:
    """How far the bars can be believed by the method's own measure; "" where it has none."""
    title, error = METHODS[explanation.method].title, explanation.error
    if error is not None and explanation.without is not None and explanation.method != "shapley":
        found = digits(float(explanation.scores.double().sum()), plus=True)
        wanted = digits(explanation.aim.value - explanation.without, plus=True)
        if error <= CONVERGED:
            return f"{title} add up as they should: {found} of {wanted}, {100 * error:.2f}% off."
        return (
            f"{title}, not converged: the bars add up to {found} instead of {wanted}, {100 * error:,.0f}% off. "
            "Raise the steps, choose another baseline, or don’t believe them."
        )
    if explanation.method != "shapley":
        return ""
    samples, spread = explanation.settings.samples, explanation.spread
    orders = f"{samples:,} random order{'' if samples == 1 else 's'}"
    if spread is None:
        return f"{title} are a mean over {orders}: how sure they are is not known yet."
    worst = int(spread.argmax())
    return (
        f"{title} are a mean over {orders}: the least sure bar, {_named(explanation.aim, worst)}, has a standard "
        f"error of {digits(float(spread[worst]), 2)}: what more samples would give is mostly within twice that."
    )


# ── several methods ─────────────────────────────────────────────────────────────────────────────────────────────────


def agreement_in_words(names: Sequence[str], ranks: np.ndarray, overlap: np.ndarray, count: int) -> list[str]:
    """The two methods that agree most, and the two that agree least. ranks, overlap: (methods, methods)."""
    every = range(len(names))
    pairs = [pair for pair in combinations(every, 2) if np.isfinite(ranks[pair])]
    flat = [names[i] for i in every if not np.isfinite(np.delete(ranks[i], i)).any()]
    if not pairs:
        return ["There is no order to compare."] if len(names) > 1 else []
    said, ordered = [], sorted(pairs, key=lambda pair: -float(ranks[pair]))
    for n, pair in enumerate(dict.fromkeys([ordered[0], ordered[-1]])):
        who, how = f"{names[pair[0]]} and {names[pair[1]]}", _how_alike(float(ranks[pair]))
        numbers = f"rank agreement {written(float(ranks[pair]), '.2f')}" if n == 0 else written(ranks[pair], ".2f")
        said.append(f"{who} {how} ({numbers}; {_in_common(float(overlap[pair]), count, n == 0)}).")
    if flat:
        said.append(f"{listed(flat)}: the same for every token, so there is no order to compare.")
    return said


def _how_alike(rank: float) -> str:
    if rank >= ALIKE:
        return "order the tokens alike"
    if rank >= SOMEWHAT:
        return "agree somewhat on the order"
    return "hardly agree" if rank > -SOMEWHAT else "order the tokens rather the other way round"


def _in_common(share: float, count: int, first: bool) -> str:
    same = round(share * count)
    if not first:
        return f"{same} of {count}"
    if count == 1:
        return "the most relevant token is the same" if same else "the most relevant token is another one"
    return f"{same or 'none'} of the {count} most relevant tokens {'is' if same < 2 else 'are'} the same"


def verdict_in_words(title: str, verdict: Verdict) -> str:
    """Whether a method's order does better than random ones."""
    gain, low, high = (written(value, ".2f") for value in (verdict.gain, verdict.low, verdict.high))
    if not np.isfinite([verdict.gain, verdict.low, verdict.high]).all():
        return f"{title}: cannot be judged, as the curves have gaps."
    if verdict.word == "unknown":
        few = verdict.tokens < FEWEST
        why = "a text of so few tokens has too few orders" if few else "every order of these tokens does the same"
        return f"{title}: cannot be judged, as {why}."
    count = {verdict.draws: "all", 0: "none of"}.get(verdict.beaten, f"{verdict.beaten} of")
    beats = f"{title} beats {count} {verdict.draws} random orders (area {gain}; theirs {low} to {high})"
    if verdict.word == "better":
        return f"{beats}."
    if verdict.word == "worse":
        return f"{beats}: its bars would have misled you here."
    if verdict.beaten >= verdict.draws / 2:
        return f"{beats}: not surely better than chance."
    return f"{beats}: no better than chance, its bars would have fooled you here."


def attention_paragraph(
    aim: Aim, attention: Explanation | None, occlusion: Explanation | None, verdict: Verdict | None
) -> list[str]:
    """Why attention does not explain, and what this text shows of it."""
    general = (
        "A weight says from where a head takes values, not what the model does with them. The value may be small, or "
        "another head may undo it; every token also goes on past attention, unchanged, and through the feed-forward "
        "parts; a mean over many heads hides the one that decides; and heads that have nothing to do rest on the "
        "first token. Jain and Wallace (2019) found quite other weights with which a model says the same. Wiegreffe "
        "and Pinter (2019) answered that weights may still be one plausible account: it has to be tested each time."
    )
    if attention is None or occlusion is None:
        return [general]
    return [general, *_own_example(aim, attention.scores, occlusion.scores, verdict)]


def _own_example(aim: Aim, weights: Tensor, changes: Tensor, verdict: Verdict | None) -> list[str]:
    """What the numbers of this text show, where they show something. weights, changes: (tokens,)"""
    seen, sizes = int(weights.argmax()), changes.abs()
    needed = int(sizes.argmax())
    if float(sizes[needed]) == 0 or len(weights) < 2:
        return []
    looks = f"{_named(aim, seen)} gets the most attention, {percent(float(weights[seen]))}"
    if float(sizes[seen]) <= LITTLE * float(sizes[needed]) and float(weights[needed]) <= 0.5 * float(weights[seen]):
        return [
            f"Here {looks}, but without it the score {_moves(float(changes[seen]), 'only ')}; {_named(aim, needed)} "
            f"gets {percent(float(weights[needed]))}, and without it the score {_moves(float(changes[needed]))}."
        ]
    loss = float(changes[seen])
    if seen == needed and verdict is not None and verdict.word == "better":
        return [f"Here the two agree: {looks}, and nothing is missed more: without it the score {_moves(loss)}."]
    above = int((weights > weights[needed]).sum())
    if verdict is not None and verdict.word != "better" and above:
        missed = f"{_named(aim, needed)} is missed most, as without it the score {_moves(float(changes[needed]))}"
        more = f"{above} {'token gets' if above == 1 else 'tokens get'} more attention"
        its = percent(float(weights[needed]))
        return [f"Here its order is not surely better than random ones: {missed}, but {more} than its {its}."]
    return []


def _moves(loss: float, only: str = "") -> str:
    """ "loses 5.82", "gains only 0.0123"."""
    if loss == 0:
        return "stays the same"
    return f"{'loses' if loss > 0 else 'gains'} {only}{digits(abs(loss))}"
