"""Save on "Step by step": all steps as one sheet to print, and the filled formulas as LaTeX."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import streamlit as st

from attention_core.figures.captions import caption_of, checked_in_words
from attention_core.figures.sheet import latex_of, sheet_html
from attention_core.figures.steps import Step
from attention_core.worksheet import Worksheet

from .messages import sentence
from .place import Place


def save_sheet_popover(
    place: Place, sheet: Worksheet, key: int, steps: Callable[[], list[Step]], waiting: bool
) -> None:
    """steps: all of them, for the sheet; asked when the section is opened. waiting: a guess is to be made first."""
    with st.popover("Save", key="save", on_change="rerun", width="content") as opened:
        if not opened.open:
            return
        if waiting:
            sentence("The sheet tells every answer: it can be saved when every guess is made.")
            return
        # the files are made later, where the session's state is not at hand
        every = [replace(step, question=None) for step in steps()]
        title = f"{place.name}: “{sheet.query_token}” ({place.token})"
        name = f"headlight-layer{place.layer.layer}-head{place.head}-token{place.token}"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.download_button(
                "Sheet as HTML",
                lambda: _sheet(place, sheet, key, every, title),
                f"{name}.html",
                "text/html",
                key="save-sheet",
                on_click="ignore",
            )
            sentence("every step on one page: open it and print it, on paper or as a PDF")
        with st.container(horizontal=True, vertical_alignment="center"):
            st.download_button(
                "Formulas as LaTeX",
                lambda: latex_of(every, title).encode(),
                f"{name}.tex",
                "application/x-tex",
                key="save-latex",
                on_click="ignore",
            )
            sentence("filled with this row’s numbers")


def _sheet(place: Place, sheet: Worksheet, key: int, steps: list[Step], title: str) -> bytes:
    caption = caption_of(place.capture, place.entry, place.head, [checked_in_words(place.capture)])
    row = np.where(sheet.visible.numpy(), sheet.weights.numpy(), np.nan)
    query = place.token if place.layer.kind != "cross" else None
    return sheet_html(steps, title, caption, sheet.key_tokens, row, query=query, key=key).encode()
