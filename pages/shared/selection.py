"""The one linked selection: model, text, layer, head, token, and how they are shown. Its home is the URL.

app.py calls read_url() before any widget is made: what the URL says is checked and put into the session state, a bad
value becomes a sentence and the default. Widgets and components change it through write_url(); the next read_url()
makes an entry in the browser's history of it, so that Back undoes every change and a link reopens what its sender saw.
"""

import re
from typing import Any
from urllib.parse import quote, urlencode

import streamlit as st

from attention_core.jobs import RECORDING, Request
from attention_core.models import CATALOGUE

from .allowed import any_model_allowed
from .examples import Example, examples, first_look, lab_example
from .options import NOT_CHOSEN, OPTIONS, forced_in, numbers_in
from .texts import texts

LONGEST_TEXT_IN_URL = 4000  # encoded bytes; longer ones do not pass every proxy
NUMBERS = ("layer", "head", "token")
CALLED = {  # in a sentence, where the name itself says too little
    "at": "step",
    "moved": "place",
    "path": "steps of integrated gradients",
    "samples": "samples of Shapley values",
    "method": "methods",
    "order": "part of the page",
    "road": "lower part",
    "cross": "head of the Transformer",
    "turned": "position",
    "small_layer": "layer",
    "small_head": "head",
    "small_row": "row",
    "words_order": "order of the words",
}
OF_TEXT = (
    "token",
    "tokens",
    "between",
    "key",
    "moved",
    "at",
    "until",
    "forced",
    "run",
    "row",
    "tokens_at",
)  # places in a text
OF_MODEL = ("layer", "head", "kind", "heads", "drop", "target", "contrast", *OF_TEXT)


def read_url() -> list[str]:
    """Put what the URL says into the session state; → a sentence for every value that could not be used."""
    state, notices = st.session_state, []
    changed = state.get("changed_url")
    url = st.query_params if changed is None else changed
    state.wanted_text = None
    opening = examples()[0]

    model = url.get("model", opening.model)
    problem = _cannot_open(model)
    if problem:
        notices.append(f"{problem} {CATALOGUE[opening.model].title} is shown.")
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
    for name, option in OPTIONS.items():
        given = url.get(name)
        value = option.default if given is None else option.read(given)
        if value is None:
            notices.append(
                f"“{given[:40]}” cannot be used for “{CALLED.get(name, name)}”: {option.in_words} is needed."
            )
            value = option.default
        state[name] = value
    problem = _cannot_open(state.vs_model) if state.vs_model else None
    if problem:  # the second model is opened like the first one
        notices.append(f"{problem} it stands beside nothing.")
        state.vs_model = state.against = ""
    if state.pop("stopped", False):
        notices.append("Stopped: the earlier text is shown.")
    if changed is not None:
        st.query_params.from_dict(changed)  # this run may end here, for a newer one, which then reads the same changes
        state.changed_url = None
    return notices


def _cannot_open(model: str) -> str | None:
    if model in CATALOGUE or model.startswith(RECORDING) or any_model_allowed():
        return None
    return f"There is no model “{model[:60]}” in the list, and this server opens no others. Choose one from the list:"


def fit(name: str, count: int, default: int) -> str | None:
    """Bring a number of the selection into 0 … count − 1; → a sentence if it was outside."""
    value = st.session_state[name]
    if value == NOT_CHOSEN:
        st.session_state[name] = default
        if name not in NUMBERS:  # it goes on following what it is the default of
            st.session_state.left_open = st.session_state.get("left_open", {}) | {name: default}
        return None
    if value < count:
        return None
    st.session_state[name] = count - 1
    what, last = CALLED.get(name, name), count - 1
    return f"There is no {what} {value} here: they count from 0 to {last}. Number {last} is shown."


def fit_kind(kinds: list[str]) -> str | None:
    """Bring the kind of attention to one that the model has; → a sentence if it has no such."""
    wanted = st.session_state.kind
    if not wanted or wanted in kinds:
        return None
    st.session_state.kind = ""
    return f"This model has no {wanted} attention: {kinds[0]} attention is shown."


