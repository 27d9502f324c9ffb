"""The tab Why of the page KV cache: what each step saves, as work and as time, and the proof that nothing changes."""

import streamlit as st

from attention_core.errors import HeadlightError
from attention_core.figures import why_figures as figures
from attention_core.generation import COMPARE_UP_TO
from attention_core.run import Run
from attention_core.work import RunWork, run_work

from . import selection
from .drawn import colours, opened, plot, show_table
from .messages import sentence, told

COSTS = {"work": "Work", "time": "Time"}


def why_tab(run: Run, at: int) -> None:
    """run: its steps so far; at: the one that is marked and told of."""
    at = min(at, len(run.steps) - 1)
    work, problem = _work(run)
    title, sentences = figures.step_in_words(run.steps[at], work.steps[at] if work is not None else None)
    told(title, sentences)
    saved, proved = st.columns([3, 2], gap="large")
    with saved:
        _saved(run, at, work, problem)
    with proved:
        _proof(run, at)
    with st.container(key="why_tables"):
        opened("Every step in numbers", "why_steps", lambda: figures.steps_table(run, work))
        if work is not None:
            counted = work.steps[at]
            with st.expander("How the work is counted", key="why_counted", on_change="rerun") as section:
                if section.open:
                    sentence(
                        "An operation is one product or one sum: two for every weight that a token passes through. "
                        "Without the cache every token passes through all of them again, because the keys of layer 1 "
                        "need the whole of layer 0. Only pairs of a query and a key that it may look at are counted; "
                        "norms and softmax are left out."
                    )
                    show_table(figures.parts_table(counted))
                    for line in counted.equations:
                        sentence(f"{line[0].upper()}{line[1:]}.")


def _work(run: Run) -> tuple[RunWork | None, str]:
    """What its steps cost, or why that is not known."""
    try:
        return run_work(run), ""
    except HeadlightError as problem:
        return None, str(problem)


def _saved(run: Run, at: int, work: RunWork | None, problem: str) -> None:
    """Each step and the sum of all so far, with the cache and without."""
    costs_in, step = st.columns([2, 3], gap="medium")
    if work is not None:
        costs_in.segmented_control(
            "What a step costs, in",
            list(COSTS),
            key="cost",
            format_func=COSTS.get,
            on_change=selection.changed,
            required=True,
        )
    else:
        sentence(problem)
    if len(run.steps) > 1:
        st.session_state.at = at
        step.slider("Step", 0, len(run.steps) - 1, key="at", on_change=selection.changed)
    in_work = work is not None and st.session_state.cost == "work"
    costs = figures.work_costs(work) if work is not None and in_work else figures.time_costs(run)
    words = figures.costs_in_words(costs, at)
    plot(figures.costs_figure(costs, at, colours()), "costs", f"Curves of {costs.what} by step. {words}")
    sentence(words)
    if not in_work:
        sentence("Each pass was timed once, here. At step 0 both do the same.")


def _proof(run: Run, at: int) -> None:
    """The same step without the cache: as good as the same scores, and the same token."""
    said = figures.proof_in_words(run)
    told("The proof", said[:1] or ["No step was compared with a pass without the cache."])
    if said:
        plot(figures.proof_figure(run, at, colours()), "proof", " ".join(said))
        sentence(" ".join(said[1:]))
    missing = [step.number for step in run.steps if step.max_logit_difference is None]
    if not missing:
        return
    state = st.session_state
    which = f"Step {missing[0]} was" if len(missing) == 1 else f"Steps {missing[0]} to {missing[-1]} were"
    why = f": beyond {COMPARE_UP_TO} tokens a pass without the cache takes long." if not state.compare else "."
    if said:
        sentence(f"{which} not compared{why}")
    if state.run:
        sentence("This run comes from a file, so nothing can be measured any more.")
    else:
        st.button("Compare every step", key="compare_all", on_click=selection.write_url, kwargs={"compare": "1"})
