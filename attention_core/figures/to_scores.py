"""The steps from what enters a layer to the scores of a row: vectors, positions, compare, scale, cap, bias, mask."""

import numpy as np

from ..worksheet import Worksheet
from . import formulas
from .blocks import Block, Column, Dials, Groups, Strip, Strips, written
from .step import Question, Step, Table, array, how_many, keys_of, most, named, of_keys, signed


def vectors(sheet: Worksheet, key: int, who: str) -> Step:
    query, other = named(sheet, sheet.token, query=True), named(sheet, key)
    blocks: list[Block] = []
    filled: list[formulas.Formula] = []
    plan = [("query", "q", sheet.token, sheet.query), ("key", "k", key, sheet.keys[key])]
    plan.append(("value", "v", key, sheet.values[key]))
    for which, letter, place, vector in plan:
        origin = sheet.origins.get(which)
        strips: list[Strip] = []
        token = query if which == "query" else other
        if origin is not None:
            for piece in origin.pieces:
                label = f"vector of {token}" if len(piece.path) == 1 else piece.path[-2].rpartition(".")[2]
                then = " → ".join([*(name.rpartition(".")[2] for name in (*piece.path, *piece.then))])
                strips.append(
                    Strip(label, array(piece.given[place]), how_many(piece.given[place]), then=f"× table {then}")
                )
            filled.append(formulas.projection(origin.pieces[0], place, letter))
            vector = origin.before(place)
        strips.append(Strip(f"{which} {letter}", array(vector), how_many(vector)))
        blocks.append(Strips(tuple(strips)))
    shared = sheet.layer.heads // len(sheet.layer.key) if sheet.layer.key is not None else 1
    second = f"{who} compares the query of {query} with the keys of the tokens, and takes the values of those that fit."
    if shared > 1:
        blocks.append(Groups(sheet.layer.heads, shared, sheet.head, "Heads that share a key and a value"))
        group = sheet.layer.key_value_head(sheet.head)
        heads = f"{group * shared} to {(group + 1) * shared - 1}"
        second = (
            f"{who} has a query of its own, but heads {heads} share their keys and values (key-value head {group})."
        )
    first = (
        "Three learned tables make three vectors of each token: what it looks for (query), what it can be found by "
        "(key), and what it hands over (value)."
    )
    missing = [sheet.missing[which] for which, *_ in plan if which in sheet.missing]
    return Step("vectors", "Vectors", (first, missing[0] if missing else second), tuple(blocks), tuple(filled))


def positions(sheet: Worksheet, key: int, rows: list[int], moved: int | None, scores_too: bool) -> Step:
    title, rotation = "Position", sheet.rotation
    query = named(sheet, sheet.token, query=True)
    if rotation is not None:
        pairs = np.array(rotation.turning.pairs)
        before, after = rotation.query_before.numpy(), sheet.query.numpy()
        turned: list[Block] = [
            Strips((Strip("q before", before, then="turn each pair"), Strip("q after", after))),
            Dials(f"{len(pairs)} pairs", before[pairs], after[pairs], rotation.angles.numpy()),
        ]
        if rotation.positions and scores_too:
            places = range(rotation.positions)
            scores = array(rotation.by_position(key))
            here = rotation.position
            strip = Strip("change by place", scores - scores[here], f"{places[0]} to {places[-1]}, 0 at {here}")
            own = rotation.moved(here)
            other = rotation.moved(moved) if moved is not None and moved != here and moved in places else None
            top = max(most(part[rows]) for part in (own, other) if part is not None)
            columns = [signed(f"score at place {here}", own, rows, top)]
            if other is not None:
                columns.append(signed(f"at place {moved}", other, rows, top))
            turned.append(Strips((strip,), f"How the score for {named(sheet, key)} would change at other places"))
            turned.append(keys_of(sheet, rows, tuple(columns)))
        apart = abs(rotation.position - key)
        sentences = (
            "The numbers of the query are taken in pairs, and each pair is turned like a clock hand: the later the "
            f"place (here {rotation.position}), the further; the keys are turned in the same way.",
            f"Therefore a score depends on how far apart two tokens are (to {named(sheet, key)}: {apart} "
            f"place{'s' * (apart != 1)}), and not on where in the text they stand.",
        )
        return Step("positions", title, sentences, tuple(turned), (formulas.turning(sheet, rotation),))
    added = sheet.around.positions if sheet.around is not None else None
    if added is not None and sheet.layer.kind != "cross":
        module, vector = added
        sentences = (
            f"Before the first layer, a vector for the place {sheet.token} was added to {query}: the model keeps one "
            f"for each place ({module.rpartition('.')[2]}).",
            "So what enters every layer tells both which word it is and where it stands.",
        )
        blocks = (Strips((Strip(f"place {sheet.token}", array(vector), how_many(vector)),)),)
        return Step("positions", title, sentences, blocks, (formulas.placed(sheet, array(vector)),))
    if sheet.bias is not None and bool(sheet.bias.any()):
        first = "This layer adds a number for each distance to the scores: it comes in a later step."
    elif "query" in sheet.missing or sheet.around is None:
        first = f"Before and after cannot be told apart here. {sheet.missing.get('query', '')}".strip()
    elif sheet.layer.kind == "cross":
        first = "This layer looks from one text into another and puts in no places: earlier layers have done so."
    else:
        first = "This layer is told no places: what it knows of the order comes from the mask and from earlier layers."
    return Step("positions", title, (first,), (Strips((Strip("query q", array(sheet.query)),)),))


