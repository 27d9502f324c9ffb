"""The bars of "Relevance": every method on one axis of tokens, the text shaded by the first, and the marked token."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import streamlit as st

from attention_core.attribution import METHODS, Explanation, word_groups
from attention_core.errors import HeadlightError
from attention_core.figures import relevance_words as words
from attention_core.figures.direct_figures import heads_looking_at
from attention_core.figures.relevance_tables import relevance_table
from attention_core.figures.words import percent
from attention_core.scorer import Aim

from . import frame, selection
from .coming import Coming
from .components import token_chips
from .drawn import opened
from .messages import notice, sentence, told
from .options import NOT_CHOSEN
from .relevance_place import RelevancePlace
from .relevance_view import MOST_ROWS, Column, relevance_view

HEADS_NAMED = 3  # that look at the marked token most


@dataclass(frozen=True)
class Answers:
    """What the chosen methods say, as far as they have been heard."""

    aim: Aim
    found: dict[str, Explanation]  # by method, in the order in which they were chosen
    shown: dict[str, Explanation]  # the same, of words where those are wanted
    groups: list[list[int]]  # the tokens of each unit that is shown
    missing: dict[str, str] = field(default_factory=dict)  # why there is none
    waiting: tuple[str, ...] = ()  # nothing was heard of them yet
    growing: tuple[str, ...] = ()  # something, but not all

    def unit_of(self, token: int) -> int:
        return next((n for n, group in enumerate(self.groups) if token in group), 0)


def asked_about(place: RelevancePlace) -> Aim:
    """What is asked about; of target and contrast what cannot be is told and left out, and the other one stays."""
    state, engine = st.session_state, frame.engine()
    wanted = {"target": state.target, "contrast": state.contrast}
    try:
        return frame.wait_for(engine.aim(place.about))
    except HeadlightError as problem:
        if not any(wanted.values()):
            raise
        notice(str(problem))
    for dropped in (["contrast"], ["target"]):
        state.update(wanted | dict.fromkeys(dropped, ""))
        try:
            return frame.wait_for(engine.aim(place.about))
        except HeadlightError:
            continue
    state.update(dict.fromkeys(wanted, ""))
    return frame.wait_for(engine.aim(place.about))


def heard(place: RelevancePlace, aim: Aim, coming: Coming) -> Answers:
    """Ask every chosen method."""
    found, missing, waiting, growing = {}, {}, [], []
    methods, engine = st.session_state.method, frame.engine()
    jobs = {name: coming.ask(engine.relevance(place.asked(name), place.capture)) for name in methods}
    for name, job in jobs.items():
        explanation, why = coming.now(job)
        if explanation is not None:
            found[name] = explanation
        elif why:
            missing[name] = why
        else:
            waiting.append(name)
        if explanation is not None and not coming.whole(job):
            growing.append(name)
    shown, groups = found, [[token] for token in range(len(aim.tokens))]
    if st.session_state.words:
        try:
            groups = word_groups(aim)
            shown = {name: explanation.by_words() for name, explanation in found.items()}
        except HeadlightError as problem:
            notice(str(problem))
    return Answers(aim, found, shown, groups, missing, tuple(waiting), tuple(growing))


# ── the text ────────────────────────────────────────────────────────────────────────────────────────────────────────


def shaded_text(place: RelevancePlace, answers: Answers) -> None:
    """The tokens, shaded by the first method; of two texts the one that is asked about below."""
    first = next(iter(answers.found.values()), None)
    tokens = place.capture.tokens or list(answers.aim.tokens)
    shades = np.full(len(tokens), np.nan, dtype=np.float32)
    said = [f"“{token}” ({n}): not read" for n, token in enumerate(tokens)]
    if first is not None:
        scores = first.scores.numpy()
        shades[: len(scores)] = scores / max(float(np.abs(scores).max()), 1e-30)
        lines = enumerate(words.words_of_tokens(first))
        title = METHODS[first.method].title
        said[: len(scores)] = [f"“{tokens[n]}” ({n}): {title} {line}" for n, line in lines]
    about = "The text that was read, shaded by how much each token mattered."
    if not place.reads_target:
        action = " Enter on one asks about what comes after it." if place.writes else " Enter on one asks about it."
        chosen = [] if answers.aim.kind == "similarity" else [place.token]
        token_chips(tokens, None, shades, chosen, "chips", _ask_at, words=said, about=about + action, signed=True)
        return
    token_chips(tokens, None, shades, [], "source", _nothing, "source", words=said, about=about, signed=True)
    token_chips(
        place.rows,
        None,
        None,
        [place.token],
        "chips",
        _ask_at,
        "target",
        about="What the decoder reads. Enter on a token asks about what comes after it.",
    )


def _ask_at(token: int, add: bool) -> None:
    selection.chose_place_of_target(token)


def _nothing(token: int, add: bool) -> None:
    pass


# ── the bars ────────────────────────────────────────────────────────────────────────────────────────────────────────


def bars(answers: Answers) -> None:
    first = next(iter(answers.shown.values()), None)
    columns = [_column(name, answers.shown.get(name)) for name in (*answers.shown, *answers.waiting)]
    if not columns:
        return
    texts = list(first.tokens) if first is not None else list(answers.aim.tokens)
    key = st.session_state.key
    if st.session_state.by == "size" and columns[0].values is not None:
        columns[0] = replace(columns[0], name=f"{columns[0].name} ▾")
    relevance_view(
        texts,
        columns,
        _order(columns, len(texts)),
        "relevance",
        lambda unit: selection.mark(answers.groups[unit][0]),
        chosen=None if first is None or not 0 <= key < len(answers.aim.tokens) else answers.unit_of(key),
        label=f"How much each of {len(texts)} {'words' if st.session_state.words else 'tokens'} mattered",
    )


def _order(columns: Sequence[Column], count: int) -> Sequence[int]:
    """By size of the first column; or by position, the most relevant ones alone where there are too many."""
    every = [np.abs(column.values) for column in columns if column.values is not None]
    if not every:
        return range(count)
    if st.session_state.by == "size":
        return np.argsort(-every[0], kind="stable").tolist()
    largest = np.max([values / max(float(values.max()), 1e-30) for values in every], axis=0)
    order = np.argsort(-largest, kind="stable")
    return [*sorted(order[:MOST_ROWS].tolist()), *order[MOST_ROWS:].tolist()]


def _column(name: str, explanation: Explanation | None) -> Column:
    method = METHODS[name]
    if explanation is None:
        return Column(method.title, None, method.asks)
    return Column(
        method.title,
        explanation.scores.numpy(),
        "not converged" if not explanation.converged else method.asks,
        "share" if name in words.SHARES else "number",
        None if explanation.spread is None else explanation.spread.numpy(),
        words.words_of_tokens(explanation),
        signed=method.signed,
    )


def target(answers: Answers) -> None:
    """What is asked."""
    asked = words.target_in_words(answers.aim)
    told(asked[0].rstrip("."), asked[1:])


def in_words(answers: Answers) -> None:
    """What each method answers, a line each, and why one has no answer."""
    lines = []
    for explanation in answers.shown.values():
        lines += filter(None, [words.method_in_words(explanation), words.how_sure(explanation)])
    for name, why in answers.missing.items():
        lines.append(why if METHODS[name].title in why else f"{METHODS[name].title}: {why}")
    if answers.shown is not answers.found:
        lines.append("Of words: the sums of their tokens’ numbers; the places count words.")
    sentence("\n".join(lines))
    if answers.shown:
        opened("All numbers", "bars_numbers", lambda: relevance_table(list(answers.shown.values())))


# ── the marked token ────────────────────────────────────────────────────────────────────────────────────────────────


def marked(place: RelevancePlace, answers: Answers) -> None:
    """What every method says of it, and the way to the heads that look at it."""
    key, tokens = st.session_state.key, answers.aim.tokens
    if key != NOT_CHOSEN and key >= len(tokens):
        notice(f"There is no token {key} here: they count from 0 to {len(tokens) - 1}. None is marked.")
        key = NOT_CHOSEN
    if key == NOT_CHOSEN:
        sentence("Choose a row to mark its token and to see which heads look at it.")
        return
    unit = answers.unit_of(key)
    numbers = [
        f"{METHODS[name].title} {words.amount(float(explanation.scores[unit]), name)}"
        for name, explanation in answers.shown.items()
    ]
    group = answers.groups[unit]
    named = "".join(tokens[token] for token in group)
    told(f"“{named}” ({key})", [", ".join(numbers) + "."])
    query = place.rows[place.token]
    with st.container(horizontal=True, key="heads_of_token"):
        if answers.aim.kind != "similarity":
            for layer, head, weight in heads_looking_at(place.capture, place.entries, place.token, group, HEADS_NAMED):
                label = f"Layer {layer}, head {head}: “{query}” looks {percent(weight)} at it"
                to_heads(place, label, layer=layer, head=head, token=place.token)
        if not place.reads_target:
            to_heads(place, f"What “{tokens[key]}” itself looks at", token=key)


def to_heads(place: RelevancePlace, label: str, **parts: object) -> None:
    """A link to a place on the page "Heads"."""
    kind = {"kind": place.kind} if len({layer.kind for layer in place.capture.layers}) > 1 else {}
    changes = selection.current() | {"heads": "", "tokens": "", "key": NOT_CHOSEN} | kind | parts
    st.page_link("pages/heads.py", label=label, query_params=selection.as_parameters(changes), width="content")
