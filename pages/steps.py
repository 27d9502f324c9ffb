"""Step by step: how one row of one head is computed, with the model's own numbers, and the proof that they are."""

from dataclasses import replace

import streamlit as st

from attention_core.errors import HeadlightError
from attention_core.figures.blocks import written
from attention_core.figures.steps import Step, all_steps, covered, strongest_key
from attention_core.lens import Lens
from attention_core.record import Capture
from attention_core.views import Seen, View
from attention_core.worksheet import Worksheet
from pages.shared import frame, selection
from pages.shared.chosen import place_numbers, text_as_read
from pages.shared.drawn import table_html
from pages.shared.guess import Guesses
from pages.shared.messages import notice, sentence, told
from pages.shared.place import Place, find_place
from pages.shared.save_sheet import save_sheet_popover
from pages.shared.stepper import stepper
from pages.shared.steps_view import steps_view

TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0, 10.0)


def worksheet(place: Place) -> Worksheet:
    job = frame.engine().worksheet(st.session_state.shown, place.capture, place.entry, place.head, place.token)
    return frame.wait_for(job)


def lens(place: Place) -> Lens | None:
    """What would be written after each layer, where the model writes."""
    if not place.capture.predicts or place.layer.kind == "encoder":
        return None
    try:
        return frame.wait_for(frame.engine().lens(st.session_state.shown, place.capture, place.entry, place.token))
    except HeadlightError as problem:
        notice(str(problem))
        return None


def key_number(column, sheet: Worksheet) -> None:
    """The chosen key; where none was chosen, the strongest, or, if that is to be guessed, the query's own token."""
    count = len(sheet.key_tokens)
    default = min(sheet.token, count - 1) if st.session_state.predict else strongest_key(sheet)
    problem = selection.fit("key", count, default=default)
    if problem:
        notice(problem)
    column.number_input(f"Key (0–{count - 1})", key="key", step=1, on_change=selection.changed)


def fit_moved(sheet: Worksheet) -> None:
    """The place that the query's token is moved to: its own, where none was chosen."""
    if sheet.rotation is not None and sheet.rotation.positions:
        problem = selection.fit("moved", sheet.rotation.positions, default=sheet.rotation.position)
        if problem:
            notice(problem)


def step_number(count: int, guesses: Guesses) -> int:
    """The selected step, or the one before it that waits for a guess."""
    state = st.session_state
    problem = selection.fit("step", count, default=0)
    went_too_far = state.pop("went_too_far", False)
    if state.step > guesses.open_to or (went_too_far and guesses.open_to < count):
        state.step = guesses.open_to
        problem = f"Step {state.step} waits for a guess: the next ones open when it is made."
    if problem:
        notice(problem)
    return state.step


def move(step: int, open_to: int) -> None:
    st.session_state.went_too_far = step > open_to
    selection.chose_step(min(step, open_to))


def picture(step: Step, key: int) -> None:
    with st.container(key="pictured"):
        if step.blocks:
            steps_view(step.blocks, "picture", selection.chose_key, chosen=key, label=step.title)


def formula(step: Step) -> None:
    """The first one, filled, where it is seen without scrolling."""
    with st.container(key="formula"):
        if step.formulas:
            st.latex(step.formulas[0].filled)


def in_words(step: Step) -> None:
    with st.container(key="formulas"):
        if step.formulas:
            with st.expander("The formula in words" if len(step.formulas) == 1 else "The formulas in words"):
                for one in step.formulas:
                    st.latex(one.letters)
                    st.latex(one.filled)
                    sentence(one.words)


def tables(step: Step) -> None:
    with st.container(key="tables"):
        if step.table is not None:
            st.html(table_html(step.table))
        if step.numbers is not None:
            with st.expander("All numbers of q, k and q × k", key="by_number", on_change="rerun") as opened:
                if opened.open:
                    st.html(table_html(step.numbers))


def moved(step: Step, sheet: Worksheet, key: int) -> None:
    """The query's token at another place, and what that does to its scores."""
    rotation, state = sheet.rotation, st.session_state
    with st.container(key="moving"):
        if step.name != "positions" or rotation is None or not rotation.positions or state.predict:
            return
        st.slider(
            f"Move “{sheet.query_token}” to another place: what becomes of its scores?",
            0,
            rotation.positions - 1,
            key="moved",
            on_change=selection.changed,
        )
        if state.moved != rotation.position:
            scores, here, other = rotation.by_position(key), rotation.position, f"“{sheet.key_tokens[key]}” ({key})"
            sentence(
                f"At its own place, {here}, the score for {other} is {written(float(scores[here]), '.3f')}; "
                f"at place {state.moved} it would be {written(float(scores[state.moved]), '.3f')}."
            )


def temperature(step: Step, sheet: Worksheet) -> None:
    """What the softmax makes of larger or smaller scores, and so what the division by √d is for."""
    state, undone = st.session_state, round(sheet.layer.scaling, 4)
    with st.container(key="temperature_place"):
        if step.name != "softmax":
            return
        choices = sorted({*TEMPERATURES, state.temperature, *([undone] if undone < 1 else [])})
        names = {1.0: " (the model)", undone: " (as if not divided)"} if undone < 1 else {1.0: " (the model)"}
        st.select_slider(
            "Temperature: every score is divided by it first",
            choices,
            key="temperature",
            format_func=lambda value: f"{value:g}{names.get(value, '')}",
            on_change=selection.changed,
        )


def show(capture: Capture) -> None:
    place, state = find_place(capture), st.session_state
    place = replace(place, heads=place.heads[:1], tokens=[place.token])  # one row of one head
    seen = Seen(capture, View(place.heads))
    text_as_read(place, seen, expected=False, shaded=not state.predict)  # the shades tell the strongest key
    columns = place_numbers(place, [2, 2, 2, 2, 2, 1])
    try:
        sheet = worksheet(place)
    except HeadlightError as problem:
        notice(str(problem))
        return
    key_number(columns[3], sheet)
    fit_moved(sheet)
    steps = all_steps(sheet, state.key, place.name, None, state.temperature, state.moved, state.predict)
    guesses = Guesses(steps, (place.entry, place.head, place.token), state.key)
    number = step_number(len(steps), guesses)
    stepper([step.title for step in steps], number, "stepper", lambda step: move(step, guesses.open_to))

    def with_lens() -> list[Step]:
        return all_steps(sheet, state.key, place.name, lens(place), state.temperature, state.moved)

    step = (with_lens() if steps[number].name == "around" else steps)[number]
    shown = covered(step) if guesses.waits(number) else step
    columns[4].toggle("Predict first", key="predict", on_change=selection.token_changed)
    with columns[5]:
        save_sheet_popover(place, sheet, state.key, with_lens, waiting=guesses.open_to < len(steps))
    with st.container(key="said"):
        told(f"{number} {shown.title}", shown.sentences)
    formula(shown)
    with st.container(key="guess"):
        guesses.ask(number)
    temperature(shown, sheet)
    moved(shown, sheet, state.key)
    picture(shown, state.key)
    tables(shown)
    in_words(shown)
    if state.text_was_read:
        selection.keep_view()


frame.needs_app(__file__)
read = frame.read_text()
if read is not None:
    show(read)
