"""The browser component that moves through the steps: names, Back and Next, a slider, and the page's arrow keys."""

from collections.abc import Callable, Sequence

import streamlit as st

from .components import register

_stepper = register("stepper", "stepping")


def stepper(names: Sequence[str], step: int, key: str, on_choose: Callable[[int], None]) -> None:
    """names: a short title for each step; on_choose(step) is called with the one that was moved to."""
    answered = f"{key}-answered"  # which press this run answers: there may have been another since

    def choose() -> None:
        place = st.session_state[key].get("place")
        if place:
            st.session_state[answered] = int(place["sent"])
            on_choose(int(place["step"]))

    data = {"names": list(names), "step": int(step), "answered": st.session_state.get(answered, 0)}
    _stepper(data=data, key=key, on_place_change=choose)
