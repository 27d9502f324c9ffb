"""The steps from the scores of a row to what the layer hands on: softmax, sink, blend, add, proof, around."""

import numpy as np

from ..lens import Lens
from ..worksheet import Worksheet
from . import formulas
from .blocks import Bars, Column, Strip, Strips, small, written
from .step import Question, Step, Table, array, bar, keys_of, named, of_keys, signed, strongest_key
from .words import percent


def softmax(sheet: Worksheet, key: int, rows: list[int], temperature: float) -> Step:
    columns = [
        signed("score", sheet.masked, rows),
        bar("e^(score − largest)", sheet.exponentials, rows),
        bar("weight, %", sheet.weights * 100, rows, form=".1f", scale=100.0),
    ]
    top, instead = strongest_key(sheet), ""
    if temperature != 1:
        other = sheet.weights_at(temperature)
        columns.append(bar(f"at temperature {temperature:g}", other * 100, rows, form=".1f", scale=100.0))
        instead = f"; at temperature {temperature:g} it would be {percent(float(other[top]))}"
    sentences = (
        "The softmax turns scores into weights: e to the power of each score, divided by the sum of all of them"
        f"{', with the sink’s' if sheet.takes_part is not None else ''}, so that a row makes 100%.",
        f"{named(sheet, top)} gets {percent(float(sheet.weights[top]))}, the largest share{instead}.",
    )
    question = Question(
        f"What share of the row does {named(sheet, key)} get, in percent?",
        100 * float(sheet.weights[key]),
        "%",
        0.0,
        100.0,
    )
    blocks, formula = (keys_of(sheet, rows, tuple(columns)),), formulas.softmax(sheet, key)
    return Step("softmax", "Softmax", sentences, blocks, (formula,), question, hides=frozenset({1, 2, 3}))


def sink(sheet: Worksheet, rows: list[int]) -> Step:
    if sheet.layer.sink_scales_output:
        sentences: tuple[str, ...] = (
            f"A learned sink takes a part of the row: the output is multiplied by {sheet.shrink:.3f}.",
        )
    else:
        left = float(sheet.weights.sum())
        sentences = (
            f"This head has learned a score that belongs to no token, a sink: it takes {percent(1 - left)} of the row.",
            f"The tokens share the rest, {percent(left)}.",
        )
    blocks = (keys_of(sheet, rows, (bar("weight, %", sheet.weights * 100, rows, form=".1f", scale=100.0),)),)
    return Step("sink", "Sink", sentences, blocks, (formulas.sink(sheet),))


def blend(sheet: Worksheet, rows: list[int]) -> Step:
    sizes = sheet.terms.norm(dim=-1)
    most = int(sizes.argmax())
    columns = (
        bar("weight, %", sheet.weights * 100, rows, form=".1f", scale=100.0),
        Column("weight × value", array(sheet.terms)[rows], "strip", wide=3),
        Column("length", array(sizes)[rows], "number"),
    )
    output = Strip("head’s output", array(sheet.output), f"length {float(sheet.output.norm()):.3f}")
    sentences = (
        "Every token’s value is multiplied by its weight, and all are added up: that blend is the head’s output.",
        f"{named(sheet, most)} gives the largest part, a vector of length {float(sizes[most]):.3f}.",
    )
    open_sizes = np.where(sheet.visible.numpy(), sizes.numpy(), -np.inf)
    question = of_keys(sheet, "Which token’s weight × value is the longest vector?", most, open_sizes)
    blocks = (keys_of(sheet, rows, columns), Strips((output,)))
    return Step("blend", "Blend", sentences, blocks, (formulas.blend(sheet),), question, hides=frozenset({1, 2}))