def request() -> Request:
    """What the selection asks the engine for."""
    state = st.session_state
    if state.model.startswith(RECORDING):
        return Request(state.model, "")
    return Request(state.model, state.text, state.dtype, state.target_text, state.second)


def current() -> dict[str, Any]:
    """Every part of the selection, as it stands in the session."""
    return {name: st.session_state[name] for name in ("model", "text", *NUMBERS, *OPTIONS)}


def write_url(**changes: Any) -> None:
    """Change parts of the selection; None drops a part, so that its default holds. For callbacks, which must send the
    browser nothing: Streamlit may meet a newer press there, and would take it for older than what came meanwhile."""
    state = st.session_state
    for name, value in changes.items():
        if value is None:
            value = OPTIONS[name].default if name in OPTIONS else NOT_CHOSEN
        state[name] = value  # for the next callback, if no run comes between
    state.changed_url = as_parameters(current())


def as_parameters(parts: dict[str, Any]) -> dict[str, str]:
    """What stands in the URL: what is not at its default; a long text is kept here and stands there by its id."""
    found: dict[str, str] = {}
    left_open = st.session_state.get("left_open", {})
    for name, value in parts.items():
        if value is None or value == NOT_CHOSEN or (name in OPTIONS and value == OPTIONS[name].default):
            continue
        if name in left_open and value == left_open[name]:
            continue
        if name == "text" and str(parts.get("model")).startswith(RECORDING):
            continue
        if name == "text" and len(quote(value, safe="", errors="replace").encode()) > LONGEST_TEXT_IN_URL:
            found["textid"] = texts().put(value)
        else:
            found[name] = OPTIONS[name].write(value) if name in OPTIONS else str(value)
    return found


def keep_view() -> None:
    """Remember this view as the last good one."""
    st.session_state.last_view = current()


def last_view() -> dict[str, Any]:
    """What is shown where something else cannot be: the last view that was good, or the first example."""
    return st.session_state.get("last_view") or of_example(examples()[0])


def restore(view: dict[str, Any]) -> None:
    """Show a view's places again, without touching what was typed."""
    for name, value in view.items():
        if name not in ("model", "text", "target_text", "second", "dtype", "word"):
            st.session_state[name] = value


def request_of(view: dict[str, Any]) -> Request:
    if view["model"].startswith(RECORDING):
        return Request(view["model"], "")
    return Request(view["model"], view["text"], view["dtype"], view["target_text"], view["second"])


def link(address: str) -> str:
    """The address that reopens this view."""
    return f"{address}?{urlencode(as_parameters(current()), quote_via=quote)}"


def of_example(example: Example) -> dict[str, Any]:
    """An example's whole view: everything that it does not name is at its default."""
    places = {name: getattr(example, name) for name in ("model", "text", *NUMBERS)}
    return places | {name: option.default for name, option in OPTIONS.items()}


def at_example() -> Example | None:
    """The example whose very view is open, if it is one."""
    here = current()
    return next((e for e in examples() if all(here[n] == getattr(e, n) for n in ("model", "text", *NUMBERS))), None)


# ── callbacks of widgets and components ─────────────────────────────────────────────────────────────────────────────


def changed() -> None:
    write_url()


def token_changed() -> None:
    """Another query token: what is told of it begins with its own strongest key."""
    write_url(key=None, moved=None)


def text_changed() -> None:
    write_url(**dict.fromkeys(OF_TEXT), **picked())


def picked() -> dict[str, None]:
    """Target and contrast where they were picked from what may come next at a place: elsewhere they mean little."""
    return {name: None for name in ("target", "contrast") if st.session_state[name].startswith("#")}


def model_changed() -> None:
    write_url(**dict.fromkeys(OF_MODEL))


def writing_changed() -> None:
    """Something else is written: nothing that was chosen in what stood there before still means anything."""
    write_url(at=None, until=None, forced=None)


def tokens_asked_changed() -> None:
    """More or fewer tokens, or all of them behind a stop: those that are there stay as they are."""
    write_url(at=None, until=None)


