"""The browser components of the tab "Growth": the player of decode steps, the rows of one head, the rows of all layers.

The drawing is in assets/components/player.js, growth.js and stack.js; nothing here knows about models, runs or the URL.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import streamlit as st

from .components import chosen_in, column_of_numbers, register

_GAP, _NO_WEIGHT = float(np.float32(-1.2345e38)), -1.0  # as in blocks.js and common.js
LINES, COLUMNS = 32, 32  # of a small picture: one side of it, K or V
MOST_LINES, OWN_LINES = 120, 8  # as in rows.js: of more rows, several share a line
ALMOST_ALL = 0.97  # of what is shown is below a full colour: one column far off must not make all others pale

_player = register("player", "stepping")
_growth = register("growth", "blocks", "rows")
_stack = register("stack")


def player(
    count: int,
    at: int,
    key: str,
    on_choose: Callable[[int], None],
    playing_hint: str = "",
    names: Sequence[str] = (),
    writing: bool = False,
) -> None:
    """Back, Play, Next and a slider through the steps 0 … count − 1; the page's arrow keys move, too.

    at            the step that is shown
    playing_hint  said beside the step while it plays or waits, such as "the model is still writing"
    names         one short text a step, said with its number: "read “king”, chose “and”"
    writing       more steps are still coming: Play waits for them at the end
    on_choose(step) is called with the step that was moved to

    Play goes on once this component has the page's answer, and dragging asks for one step at a time. So call it last
    (into a container further up): what is drawn before has arrived by then, and is not cut off by the next step.
    """
    answered = f"{key}-answered"  # which press this run answers: there may have been another since

    def choose() -> None:
        place = st.session_state[key].get("place")
        if place:
            st.session_state[answered] = int(place["sent"])
            on_choose(int(place["step"]))

    data = {
        "count": int(count),
        "at": int(at),
        "names": list(names),
        "hint": playing_hint,
        "writing": bool(writing),
        "answered": st.session_state.get(answered, 0),
    }
    _player(data=data, key=key, on_place_change=choose)


def full_color(rows: np.ndarray) -> float:
    """(…, rows, d) → the number that a full colour stands for: nearly all that is shown of them is nearer to 0.

    Where rows share a line, what is shown are the numbers furthest from 0.
    """
    sizes = np.abs(np.asarray(rows, dtype=np.float32))
    rows_in_all = sizes.shape[-2]
    shared = 1 if rows_in_all <= MOST_LINES else -(-rows_in_all // (MOST_LINES - OWN_LINES))
    sizes = sizes[np.isfinite(sizes)]
    return float(np.quantile(sizes, ALMOST_ALL ** (1 / shared))) or 1.0 if sizes.size else 1.0


def growth_view(
    tokens: Sequence[str],
    places: Sequence[int],
    keys: np.ndarray,
    values: np.ndarray | None,
    weights: np.ndarray | None,
    new: range,
    key: str,
    on_choose: Callable[[int], None],
    *,
    scale_key: float,
    scale_value: float = 1.0,
    key_title: str = "K",
    value_title: str = "V",
    weight_title: str = "weight",
    query: np.ndarray | None = None,
    query_label: str = "",
    scale_query: float | None = None,
    chosen: int | None = None,
    forgotten: int = 0,
    pending: str = "",
    most: int = 0,
    label: str = "",
) -> None:
    """The rows of one layer and one key-value head after one decode step: a line a token, K, V and the weight it gets.

    tokens, places  display strings and places of the rows, in order
    keys, values    (rows, d) and (rows, d_v) float32; values None where the cache keeps none
    weights         (rows,) float32: what the last query gives each row; NaN where it cannot look; None leaves them out
    new             the places whose rows this step computed
    scale_key, scale_value, scale_query
                    what a full colour stands for; the same at every step of a run, so that colours stay as they are
                    (full_color() finds one; None: the query's own largest)
    query           (d,) float32, drawn over K, with query_label: "query of “·old” (15), head 5"
    chosen          the place of the row that is marked
    forgotten       how many rows a window has dropped by now
    pending         the token that was chosen last and has no row yet; "": none
    most            the rows at the end of the run: heights are made for them, so that nothing moves while they come
    label           what the whole picture is, for those who cannot see it
    on_choose(place) is called with the place of the row that was chosen, or that was and is chosen no longer
    """
    data = {
        "tokens": list(tokens),
        "places": [int(place) for place in places],
        "k": column_of_numbers(keys, _GAP),
        "full": [float(scale_key), float(scale_value), None if scale_query is None else float(scale_query)],
        "titles": [key_title, value_title, weight_title],
        "queryLabel": query_label,
        "new": [int(new.start), int(new.stop)],
        "chosen": None if chosen is None else int(chosen),
        "forgotten": int(forgotten),
        "pending": pending,
        "most": max(int(most), len(places)),
        "label": label,
    }
    optional = {"v": (values, _GAP), "q": (query, _GAP), "w": (weights, _NO_WEIGHT)}
    data |= {name: column_of_numbers(rows, gap) for name, (rows, gap) in optional.items() if rows is not None}

    def choose() -> None:
        on_choose(int(chosen_in(key)["place"]))

    _growth(data=data, key=key, on_choose_change=choose)


def pooled(rows: np.ndarray, lines: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(heads, rows, d) → (heads, lines, columns): of all numbers that share a cell, the one furthest from 0.

    lines, columns  where each begins: increasing indices, the first one 0
    """
    high = np.maximum.reduceat(np.maximum.reduceat(rows, lines, axis=1), columns, axis=2)
    low = np.minimum.reduceat(np.minimum.reduceat(rows, lines, axis=1), columns, axis=2)
    return np.where(high >= -low, high, low)


def small_picture(rows: np.ndarray, most: int, full: float) -> np.ndarray:
    """(heads, rows, d) → (heads, ≤ 32, ≤ 32) uint8, 0 for −full, 255 for +full.

    most  rows at the end of the run: as many rows share a line as they need then, so that a line that is there stays
    """
    each = -(-max(most, rows.shape[1]) // LINES)
    wide = min(rows.shape[2], COLUMNS)
    columns = np.arange(wide) * rows.shape[2] // wide
    picture = pooled(np.nan_to_num(rows), np.arange(0, rows.shape[1], each), columns)
    return np.round((np.clip(picture / full, -1, 1) + 1) / 2 * 255).astype(np.uint8)


def stack_view(
    keys: Sequence[np.ndarray | None],
    values: Sequence[np.ndarray | None],
    chosen: tuple[int, int],
    key: str,
    on_choose: Callable[[int, int], None],
    *,
    scales: Sequence[tuple[float, float] | None],
    new: int,
    most: int = 0,
    names: Sequence[str] = (),
    notes: Sequence[str] = (),
    label: str = "",
) -> None:
    """All layers at once: a small picture, K beside V, of the rows of every layer and key-value head after one step.

    keys, values  one (key-value heads, rows, d) float32 array a layer; None: it keeps no rows, or no values
    chosen        (layer, key-value head)
    scales        for each layer what a full colour stands for in K and in V, the same at every step of a run
    new           how many rows at the end this step computed
    most          the rows at the end of the run, so that pictures fill up; 0: they are full now
    names         one a layer; "layer 0" … where there are none
    notes         one a layer, shown where it keeps no rows: "keeps a state of fixed size and no rows"
    on_choose(layer, head) is called with what was chosen
    """
    layers, pictures = [], []
    for layer, (key_rows, value_rows) in enumerate(zip(keys, values, strict=True)):
        name = names[layer] if names else f"layer {layer}"
        note = notes[layer] if notes else "keeps no rows"
        if key_rows is None or key_rows.shape[1] == 0:
            layers.append({"name": name, "heads": 0, "rows": 0, "sides": [], "note": note})
            continue
        sides = []
        for rows, full in zip((key_rows, value_rows), scales[layer] or (1.0, 1.0), strict=True):
            if rows is not None:
                pictures.append(small_picture(np.asarray(rows, dtype=np.float32), most, full))
                sides.append(list(pictures[-1].shape[1:]))
        heads, rows = key_rows.shape[:2]
        layers.append({"name": name, "heads": int(heads), "rows": int(rows), "sides": sides, "note": ""})
    parts = [picture.reshape(-1) for picture in pictures] or [np.zeros(0, np.uint8)]
    data = {
        "z": pd.DataFrame({"z": np.concatenate(parts)}),
        "layers": layers,
        "most": max(int(most), *(layer["rows"] for layer in layers), 1),
        "new": int(new),
        "layer": int(chosen[0]),
        "head": int(chosen[1]),
        "label": label,
    }

    def choose() -> None:
        value = chosen_in(key)
        on_choose(int(value["layer"]), int(value["head"]))

    _stack(data=data, key=key, on_choose_change=choose)
