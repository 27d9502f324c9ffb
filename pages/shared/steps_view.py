"""The browser component that draws one step of the worksheet: blocks under each other.

The drawing is in assets/components/blocks.js and steps.js; what is covered is not even sent to the browser.
"""

from collections.abc import Callable, Sequence

import numpy as np

from attention_core.figures.blocks import DIALS_UP_TO, Bars, Block, Dials, Groups, Keys, Strips, largest, span, written

from .components import chosen_in, column_of_numbers, register

_GAP = float(np.float32(-1.2345e38))  # as in blocks.js: no score comes near it but a mask's −3.4e38

_steps = register("steps", "blocks")


class _Values:
    """The numbers of a block, one after the other; its parts say where theirs begin."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self.length = 0

    def add(self, values: np.ndarray) -> int:
        """Any shape → the index of its first number."""
        at = self.length
        self.parts.append(np.asarray(values, dtype=np.float32).reshape(-1))
        self.length += self.parts[-1].size
        return at

    def together(self) -> np.ndarray:
        return np.concatenate(self.parts) if self.parts else np.zeros(0, np.float32)


def _strips(block: Strips, values: _Values) -> dict:
    strips = [
        {
            "label": strip.label,
            "note": strip.note,
            "then": strip.then,
            "full": largest(strip.values, strip.scale),
            "n": int(strip.values.size),
            "at": values.add(strip.values),
        }
        for strip in block.strips
    ]
    return {"kind": "strips", "title": block.title, "strips": strips}


def _keys(block: Keys, values: _Values) -> dict:
    columns = []
    for index, column in enumerate(block.columns):
        sent = {"title": column.title, "kind": column.kind, "wide": float(column.wide)}
        if index in block.covered:
            columns.append(sent | {"covered": True, "n": 1})
            continue
        sent |= {"n": int(column.values.shape[1]) if column.kind == "strip" else 1, "at": values.add(column.values)}
        if column.kind == "strip":
            sent |= {"full": largest(column.values, column.scale)}
        else:
            sent |= {"texts": [written(value, column.form) for value in column.values]}
        if column.kind == "bar":
            sent |= {"span": span(column.values, column.scale), "signed": column.signed}
        columns.append(sent)
    return {
        "kind": "keys",
        "title": block.title,
        "more": block.more,
        "tokens": list(block.tokens),
        "places": [int(place) for place in block.places],
        "columns": columns,
    }


def _dials(block: Dials, values: _Values) -> dict:
    pairs = min(len(block.angles), DIALS_UP_TO)
    left_out = f"the first {pairs} of {len(block.angles)} pairs" if len(block.angles) > pairs else ""
    together = np.concatenate([block.before[:pairs].T, block.after[:pairs].T, block.angles[None, :pairs]])  # (5, pairs)
    return {
        "kind": "dials",
        "label": block.label,
        "note": ", ".join(filter(None, [block.note, left_out])),
        "n": pairs,
        "at": values.add(together),
    }


def _bars(block: Bars, values: _Values) -> dict:
    return {
        "kind": "bars",
        "title": block.title,
        "labels": list(block.labels),
        "marked": None if block.marked is None else int(block.marked),
        "unit": block.unit,
        "texts": [written(value, block.form) for value in block.values],
        "span": span(block.values),
        "at": values.add(block.values),
    }


def _groups(block: Groups) -> dict:
    parts = {"heads": block.heads, "each": block.each, "marked": block.marked}
    return {"kind": "groups", "title": block.title, "words": block.words} | parts


def _sent(block: Block) -> tuple[dict, np.ndarray]:
    """One block as the browser gets it, and its numbers."""
    values = _Values()
    match block:
        case Strips():
            words = _strips(block, values)
        case Keys():
            words = _keys(block, values)
        case Dials():
            words = _dials(block, values)
        case Bars():
            words = _bars(block, values)
        case Groups():
            words = _groups(block)
    return words | {"size": values.length}, values.together()


def steps_view(
    blocks: Sequence[Block], key: str, on_choose: Callable[[int], None], chosen: int | None = None, label: str = ""
) -> None:
    """One step of the worksheet as a picture: `blocks` under each other, with the exact number of every cell.

    chosen   the place of the key whose row is marked; None: of none
    label    what the whole picture is, for those who cannot see it
    on_choose(place) is called with the place of the key whose row was chosen
    """
    sent = [_sent(block) for block in blocks]
    data = {
        "blocks": [words for words, _ in sent],
        "z": column_of_numbers(np.concatenate([numbers for _, numbers in sent] or [np.zeros(0)]), _GAP),
        "chosen": None if chosen is None else int(chosen),
        "label": label,
    }

    def choose() -> None:
        on_choose(int(chosen_in(key)["place"]))

    _steps(data=data, key=key, on_choose_change=choose)
