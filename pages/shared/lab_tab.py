"""The tab "Lab": the same run on a cache that keeps less, beside the one that keeps everything; and rows in pages."""

from dataclasses import replace

import numpy as np
import streamlit as st

from attention_core.errors import HeadlightError
from attention_core.figures.lab_figures import divergence_bars, lab_in_words, lab_table, stays
from attention_core.figures.run_words import row_tokens
from attention_core.figures.words import percent
from attention_core.jobs import Writing
from attention_core.keeping import Policy
from attention_core.lab import LabRun
from attention_core.run import Run

from . import frame, selection
from .components import token_chips
from .drawn import colours, opened, plot
from .messages import notice, sentence, told
from .options import LONGEST, POLICIES, ROUNDED_TO
from .pages_of_rows import pages_part
from .run_place import RunPlace
from .writing import Written

NEEDED = {"window": ("window",), "sinks": ("window", "first"), "least": ("window",), "row": ("row",)}
FIRST = 4  # rows at the beginning that are enough to rest on
LABELS = {"window": "Newest rows", "first": "First rows", "row": "Row to drop"}


def lab_tab(place: RunPlace, written: Written) -> None:
    if written.growing:
        sentence("The lab opens when the run is written.")
        return
    policy_controls(place.run)
    if written.asked is not None:
        trial = tried(written.asked, place.run)
        with st.container(key="trial"):
            if trial is not None:
                show_trial(place.run, trial)
    else:
        sentence("A run from a file is without its model, so nothing can be written again on a smaller cache.")
    with st.container(key="pages"):
        paged(place, written.asked)


def policy_controls(run: Run) -> None:
    state = st.session_state
    columns = st.columns([4, 2, 2, 4], gap="small", vertical_alignment="bottom")
    columns[0].selectbox(
        "What stays in the cache", list(POLICIES), key="policy", format_func=POLICIES.get, on_change=selection.changed
    )
    if state.policy == "quantised":
        columns[1].selectbox(
            "Rounded to", list(ROUNDED_TO), key="rounded_to", format_func=ROUNDED_TO.get, on_change=selection.changed
        )
    else:
        for column, name in zip(columns[1:], NEEDED[state.policy], strict=False):
            if name == "row":
                problem = selection.fit("row", run.steps[-1].read, default=0)
                if problem:
                    notice(problem)
            column.number_input(LABELS[name], key=name, step=1, on_change=selection.changed)
    with columns[3].container(horizontal=True, horizontal_alignment="right"):
        if state.policy == "window" and state.window > FIRST:
            args = ("sinks", state.window - FIRST)
            st.button(f"Keep the first {FIRST} instead", key="lab-first", on_click=selection.chose_policy, args=args)
        elif state.policy == "sinks":
            args = ("window", state.window + state.first)
            st.button("Keep newer ones instead", key="lab-newer", on_click=selection.chose_policy, args=args)
        st.button("Example", key="lab-example", on_click=selection.chose_lab_example)


def tried(asked: Writing, run: Run) -> LabRun | None:
    state = st.session_state
    try:
        policy = Policy(state.policy, state.window, state.first, max(0, state.row), int(state.rounded_to))
        return frame.wait_for(frame.engine().trial(asked, run, policy))
    except HeadlightError as problem:
        notice(str(problem))
        return None


def show_trial(run: Run, trial: LabRun) -> None:
    words = lab_in_words(trial)
    title = trial.policy.title
    if trial.policy.kind == "row":
        title = f"Every row but that of “{row_tokens(run, len(run.steps) - 1)[trial.policy.row]}” ({trial.policy.row})"
    told(title, [words[0].split(": ", 1)[1].capitalize(), *words[1:]])
    texts(trial)
    plot(divergence_bars(trial, colours()), "divergence", " ".join(words))
    sentence(
        "KL divergence: how far the chances of the next token are from those on the full cache, both having read the "
        "same tokens. At 0 nothing changed; at 1 nat, what the full cache expects is 2.7 times less likely here."
    )
    rows_that_stay(run, trial)
    opened("All numbers", "lab_numbers", lambda: lab_table(trial))


def texts(trial: LabRun) -> None:
    """What is written on the two caches, token by token."""
    for key, label, tokens in (
        ("text-full", "every row", trial.full_texts),
        ("text-less", "fewer rows" if trial.policy.kind != "quantised" else "rounded", trial.written_texts),
    ):
        marked = trial.parted is not None and trial.parted < len(tokens)
        token_chips(
            tokens,
            None,
            None,
            [trial.parted] if marked else [],
            key,
            lambda token, add: None,
            label,
            words=[f"step {n}: “{token}”" for n, token in enumerate(tokens)],
            about=f"What the model writes with {label}",
        )


def rows_that_stay(run: Run, trial: LabRun) -> None:
    """The text, shaded by how many heads keep a token's row; a click drops that row alone."""
    last = len(run.steps) - 1
    tokens = row_tokens(run, last)
    shares = stays(trial, len(tokens))
    where = np.where(shares == 1, "stays", np.where(shares == 0, "dropped", "stays in some"))
    words = [
        f"“{token}” ({n}): its row stays in {percent(share)} of all heads. Choose it to drop this row alone"
        for n, (token, share) in enumerate(zip(tokens, shares, strict=True))
    ]
    sentence("The rows at the end. Click a token to drop its row alone.")
    token_chips(
        tokens,
        None,
        shares,
        [trial.policy.row] if trial.policy.kind == "row" else [],
        "stays",
        lambda token, add: selection.drop_row(token),
        "rows at the end",
        notes=[str(word) for word in where],
        words=words,
        about="The rows that stay. Enter on one drops it alone.",
    )


def paged(place: RunPlace, asked: Writing | None) -> None:
    state = st.session_state
    st.html('<p class="heading">Pages of 16 rows</p>')
    other = None
    if asked is not None:
        st.text_input(
            "A second request: where it begins like the first one, whole pages are shared",
            key="other",
            max_chars=LONGEST,
            on_change=selection.changed,
        )
        if state.other.strip():
            second = Writing(replace(asked.of, text=state.other), 1, uncached=False)
            try:
                other = frame.wait_for(frame.engine().write(second))
            except HeadlightError as problem:
                notice(str(problem))
    pages_part(place.run, place.step, other)
