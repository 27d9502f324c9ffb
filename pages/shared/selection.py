"""The one linked selection: model, text, layer, head and token. Its home is the URL.

app.py calls read_url() before any widget is made: what the URL says is checked and put into the session state, a bad
value becomes a sentence and the default. Widgets and components write back through write_url(), which makes an entry in
the browser's history, so that Back undoes every change and a link reopens what its sender saw.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from urllib.parse import quote, urlencode

import streamlit as st

from attention_core.models import CATALOGUE

from .examples import Example, examples, first_look

LONGEST_TEXT_IN_URL = 4000  # encoded bytes; longer ones do not pass every proxy
NUMBERS = ("layer", "head", "token")
NOT_CHOSEN = -(10**9)  # a number that the URL leaves open


@dataclass(frozen=True)
class Selection:
    model: str
    text: str
    layer: int
    head: int
    token: int


class TextStore:
    """Texts that are too long for a URL, by the first 16 hex digits of their SHA-256; the oldest go first."""

    def __init__(self, limit: int = 32 << 20):
        self.limit, self._texts, self._lock = limit, OrderedDict[str, str](), Lock()

    def put(self, text: str) -> str:
        name = text_id(text)
        with self._lock:
            self._texts[name] = text
            self._texts.move_to_end(name)
            while len(self._texts) > 1 and sum(map(len, self._texts.values())) > self.limit:
                self._texts.popitem(last=False)
        return name

    def get(self, name: str) -> str | None:
        return self._texts.get(name)


def text_id(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@st.cache_resource
def texts() -> TextStore:
    return TextStore()


def read_url() -> list[str]:
    """Put what the URL says into the session state; → a sentence for every value that could not be used."""
    state, url, notices = st.session_state, st.query_params, []
    state.wanted_text = None
    opening = examples()[0]

    model = url.get("model", opening.model)
    if model not in CATALOGUE:
        shown = CATALOGUE[opening.model].title
        notices.append(f"There is no model “{model[:60]}”. Choose one from the list; {shown} is shown.")
        model = opening.model
    text = url.get("text")
    if text is None and "textid" in url:
        text = texts().get(url["textid"])
        if text is None:
            state.wanted_text = url["textid"]
    look = first_look(model)
    if text is None:
        text = look.text if look else opening.text
    state.model, state.text = model, text
    at_example = look is not None and text == look.text
    for name in NUMBERS:
        fallback = getattr(look, name) if look is not None and (name != "token" or at_example) else NOT_CHOSEN
        given = url.get(name) or None
        if given is not None and not (given.isascii() and given.isdigit() and len(given) < 10):
            notices.append(f"“{given[:40]}” is not a {name}: the numbers count from 0. Choose one below.")
            given = None
        state[name] = int(given) if given is not None else fallback
    state.ids = url.get("ids") == "1"
    if state.pop("stopped", False):
        notices.append("Stopped: the earlier text is shown.")
    return notices


def fit(name: str, count: int, default: int) -> str | None:
    """Bring a number of the selection into 0 … count − 1; → a sentence if it was outside."""
    value = st.session_state[name]
    if value == NOT_CHOSEN:
        st.session_state[name] = default
        return None
    if value < count:
        return None
    st.session_state[name] = count - 1
    return f"There is no {name} {value} here: they count from 0 to {count - 1}. Number {count - 1} is shown."


def current() -> Selection:
    state = st.session_state
    return Selection(state.model, state.text, state.layer, state.head, state.token)


def write_url(**changes: object) -> None:
    """Change parts of the selection; None drops a part, so that its default holds. For callbacks."""
    parts: dict[str, object] = {"model": st.session_state.model, "text": st.session_state.text}
    parts |= {name: st.session_state[name] for name in NUMBERS}
    parts |= {"ids": 1 if st.session_state.ids else None} | changes
    st.query_params.from_dict(as_parameters(parts))


def as_parameters(parts: dict[str, object]) -> dict[str, str]:
    """What stands in the URL; a long text is kept here and stands there by its id."""
    text = parts.get("text")
    if isinstance(text, str) and len(quote(text, safe="").encode()) > LONGEST_TEXT_IN_URL:
        parts = {("textid" if k == "text" else k): (texts().put(text) if k == "text" else v) for k, v in parts.items()}
    return {name: str(value) for name, value in parts.items() if value is not None and value != NOT_CHOSEN}


def keep_view() -> None:
    """Remember this view as the last good one."""
    st.session_state.last_view = current()


def last_view() -> Selection:
    """What is shown where something else cannot be: the last view that was good, or the first example."""
    opening = examples()[0]
    first = Selection(opening.model, opening.text, opening.layer, opening.head, opening.token)
    return st.session_state.get("last_view", first)


def link(address: str) -> str:
    """The address that reopens this view."""
    return f"{address}?{urlencode(as_parameters(dict(vars(current()))), quote_via=quote)}"


def at_example() -> Example | None:
    """The example whose very view is open, if it is one."""
    here = vars(current())
    return next((e for e in examples() if all(getattr(e, part) == here[part] for part in here)), None)


# ── callbacks of widgets and components ─────────────────────────────────────────────────────────────────────────────


def text_changed() -> None:
    write_url(token=None)


def model_changed() -> None:
    write_url(layer=None, head=None, token=None)


def number_changed() -> None:
    write_url()


def stop() -> None:
    """Leave a text that takes too long: back to the last good view."""
    st.session_state.stopped = True
    write_url(**vars(last_view()))


def chose_example(number: int) -> None:
    example = examples()[number]
    write_url(**{name: getattr(example, name) for name in ("model", "text", *NUMBERS)})


def chose_head(entry: int, head: int) -> None:
    write_url(layer=entry, head=head)


def chose_token(token: int) -> None:
    write_url(token=token)
