"""The browser components: tokens as chips, every head as a small picture, one head as a heat map, heads as lines.

Each function mounts its component and hands the reader's choice to `on_choose`, before the page runs again. The
drawing is in assets/components; nothing here knows about models, captures or the URL.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import pandas as pd
import streamlit as st

_MOST_BARS = 12  # as in head.js
_GAP, _GAP_OF_DIFFERENCE, _NO_SCORE = -1.0, -2.0, -1e30  # as in the scripts: no weight, difference or score is one
_ASSETS = Path(__file__).resolve().parents[2] / "assets" / "components"


class Scale(TypedDict, total=False):
    """How weights become colours or strengths."""

    log: bool  # four decades up to the full colour, instead of in proportion
    per: Literal["one", "row", "head"]  # what a full colour stands for: 1, the row's largest weight, the head's largest
    cut: float  # weights below are left blank


def register(name: str, *before: str):
    """Registers assets/components/<name>.html, .css and .js, the last two behind the files that all share.

    before  further scripts, by name, that come between
    """

    def read(part: str) -> str:
        return (_ASSETS / part).read_text(encoding="utf-8")

    css = "\n".join(read(f"{part}.css") for part in ("common", name))
    js = "\n".join(read(f"{part}.js") for part in ("common", *before, name))
    return st.components.v2.component(f"headlight_{name}", html=read(f"{name}.html"), css=css, js=js)


_chips = register("chips")
_overview = register("overview")
_head = register("head")
_lines = register("lines")


def _column(values: np.ndarray) -> pd.DataFrame:
    """Any shape → one column "z", which travels as Arrow and arrives in the browser as a typed array."""
    return pd.DataFrame({"z": np.ascontiguousarray(values).reshape(-1)})


def column_of_numbers(values: np.ndarray, gap: float) -> pd.DataFrame:
    """Numbers with NaN for gaps → the same with `gap`: Arrow would make nulls of NaN."""
    values = np.asarray(values, dtype=np.float32)
    return _column(np.where(np.isnan(values), np.float32(gap), values))


def _flat(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    """One array per entry → all of them, one after the other."""
    return (
        np.concatenate([np.asarray(part, dtype=dtype).reshape(-1) for part in parts])
        if len(parts)
        else np.zeros(0, dtype)
    )


def _bars(place: int, query: str, weights: np.ndarray, tokens: list[str]) -> dict:
    """The heaviest keys of one row, for a picture that is too coarse to read them off."""
    order = [int(k) for k in np.argsort(-np.abs(weights), kind="stable") if not np.isnan(weights[k])]
    shown, rest = order[:_MOST_BARS], order[_MOST_BARS:]
    return {
        "place": place,
        "query": query,
        "shown": [{"place": k, "token": tokens[k], "weight": float(weights[k])} for k in shown],
        "more": len(rest),
        "rest": float(weights[rest].sum()) if rest else 0.0,
    }


def _places(places: Sequence[tuple[int, int]]) -> list[list[int]]:
    return [[int(entry), int(head)] for entry, head in places]


def chosen_in(key: str) -> dict:
    """What the reader chose in the component `key`; empty outside its callback."""
    return st.session_state[key].get("choose") or {}


def token_chips(
    tokens: list[str],
    ids: list[int] | None,
    weights: np.ndarray | None,
    chosen: int | Sequence[int],
    key: str,
    on_choose: Callable[[int, bool], None],
    label: str = "",
    notes: Sequence[str] | None = None,
    words: Sequence[str] | None = None,
    about: str = "",
    signed: bool = False,
) -> None:
    """The text as a wrapping row of tokens, shaded by `weights`, with the tokens `chosen` marked as the queries.

    tokens   display strings, shown exactly as given (spaces as ·)
    ids      the vocabulary's numbers, written small under the tokens; None leaves them out
    weights  (tokens,) float32 in 0..1, NaN where the query cannot look; None leaves the shades out
    chosen   index of the query, or of several, the first one first; empty: none of these tokens is a query
    label    a word in front, such as "source"
    notes    what stands small under each token instead of its id
    words    what is said of each token instead of its place and weight
    about    what the row is, for those who cannot see it; "": tokens of which some are queries
    signed   weights are in −1..1: those below 0 are orange, with a dashed line under them
    on_choose(token, add) is called with the index of the token that was chosen; add: it joins the chosen ones, or
             leaves them if it was one (click or Enter with Shift, Ctrl or Cmd). The last one cannot leave.

    Above 160 tokens only those around the chosen one are drawn, and a sentence says so.
    """
    queries = [int(token) for token in np.atleast_1d(chosen)]
    data = {
        "tokens": list(tokens),
        "ids": None if ids is None else [int(i) for i in ids],
        "chosen": queries,
        "label": label,
        "notes": None if notes is None else list(notes),
        "words": None if words is None else list(words),
        "about": about,
        "signed": signed,
    }
    if weights is not None:
        data["weights"] = column_of_numbers(weights, _GAP_OF_DIFFERENCE if signed else _GAP)

    def choose() -> None:
        value = chosen_in(key)
        on_choose(int(value["token"]), bool(value["add"]))

    _chips(data=data, key=key, on_choose_change=choose)


def overview(
    thumbnails: list[np.ndarray],
    names: list[str],
    chosen: tuple[int, int],
    key: str,
    on_choose: Callable[[int, int, bool], None],
    *,
    combined: Sequence[tuple[int, int]] = (),
    colors: Sequence[int] | None = None,
    scores: list[np.ndarray] | None = None,
    score_name: str = "",
    order: Sequence[tuple[int, int]] | None = None,
    shown: list[np.ndarray] | None = None,
    curves: list[np.ndarray] | None = None,
) -> None:
    """Every head as a small picture on one canvas: a row per entry (layer), a column per head.

    thumbnails  one (heads, rows ≤ 32, columns ≤ 32) float32 array in 0..1 per entry, as Capture.thumbnails() gives
                them; NaN counts as 0
    names       one per entry: "layer 0", "encoder layer 0", …
    chosen      (entry, head)
    combined    (entry, head) of the heads that are shown together with the chosen one; a thinner frame marks them
    colors      for each of `combined` its place in the palette, as lines_view numbers its heads; None: one colour
    scores      one (heads,) array per entry, NaN where there is none: said in words, and written under the pictures
                where they are sorted
    score_name  what the score measures, in words, such as "induction"
    order       (entry, head) of all heads, the best first: they follow each other, wrapped, instead of rows and columns
    shown       one (heads,) boolean array per entry: the others are pale, or left out where there is an `order`
    curves      one (heads, bins) array in 0..1 per entry: small curves instead of pictures, such as weight by distance
    on_choose(entry, head, add) is called with what was chosen; add: with Shift, Ctrl or Cmd
    """
    parts = [np.nan_to_num(np.asarray(part, dtype=np.float32)) for part in (thumbnails if curves is None else curves)]
    pictures = (_flat(parts, np.float32).clip(0, 1) * 255).round().astype(np.uint8)
    data = {
        "z": _column(pictures),
        "shapes": [[part.shape[0], *(part.shape[1:] if curves is None else (1, part.shape[1]))] for part in parts],
        "names": list(names),
        "entry": int(chosen[0]),
        "head": int(chosen[1]),
        "combined": _places(combined),
        "colors": None if colors is None else [int(place) for place in colors],
        "scoreName": score_name,
        "order": None if order is None else _places(order),
        "curves": curves is not None,
    }
    if scores is not None:
        data["scores"] = column_of_numbers(_flat(scores, np.float32), _NO_SCORE)
    if shown is not None:
        data["shown"] = _column(_flat(shown, np.bool_).astype(np.uint8))

    def choose() -> None:
        value = chosen_in(key)
        on_choose(int(value["entry"]), int(value["head"]), bool(value["add"]))

    _overview(data=data, key=key, on_choose_change=choose)


def head_view(
    weights: np.ndarray,
    query_tokens: list[str],
    key_tokens: list[str],
    row: int,
    uniform: float,
    title: str,
    key: str,
    on_choose: Callable[[int], None],
    exact: tuple[int, str, np.ndarray, list[str]] | None = None,
    *,
    also: Sequence[int] = (),
    scale: Scale | None = None,
    bars: bool = True,
    signed: bool = False,
    caption: str = "",
) -> None:
    """One head: the heat map of all its weights, and the chosen row as bars, heaviest first.

    weights       (query tokens, key tokens) float32 in 0..1, NaN where the query cannot look
    query_tokens  display strings of the rows ("from")
    key_tokens    display strings of the columns ("to")
    row           index of the chosen query
    uniform       1 / number of keys the chosen query can look at: the dashed line "no preference"; 0 leaves it out
    title         what is shown, such as "Layer 2, head 1"; "" leaves the line out
    on_choose(token) is called with the index of the query whose row or cell was chosen
    exact         where the bars show something else than the row of the picture (which may stand for several queries,
                  or be one of several that are chosen): index and token of the query, its weights (all keys,) float32
                  with NaN for gaps, and the display strings of all keys
    also          further chosen rows, marked lightly; the bars of all together come from `exact`
    scale         how weights become colours; cells under its cut are left blank and keep their value on hover
    bars          False: the map alone
    signed        weights are differences in −1..1, drawn in blue (less) and orange (more)
    caption       a short sentence under the legend
    """
    data = {
        "z": column_of_numbers(weights, _GAP_OF_DIFFERENCE if signed else _GAP),
        "queries": list(query_tokens),
        "keys": list(key_tokens),
        "row": int(row),
        "also": [int(other) for other in also],
        "uniform": float(uniform),
        "title": title,
        "caption": caption,
        "scale": scale,
        "side": bars,
        "signed": signed,
    }
    if exact is not None:
        data["bars"] = {"row": int(row)} | _bars(*exact)

    def choose() -> None:
        on_choose(int(chosen_in(key)["token"]))

    _head(data=data, key=key, on_choose_change=choose)


def lines_view(
    weights: list[np.ndarray],
    names: list[str],
    query_tokens: list[str],
    key_tokens: list[str],
    row: int,
    title: str,
    key: str,
    on_choose: Callable[[int], None],
    cut: float = 0.0,
    scale: Scale | None = None,
) -> None:
    """Heads as lines between two columns of tokens: who looks on the left, who is looked at on the right.

    weights       one (query tokens, key tokens) float32 array in 0..1 per head, NaN where the query cannot look; up to
                  8 heads have colours of their own
    names         one per head: "layer 2, head 1"
    query_tokens  display strings on the left
    key_tokens    display strings on the right
    row           index of the chosen query
    title         what is shown; "" leaves the line out
    on_choose(token) is called with the index of the query whose lines the reader keeps
    cut           weights below are not drawn, and a sentence says how many and how much they are together
    scale         how weights become strengths; its own cut is not read
    """
    data = {
        "z": column_of_numbers(np.stack(weights), _GAP),
        "names": list(names),
        "queries": list(query_tokens),
        "keys": list(key_tokens),
        "row": int(row),
        "title": title,
        "cut": float(cut),
        "scale": scale,
    }

    def choose() -> None:
        on_choose(int(chosen_in(key)["token"]))

    _lines(data=data, key=key, on_choose_change=choose)
