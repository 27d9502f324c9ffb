"""A run as one HTML file that shows every head with no network and no server.

It embeds the very components of the app (assets/components) and the page around them (assets/standalone). A strict
Content-Security-Policy lets nothing in and nothing out; tokens travel as JSON and are only ever written as text.
"""

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from ..errors import HeadlightError
from ..export import count_numbers
from ..record import Capture
from .captions import caption_of, checked_in_words, entry_names
from .words import layer_name

MOST_NUMBERS = 8_000_000  # of all heads together; beyond, the chosen head alone is there in full
THUMBNAIL = 32
COMPONENTS = ("chips", "overview", "head", "lines")
_GAP = -1.0  # as in assets/components/common.js
_ASSETS = Path(__file__).resolve().parents[2] / "assets"


def standalone_html(capture: Capture, *, entry: int = 0, head: int = 0, token: int | None = None) -> str:
    """One HTML file with all heads, showing this entry of capture.layers, this head and this query token (None: the
    last) when it is opened.

    Above 8 million weights only the chosen head is there in full, the others as small pictures. Raises HeadlightError
    where even the chosen head has more.
    """
    queries = capture.query_tokens(entry)
    token = len(queries) - 1 if token is None else token
    heads = capture.layers[entry].heads
    if not (0 <= head < heads and 0 <= token < len(queries)):
        raise HeadlightError(
            f"There is no head {head} with a token {token}: choose heads up to {heads - 1}, tokens up to "
            f"{len(queries) - 1}."
        )
    whole = count_numbers(capture) <= MOST_NUMBERS
    if not whole and count_numbers(capture, entry, head) > MOST_NUMBERS:
        raise HeadlightError(
            f"This head has {count_numbers(capture, entry, head):,} weights, more than the {MOST_NUMBERS:,} that a "
            "page can hold: shorten the text, or save a picture or the numbers."
        )
    several = len({layer.kind for layer in capture.layers}) > 1
    title = f"{capture.name}: every attention head" if capture.name else "Every attention head"
    script = _script()
    policy = f"default-src 'none'; script-src '{_sha256(script)}'; style-src 'unsafe-inline'; img-src data:; "
    policy += "base-uri 'none'; form-action 'none'"
    return Template(_read("standalone/page.html")).substitute(
        policy=policy,
        title=html.escape(title),
        style=_read("standalone/page.css"),
        caption=html.escape(caption_of(capture, entry, None, most=2_000)),
        holds=html.escape(_holds_in_words(capture, entry, head, whole)),
        check=html.escape(checked_in_words(capture)),
        templates="\n".join(_template(name) for name in COMPONENTS),
        data=_json(_data(capture, entry, head, token, whole, several)),
        script=script,
    )


def _data(capture: Capture, entry: int, head: int, token: int, whole: bool, several: bool) -> dict[str, Any]:
    """What page.js reads."""
    tokens: list[list[str]] = []  # each list once, however many layers share it

    def number_of(labels: list[str]) -> int:
        if labels not in tokens:
            tokens.append(labels)
        return tokens.index(labels)

    thumbnails = [part.numpy() for part in capture.thumbnails(THUMBNAIL)]
    names, entries = entry_names(capture), []
    for i, layer in enumerate(capture.layers):
        held = range(layer.heads) if whole else range(head, head + 1) if i == entry else range(0)
        entries.append(
            {
                "name": names[i],
                "title": layer_name(layer, several),
                "queries": number_of(capture.query_tokens(i)),
                "keys": number_of(capture.key_tokens(i)),
                "first": held.start,
                "held": len(held),
                "weights": _base64(*(_weights(capture, i, h) for h in held)),
            }
        )
    small = [np.rint(part.clip(0, 1) * 255).astype(np.uint8) for part in thumbnails]
    shapes = [list(part.shape) for part in thumbnails]
    facts = {"entry": entry, "head": head, "token": token, "tokens": tokens, "entries": entries, "shapes": shapes}
    return facts | {"pictures": _base64(*small)}


def _weights(capture: Capture, entry: int, head: int) -> np.ndarray:
    """(q, k) float32, little-endian, with −1 where a query cannot look."""
    shown = np.where(capture.visible(entry, head).numpy(), capture.attention(entry, head).numpy(), np.float32(_GAP))
    return shown.astype("<f4")


def _base64(*arrays: np.ndarray) -> str:
    return base64.b64encode(b"".join(array.tobytes() for array in arrays)).decode("ascii")


def _json(data: Any) -> str:
    """JSON that cannot end or change the script element it stands in, whatever the tokens are."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _script() -> str:
    """The components as functions of an object, each in a scope of its own, and the page that runs them."""
    parts = []
    for name in COMPONENTS:
        source, found = re.subn(
            r"^export default function\b", "const component = function", _component(name, "js"), flags=re.MULTILINE
        )
        assert found == 1, f"{name}.js must export one function"
        parts.append(f"{name}: (() => {{\n{source}\nreturn component;\n}})(),")
    script = "\nconst components = {\n" + "\n".join(parts) + "\n};\n" + _read("standalone/page.js")
    assert "</script" not in script.lower(), "a script that names its own end would end there"
    return script


def _template(name: str) -> str:
    style, skeleton = _component(name, "css"), _read(f"components/{name}.html")
    return f'<template id="{name}-template"><style>\n{style}</style>\n{skeleton}</template>'


def _component(name: str, suffix: str) -> str:
    return "\n".join(_read(f"components/{part}.{suffix}") for part in ("common", name))


def _read(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _sha256(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _holds_in_words(capture: Capture, entry: int, head: int, whole: bool) -> str:
    if whole:
        return f"All {sum(layer.heads for layer in capture.layers):,} heads are in this file with their exact weights."
    return (
        f"This file holds {entry_names(capture)[entry]}, head {head}, with its exact weights, and the others as small "
        f"pictures: together they are {count_numbers(capture):,} numbers, more than a page can hold."
    )