def kind_changed() -> None:
    write_url(layer=0, head=0, token=None, heads=None, tokens=None, key=None, moved=None)


def stop() -> None:
    """Leave a text that takes too long: back to the last good view."""
    st.session_state.stopped = True
    write_url(**last_view())


def chose_example(number: int) -> None:
    write_url(**of_example(examples()[number]))


def open_model(model: str) -> None:
    write_url(**dict.fromkeys(OF_MODEL) | {"model": model})


def chose_head(layer: int, head: int, add: bool = False) -> None:
    """layer: the place among the layers of the chosen kind. add: combine it with the chosen one, or no longer."""
    if not add:
        write_url(layer=layer, head=head)
        return
    named = f"{layer}.{head}"
    before = [part.strip() for part in st.session_state.heads.split(",") if part.strip()]
    after = [part for part in before if part != named] if named in before else [*before, named]
    write_url(heads=", ".join(after))


def chose_key(key: int) -> None:
    write_url(key=key)


def chose_step(step: int) -> None:
    write_url(step=step)


def chose_at(at: int) -> None:
    """Another step of the run."""
    write_url(at=at)


def chose_candidate(step: int, token: int | None) -> None:
    """The run goes on from another token at this step, None: from the model's own; what was set behind it is void."""
    kept = [(s, t) for s, t in forced_in(st.session_state.forced) if s < step]
    kept += [] if token is None else [(step, token)]
    write_url(forced=", ".join(f"{s}:{t}" for s, t in kept), at=step, until=None)


def chose_row(place: int) -> None:
    """Mark a row, or the marked one no longer."""
    write_url(row=None if st.session_state.row == place else place)


def chose_place_of_target(token: int) -> None:
    """Another row to ask at: another token is expected there."""
    write_url(token=token, tokens=None, key=None, moved=None, **picked())


def chose_target(name: str) -> None:
    """Another target or contrast. Where the choices have just become others, a browser may send what it still shows of
    an old one, its text with its chance: that was nobody's choice."""
    if re.search(r"   [\d.]+%(, the model’s own)?$", st.session_state[name]):
        st.session_state[name] = st.query_params.get(name, "")
    write_url()


def mark(token: int) -> None:
    """Mark a token, or the marked one no longer."""
    write_url(key=None if st.session_state.key == token else token)


def chose_policy(policy: str, window: int) -> None:
    """In the lab: the same number of rows, other ones."""
    write_url(policy=policy, window=window, first=None)


def drop_row(place: int) -> None:
    """In the lab: this row alone."""
    write_url(policy="row", row=place)


def chose_lab_example() -> None:
    write_url(**dict.fromkeys(OF_MODEL) | {k: v for k, v in lab_example().items() if k != "title"})


def opened_run(name: str | None) -> None:
    """Show a run from a file, or no longer."""
    write_url(run=name, at=None, until=None, forced=None, row=None, layer=None, head=None)


def sentence_changed() -> None:
    """Other words: the order of the old ones means nothing."""
    write_url(words_order=None, small_row=None)


def chose_order(order: list[int]) -> None:
    """The words of a sentence in another order."""
    write_url(words_order=", ".join(map(str, order)))


def word_changed() -> None:
    """Another word: its sounds and letters are others."""
    write_url(sound=None, letter=None)


def chose_word(word: str) -> None:
    write_url(word=word, sound=None, letter=None)


def chose_cell(station: str, sound: int | None, letter: int | None) -> None:
    """A weight of a station of the road; None: the station alone."""
    write_url(station=station, sound=sound, letter=letter)


def chose_cross(head: str) -> None:
    """Another head of the road's Transformer, which is looked at, too."""
    write_url(station="transformer", cross=head, sound=None, letter=None)


def chose_token(token: int, add: bool = False) -> None:
    """add: look from it together with the chosen one, or no longer."""
    if not add:
        write_url(token=token, tokens=None, key=None, moved=None)
        return
    before = numbers_in(st.session_state.tokens)
    after = [t for t in before if t != token] if token in before else [*before, token]
    write_url(tokens=", ".join(map(str, after)))
