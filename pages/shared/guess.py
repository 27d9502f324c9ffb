"""Predict first: a guess before the number is shown. Guesses stay in the session; they are nobody else's business."""

from collections.abc import Sequence

import streamlit as st

from attention_core.figures.steps import Question, Step, verdict

from .messages import sentence


class Guesses:
    """The guesses that were made on the steps of one row, where steps are to be predicted first."""

    def __init__(self, steps: Sequence[Step], row: tuple, key: int):
        """row: which one it is; key: the chosen key, which some questions are about."""
        self.steps, self._row, self._key = steps, row, key
        self._made: dict = st.session_state.setdefault("guesses", {})

    def waits(self, number: int) -> bool:
        """Whether a step waits for its guess."""
        return bool(st.session_state.predict and self.steps[number].question and self._place(number) not in self._made)

    @property
    def open_to(self) -> int:
        """The first step that waits, behind which nothing is shown; their number where none waits."""
        return next((number for number in range(len(self.steps)) if self.waits(number)), len(self.steps))

    def ask(self, number: int) -> None:
        """The question of a step with a place for the answer; once it was given, how far it was off."""
        question, place = self.steps[number].question, self._place(number)
        if question is None or not st.session_state.predict:
            return
        if place in self._made:
            sentence(verdict(question, self._made[place]), "verdict")
            return
        with st.form(f"guess-{self.steps[number].name}", border=True, enter_to_submit=True):
            sentence(question.text, "finding")
            with st.container(horizontal=True, vertical_alignment="bottom"):
                guess = _guess(question)
                given = st.form_submit_button("Commit the guess")
            if given and guess is None:
                sentence("Choose one first." if question.options else "Type a number first.")
        if given and guess is not None:
            self._made[place] = float(guess)
            st.rerun()

    def _place(self, number: int) -> tuple:
        question = self.steps[number].question
        of_key = self._key if question is not None and not question.options else None
        return st.session_state.shown, *self._row, of_key, self.steps[number].name


def _guess(question: Question) -> float | None:
    if question.options:
        meant = [n for n, score in enumerate(question.scores) if score > float("-inf")]
        return st.selectbox("Your guess", meant, index=None, format_func=question.options.__getitem__, width=300)
    unit = f", in {question.unit}" if question.unit else ""
    return st.number_input(
        f"Your guess{unit}", question.least, question.most, value=None, step=None, format="%g", width=300
    )