def compare(sheet: Worksheet, key: int, rows: list[int]) -> Step:
    query, other = named(sheet, sheet.token, query=True), named(sheet, key)
    open_dots = np.where(sheet.visible.numpy(), sheet.dots.numpy(), -np.inf)
    best = int(open_dots.argmax())
    strips = Strips(
        (
            Strip(f"q of {query}", array(sheet.query), then="× number by number"),
            Strip(f"k of {other}", array(sheet.keys[key]), then="="),
            Strip("products", array(sheet.products[key]), f"sum {written(float(sheet.dots[key]), '.3f')}"),
        )
    )
    columns = (Column("products", array(sheet.products)[rows], "strip", wide=3), signed("q · k", sheet.dots, rows))
    keys = keys_of(sheet, rows, columns)
    sentences = (
        f"The query of {query} is multiplied with each token’s key, number by number, and the products are added up: "
        "the better the two fit, the larger the sum.",
        f"Of the tokens it may look at, {named(sheet, best)} fits best, with {float(sheet.dots[best]):.3f}.",
    )
    question = of_keys(sheet, f"Which token’s key fits the query of {query} best?", best, open_dots)
    pairs = zip(sheet.query.tolist(), sheet.keys[key].tolist(), sheet.products[key].tolist(), strict=True)
    numbers = [(str(i), *(written(number, ".6f") for number in three)) for i, three in enumerate(pairs)]
    total = ("sum", "", "", written(float(sheet.dots[key]), ".6f"))
    table = Table(("i", "q", "k", "q × k"), (*numbers, total))
    return Step(
        "compare",
        "Compare",
        sentences,
        (strips, keys),
        (formulas.compare(sheet, key),),
        question,
        numbers=table,
        hides=frozenset({0, 1}),
    )


def scale(sheet: Worksheet, key: int, rows: list[int]) -> Step:
    size, scaling, other = len(sheet.query), sheet.layer.scaling, named(sheet, key)
    columns = (signed("q · k", sheet.dots, rows), signed("score", sheet.scaled, rows, scale=most(sheet.dots)))
    made = sheet.origins["query"].pieces[0].factor if "query" in sheet.origins else 1.0
    if abs(scaling * size**0.5 - 1) < 1e-5:
        first = (
            f"Each sum is divided by √{size} = {size**0.5:.3g}: {size} products were added up, and more products make "
            "larger sums."
        )
        why = "Undivided, the largest would take almost everything in the softmax: try it there with the temperature."
    elif scaling == 1 and made != 1:
        first = f"The sums stay as they are: this model has multiplied its queries by {made:.3g} before."
        why = "Smaller scores keep the softmax from giving nearly the whole look to one token."
    elif scaling == 1:
        first = "This model does not divide the sums: its scaling is 1."
        why = "It has learned vectors that are small enough."
    else:
        first = f"Each sum is multiplied by {scaling:.4g}, which this model fixes for the purpose."
        why = "Smaller scores keep the softmax from giving nearly the whole look to one token."
    question = Question(
        f"q · k of {other} is {float(sheet.dots[key]):.3f}. What is it after this step?", float(sheet.scaled[key])
    )
    blocks, formula = (keys_of(sheet, rows, columns),), formulas.scale(sheet, key)
    return Step("scale", "Scale", (first, why), blocks, (formula,), question, hides=frozenset({1}), tells=False)


def cap(sheet: Worksheet, key: int, rows: list[int]) -> Step:
    cap = sheet.layer.softcap or 0.0
    columns = (signed("score", sheet.scaled, rows), signed("capped", sheet.capped, rows, scale=most(sheet.scaled)))
    sentences = (f"This model bends large scores so that none goes beyond {cap:g}: a soft cap.",)
    blocks = (keys_of(sheet, rows, columns),)
    return Step("cap", "Soft cap", sentences, blocks, (formulas.cap(sheet, key),))


def bias(sheet: Worksheet, key: int, rows: list[int]) -> Step:
    assert sheet.bias is not None
    columns = (
        signed("score", sheet.capped, rows),
        signed("added", sheet.bias, rows),
        signed("sum", sheet.scores, rows),
    )
    sentences = (
        "A number for each pair of places is added to the score: this is how the model puts in how far apart they are.",
    )
    blocks = (keys_of(sheet, rows, columns),)
    return Step("add", "Bias", sentences, blocks, (formulas.add(sheet, key),))


def mask(sheet: Worksheet, rows: list[int]) -> Step:
    hidden = np.flatnonzero(~sheet.visible.numpy())
    query, shown, kind = named(sheet, sheet.token, query=True), rows, sheet.layer.kind
    later, earlier = hidden[hidden > sheet.token], hidden[hidden < sheet.token]
    if not len(hidden):
        first = f"{query} may look at every token: nothing is ruled out here."
        second = {"encoder": "An encoder reads a text both ways.", "cross": "The whole other text is open to it."}.get(
            kind,
            "It is the last one, and this model reads from left to right: choose an earlier token to see others go.",
        )
    else:
        told = [f"{len(later)} later" if len(later) else "", f"{len(earlier)} earlier" if len(earlier) else ""]
        which = " and ".join(filter(None, told)) if kind != "cross" else f"{len(hidden)}"
        first = f"{query} may not look at {which} token{'s' if len(hidden) > 1 else ''}: the scores become −∞."
        second = "This model reads from left to right, so a token knows nothing of what comes after it."
        if kind == "encoder" or (len(earlier) and kind == "decoder"):
            second = "In this layer a token looks only at those near it: the others lie outside its window."
        elif kind == "cross":
            second = "These places are closed to it."
        shown = sorted({*rows, *hidden[:3].tolist()})
    top = most(sheet.scores[shown])
    columns = (signed("score", sheet.scores, shown, top), signed("after the mask", sheet.masked, shown, top))
    blocks = (keys_of(sheet, shown, columns),)
    return Step("mask", "Mask", (first, second), blocks, (formulas.mask(sheet),))
