"""The Save section: the view as a picture or a page of its own, the numbers as files, the whole run as a recording."""

from collections.abc import Callable
from dataclasses import replace

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
from .place import Place

PICTURES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
NUMBERS = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet", "npz": "application/octet-stream"}
CELLS_UP_TO = 256


def save_popover(place: Place, seen: Seen, title: str, scale: dict) -> None:
    with st.popover("Save", key="save", on_change="rerun", width="content") as opened:
        if not opened.open:
            return
        # the files are made later, where the session's state is not at hand
        capture, entry, head, view = place.capture, place.entry, place.head, st.session_state.view
        name = f"headlight-layer{place.layer.layer}-head{head}"
        st.markdown("**This view**")
        with st.container(horizontal=True):
            for form, mime in PICTURES.items():
                _download(
                    form.upper(),
                    lambda form=form: as_bytes(_picture(place, seen, title, scale, view), form),
                    f"{name}.{form}",
                    mime,
                )
            _download("Heatmap as CSV", lambda: _as_shown(seen), f"{name}.csv", "text/csv")
        st.markdown("**A page of its own**, for a browser without network or server")
        _download("HTML", lambda: _page(place), f"{name}.html", "text/html")
        for what, which in (("This head’s numbers", (entry, head)), ("All heads’ numbers", (None, None))):
            st.markdown(f"**{what}**")
            many = count_numbers(capture, *which)
            if many > MOST_NUMBERS:
                sentence(f"{many:,} numbers are too many for a file (at most {MOST_NUMBERS:,}): shorten the text.")
                continue
            with st.container(horizontal=True):
                for form, mime in NUMBERS.items():
                    file = f"{name}-numbers.{form}" if which[0] is not None else f"headlight-all-heads.{form}"
                    label = {"csv": "CSV", "parquet": "Parquet", "npz": "npz"}[form]
                    _download(label, lambda form=form, which=which: numbers(capture, form, *which), file, mime, what)
        st.markdown("**The whole run**, to be opened here again without the model")
        _download("Recording", capture.to_bytes, "headlight-recording.safetensors", "application/octet-stream")


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
    if not large:
        tokens = seen.query_tokens, seen.key_tokens
        return printed.heatmap(seen.all(), *tokens, title=title, caption=caption, row=row, scale=scale)
    pooled = seen.pooled(CELLS_UP_TO)
    queries = [seen.query_tokens[i * len(seen) // len(pooled)] for i in range(len(pooled))]
    keys = [seen.key_tokens[i * len(seen.key_groups) // pooled.shape[1]] for i in range(pooled.shape[1])]
    caption += " Each cell is the largest weight of several tokens."
    return printed.heatmap(
        pooled, queries, keys, title=title, caption=caption, row=row * len(pooled) // len(seen), scale=scale
    )


def _as_shown(seen: Seen) -> bytes:
    weights = seen.all()
    table = head_table(weights, ~np.isnan(weights), seen.query_tokens, seen.key_tokens)
    return table.to_csv(index=False).encode("utf-8-sig")


def _page(place: Place) -> bytes:
    return standalone_html(place.capture, entry=place.entry, head=place.head, token=place.token).encode("utf-8")