def hand_on(sheet: Worksheet, who: str) -> Step:
    title, added = "Add", sheet.added
    output = Strip("head’s output", array(sheet.output), f"length {float(sheet.output.norm()):.3f}")
    if added is None:
        return Step("hand_on", title, (sheet.missing["added"],), (Strips((output,)),))
    name, sizes = added.name.rpartition(".")[2], added.heads.norm(dim=-1)
    one = added.heads[sheet.head]
    strips = (
        Strip("head’s output", output.values, output.note, then=f"× table {name}"),
        Strip("added", array(one), f"length {float(one.norm()):.3f}"),
    )
    heads = tuple(f"head {h}" for h in range(len(sizes)))
    bars = Bars(heads, array(sizes), sheet.head, "Length of what each head adds", ".3f")
    sentences = (
        f"The output projection ({name}) turns the head’s output into a vector that is added to "
        f"{named(sheet, sheet.token, query=True)}, together with those of the other heads.",
        f"{who} adds a vector of length {float(one.norm()):.3f}: {percent(float(added.shares[sheet.head]))} of the sum "
        "of all heads, counting only what points the same way.",
    )
    question = Question(
        "Which head adds the longest vector?", int(sizes.argmax()), options=heads, scores=tuple(sizes.tolist())
    )
    return Step("hand_on", title, sentences, (Strips(strips), bars), (formulas.hand_on(sheet),), question)


def proof(sheet: Worksheet) -> Step:
    names = {
        "query": "query",
        "key": "every key",
        "value": "every value",
        "weights": "weights",
        "head output": "head’s output",
        "attention output": "what all heads add",
        "layer output": "output of the layer",
    }
    rows = tuple(
        (
            names[one.name],
            written(float(one.ours.flatten()[0]), ".6f"),
            written(float(one.own.flatten()[0]), ".6f"),
            small(one.absolute),
            small(one.relative),
            "✓" if one.agrees else "differs",
        )
        for one in sheet.proof
    )
    header = (
        "what",
        "recomputed (first number)",
        "the model’s own",
        "largest difference",
        "of the largest number",
        "agrees",
    )
    if not sheet.proof:
        return Step("proof", "Proof", (sheet.missing["weights"],))
    first = (
        "This page computed every number a second time, from the model’s own tables; beside it stands what the model "
        "itself computed."
    )
    compared = [one for one in sheet.proof if not one.agrees] or list(sheet.proof)
    worst = max(compared, key=lambda one: (one.absolute != one.absolute, one.absolute))
    if all(one.agrees for one in sheet.proof):
        most = max(one.relative for one in sheet.proof)
        second = (
            f"The largest difference is {small(worst.absolute)} ({names[worst.name]}), and none is more than "
            f"{small(most)} of the largest number in its row: rounding."
        )
    else:
        wrong = ", ".join(names[one.name] for one in compared)
        second = (
            f"It does not agree ({wrong}): the largest difference is {small(worst.absolute)} ({names[worst.name]}), "
            f"{small(worst.relative)} of the largest number there."
        )
    return Step("proof", "Proof", (first, second), table=Table(header, rows))


def around(sheet: Worksheet, lens: Lens | None) -> Step:
    around, title = sheet.around, "Around"
    if around is None:
        return Step("around", title, (sheet.missing["around"],))
    labels, sizes = ["before the layer"], [float(around.entered.norm())]
    for n, (name, kind, made) in enumerate(around.parts):
        adds = "+ " if around.adds is not None and n in around.adds else ""
        own = name.rpartition(".")[2]
        labels.append(f"{adds}{kind}" if own == kind else f"{adds}{kind} ({own})")
        sizes.append(float(made.norm()))
    labels.append("after the layer")
    sizes.append(float(around.left.norm()))
    if around.adds is not None:
        first = (
            f"The layer adds to the vector of {named(sheet, sheet.token, query=True)}: the parts marked with + are "
            "added, nothing is replaced."
        )
    else:
        first = "The layer’s parts follow each other like this; the sums pass a norm, or are scaled, before they go on."
    second = (
        "Below is what the model would write next if it stopped after each layer (called the logit lens); the last "
        f"line is its real answer (its scores differ by {small(lens.difference)} of the largest)."
        if lens
        else ""
    )
    table = None
    if lens is not None:
        layers, count = lens.ids.shape
        guesses = [
            tuple(f"{lens.tokens[n * count + i]} {percent(float(lens.chances[n, i]))}" for i in range(count))
            for n in range(layers)
        ]
        header = ("after layer", "most likely next", *("second", "third", "fourth", "fifth")[: count - 1])
        table = Table(header, tuple((str(n), *row) for n, row in enumerate(guesses)))
    bars = Bars(tuple(labels), np.array(sizes, dtype=np.float32), None, "Length of the vector", ".2f")
    return Step("around", title, tuple(filter(None, (first, second))), (bars,), table=table)
