"""The three browser components: tokens as chips, every head as a small picture, one head as a heat map.

Each function mounts its component and hands the reader's choice to `on_choose`, before the page runs again. The
drawing is in assets/components; nothing here knows about models, captures or the URL.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

_MOST_BARS = 12  # as in head.js
_ASSETS = Path(__file__).resolve().parents[2] / "assets" / "components"

_CHIPS = """
<div class="hl chips">
  <p class="note" hidden></p>
  <div class="row" role="listbox" aria-orientation="horizontal" aria-label="Tokens; the chosen one is the query"></div>
  <div class="tip" aria-hidden="true" hidden></div>
</div>
"""

_OVERVIEW = """
<div class="hl overview">
  <div class="stack">
    <canvas class="picture" tabindex="0" role="application" aria-roledescription="grid of heads"
            aria-label="Every attention head" aria-describedby="status"></canvas>
    <canvas class="mark" aria-hidden="true"></canvas>
  </div>
  <p class="status" id="status" role="status" aria-live="polite"></p>
</div>
"""

_HEAD = """
<div class="hl head">
  <p class="title"></p>
  <div class="both">
    <div class="heat">
      <div class="stack">
        <canvas class="picture" tabindex="0" role="application" aria-roledescription="heat map"
                aria-label="Heat map" aria-describedby="status"></canvas>
        <canvas class="mark" aria-hidden="true"></canvas>
        <div class="tip" aria-hidden="true" hidden></div>
      </div>
      <div class="legend"><span>weight</span><span>0</span><span class="scale"></span><span>1</span>
        <span class="cannot gaps"></span><span class="gaps">cannot look there</span></div>
      <p class="status" id="status" role="status" aria-live="polite"></p>
    </div>
    <div class="side">
      <p class="heading"></p>
      <div class="plot">
        <div class="nolean"><span></span></div>
        <ol class="bars"></ol>
        <div class="even" aria-hidden="true"></div>
      </div>
      <div class="ends" aria-hidden="true"><span></span><span></span></div>
      <p class="more" hidden></p>
    </div>
  </div>
</div>
"""


def _component(name: str, html: str):
    """Registers assets/components/<name>.js and .css behind the files they share."""

    def read(suffix: str) -> str:
        return "\n".join((_ASSETS / f"{part}{suffix}").read_text(encoding="utf-8") for part in ("common", name))

    return st.components.v2.component(f"headlight_{name}", html=html, css=read(".css"), js=read(".js"))


_chips = _component("chips", _CHIPS)
_overview = _component("overview", _OVERVIEW)
_head = _component("head", _HEAD)


def _column(values: np.ndarray) -> pd.DataFrame:
    """Any shape → one column "z", which travels as Arrow and arrives in the browser as a typed array."""
    return pd.DataFrame({"z": np.ascontiguousarray(values).reshape(-1)})


def _weights(values: np.ndarray) -> pd.DataFrame:
    """Weights with NaN for gaps → the same with −1: Arrow would make nulls of NaN."""
    values = np.asarray(values, dtype=np.float32)
    return _column(np.where(np.isnan(values), np.float32(-1), values))


def _bars(place: int, query: str, weights: np.ndarray, tokens: list[str]) -> dict:
    """The heaviest keys of one row, for a picture that is too coarse to read them off."""
    order = [int(k) for k in np.argsort(-weights, kind="stable") if not np.isnan(weights[k])]
    shown, rest = order[:_MOST_BARS], order[_MOST_BARS:]
    return {
        "place": place,
        "query": query,
        "shown": [{"place": k, "token": tokens[k], "weight": float(weights[k])} for k in shown],
        "more": len(rest),
        "rest": float(weights[rest].sum()) if rest else 0.0,
    }


def _chosen(key: str) -> dict:
    """What the reader chose in the component `key`; empty outside its callback."""
    return st.session_state[key].get("choose") or {}


def token_chips(
    tokens: list[str],
    ids: list[int] | None,
    weights: np.ndarray | None,
    chosen: int,
    key: str,
    on_choose: Callable[[int], None],
) -> None:
    """The text as a wrapping row of tokens, shaded by `weights`, with the token `chosen` marked as the query.

    tokens   display strings, shown exactly as given (spaces as ·)
    ids      the vocabulary's numbers, written small under the tokens; None leaves them out
    weights  (tokens,) float32 in 0..1, NaN where the query cannot look; None leaves the shades out
    chosen   index of the query
    on_choose(token) is called with the index of the token that was chosen

    Above 160 tokens only those around the chosen one are drawn, and a sentence says so.
    """
    data = {"tokens": list(tokens), "ids": None if ids is None else [int(i) for i in ids], "chosen": int(chosen)}
    if weights is not None:
        data["weights"] = _weights(weights)

    def choose() -> None:
        on_choose(int(_chosen(key)["token"]))

    _chips(data=data, key=key, on_choose_change=choose)


def overview(
    thumbnails: list[np.ndarray],
    names: list[str],
    chosen: tuple[int, int],
    key: str,
    on_choose: Callable[[int, int], None],
) -> None:
    """Every head as a small picture on one canvas: a row per entry (layer), a column per head.

    thumbnails  one (heads, rows ≤ 32, columns ≤ 32) float32 array in 0..1 per entry, as Capture.thumbnails() gives
                them; NaN counts as 0
    names       one per entry: "layer 0", "encoder layer 0", …
    chosen      (entry, head)
    on_choose(entry, head) is called with what was chosen
    """
    parts = [np.nan_to_num(np.asarray(part, dtype=np.float32)) for part in thumbnails]
    flat = np.concatenate([part.reshape(-1) for part in parts]) if parts else np.zeros(0, np.float32)
    data = {
        "z": _column(np.rint(flat.clip(0, 1) * 255).astype(np.uint8)),
        "shapes": [list(part.shape) for part in parts],
        "names": list(names),
        "entry": int(chosen[0]),
        "head": int(chosen[1]),
    }

    def choose() -> None:
        value = _chosen(key)
        on_choose(int(value["entry"]), int(value["head"]))

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
) -> None:
    """One head: the heat map of all its weights, and the chosen row as bars, heaviest first.

    weights       (query tokens, key tokens) float32 in 0..1, NaN where the query cannot look
    query_tokens  display strings of the rows ("from")
    key_tokens    display strings of the columns ("to")
    row           index of the chosen query
    uniform       1 / number of keys the chosen query can look at: the dashed line "no preference"
    title         what is shown, such as "Layer 2, head 1"; "" leaves the line out
    on_choose(token) is called with the index of the query whose row or cell was chosen
    exact         where a row of the picture stands for several queries, the one that the bars show: its index, its
                  token, its weights (all keys,) float32 with NaN for gaps, and the display strings of all keys
    """
    data = {
        "z": _weights(weights),
        "queries": list(query_tokens),
        "keys": list(key_tokens),
        "row": int(row),
        "uniform": float(uniform),
        "title": title,
    }
    if exact is not None:
        data["bars"] = {"row": int(row)} | _bars(*exact)

    def choose() -> None:
        on_choose(int(_chosen(key)["token"]))

    _head(data=data, key=key, on_choose_change=choose)
