"""The Save section: the view as a picture or a page of its own, the numbers as files, the whole run as a recording."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import streamlit as st

from attention_core.export import MOST_NUMBERS, count_numbers, head_table, numbers
from attention_core.figures import printed
from attention_core.figures.captions import caption_of
from attention_core.figures.paper import as_bytes
from attention_core.figures.standalone import standalone_html
from attention_core.heads import by_distance
from attention_core.views import Seen

from .messages import sentence
from .place import CELLS_UP_TO, Place

PICTURES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
NUMBERS = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet", "npz": "application/octet-stream"}


def save_popover(place: Place, seen: Seen, title: str, scale: dict) -> None:
    with st.popover("Save", key="save", on_change="rerun", width="content") as opened:
        if not opened.open:
            return
        # the files are made later, where the session's state is not at hand
        capture, entry, head, view = place.capture, place.entry, place.head, st.session_state.view
        name = f"headlight-layer{place.layer.layer}-head{head}"
        with _line("This view"):
            for form, mime in PICTURES.items():
                picture = partial(_picture, place, seen, title, scale, view)
                _download(form.upper(), lambda form=form, make=picture: as_bytes(make(), form), f"{name}.{form}", mime)
            _download("Heatmap as CSV", lambda: _as_shown(seen), f"{name}.csv", "text/csv")
        with _line("A page without server"):
            _download("HTML", lambda: _page(place), f"{name}.html", "text/html")
        for what, which in (("This head’s numbers", (entry, head)), ("All heads’ numbers", (None, None))):
            with _line(what):
                many = count_numbers(capture, *which)
                if many > MOST_NUMBERS:
                    sentence(f"{many:,} are too many for a file (at most {MOST_NUMBERS:,}): shorten the text.")
                    continue
                for form, mime in NUMBERS.items():
                    file = f"{name}-numbers.{form}" if which[0] is not None else f"headlight-all-heads.{form}"
                    label = {"csv": "CSV", "parquet": "Parquet", "npz": "npz"}[form]
                    _download(label, lambda form=form, which=which: numbers(capture, form, *which), file, mime, what)
        with _line("The whole run"):
            _download("Recording", capture.to_bytes, "headlight-recording.safetensors", "application/octet-stream")
            sentence("opens here again without the model")


@contextmanager
def _line(name: str) -> Iterator[None]:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{name}**", width=200)
        yield


def _download(label: str, data: Callable[[], bytes], file: str, mime: str, group: str = "") -> None:
    st.download_button(label, data, file, mime, key=f"save-{group}-{label}", on_click="ignore")


def _picture(place: Place, seen: Seen, title: str, scale: dict, view: str):
    """The view as matplotlib draws it."""
    caption = caption_of(place.capture, place.entry, place.head, seen.notes)
    row = seen.place_of(place.token)
    large = max(len(seen), len(seen.key_groups)) > CELLS_UP_TO
    if view == "distance" and place.layer.kind != "cross":
        return printed.curve(*by_distance(seen.all()), title=title, caption=caption)
    if view == "lines" and not large:
        each = [Seen(place.capture, replace(seen.view, heads=(one,))) for one in place.heads]
        names = [place.head_name(*one) for one in place.heads]
        tokens = seen.query_tokens, seen.key_tokens
        return printed.lines(
            [one.all() for one in each], names, *tokens, title=title, caption=caption, row=row, cut=scale["cut"]
        )
    weights, queries, keys = seen.shown(CELLS_UP_TO)
    if large:
        caption += " Each cell is the largest weight of several tokens."
    at = row * len(weights) // len(seen)
    return printed.heatmap(weights, queries, keys, title=title, caption=caption, row=at, scale=scale)


def _as_shown(seen: Seen) -> bytes:
    weights = seen.all()
    table = head_table(weights, ~np.isnan(weights), seen.query_tokens, seen.key_tokens)
    return table.to_csv(index=False).encode("utf-8-sig")


def _page(place: Place) -> bytes:
    return standalone_html(place.capture, entry=place.entry, head=place.head, token=place.token).encode("utf-8")
