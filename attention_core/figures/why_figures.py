"""What a cache saves, step by step and in sum, as work and as time, and the proof that it changes nothing: as
sentences, plotly curves and tables.

A figure's words are its alternative text. Knows nothing about pages, and runs no model.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ..run import DecodeStep, Run
from ..work import RunWork, StepWork
from .blocks import small
from .cache_figures import EITHER, Colours, laid_out
from .step import Table

WITH, WITHOUT = "with the cache", "without the cache"
SCALES = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"), (1e3, "thousand"), (1.0, ""))
NOTHING = 1e-9  # where a logarithmic scale draws a difference of 0


def operations(count: float) -> str:
    """ "4.53 million operations"."""
    size, name = next(scale for scale in SCALES if count >= scale[0] or scale[0] == 1)
    return f"{_digits(count / size)} {name} operations" if name else f"{count:,.0f} operations"


def duration(seconds: float) -> str:
    """ "6.1 ms", "1.24 s"."""
    return f"{_digits(seconds)} s" if seconds >= 1 else f"{_digits(seconds * 1000)} ms"


def _digits(value: float) -> str:
    """Three digits, of a small number two: 0.80, 4.53, 110, 1,230."""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"


def _times(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


# ── what it costs ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Costs:
    """One amount of every step, with the cache and without; NaN where it was not measured."""

    what: str  # "work" or "time"
    cached: np.ndarray  # (steps,) float64
    uncached: np.ndarray  # (steps,) float64

    @property
    def known(self) -> np.ndarray:
        """(steps,) bool: where both are known."""
        return ~np.isnan(self.uncached)

    def sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Of all steps so far in which both are known, (steps,) each; where none is, of the cached ones."""
        if not self.known.any():
            return self.cached.cumsum(), self.uncached
        cached, uncached = (np.where(self.known, each, 0.0).cumsum() for each in (self.cached, self.uncached))
        return np.where(self.known, cached, np.nan), np.where(self.known, uncached, np.nan)

    def written(self, amount: float) -> str:
        return operations(amount) if self.what == "work" else duration(amount)


def work_costs(work: RunWork) -> Costs:
    cached = np.array([step.cached.total for step in work.steps], dtype=np.float64)
    return Costs("work", cached, np.array([step.uncached.total for step in work.steps], dtype=np.float64))


def time_costs(run: Run) -> Costs:
    uncached = [np.nan if step.seconds_uncached is None else step.seconds_uncached for step in run.steps]
    return Costs("time", np.array([step.seconds for step in run.steps]), np.array(uncached, dtype=np.float64))


def costs_figure(costs: Costs, at: int, colours: Colours = EITHER) -> go.Figure:
    """Each step above, the run so far below; step `at` is marked."""
    count, traces, notes, layout = len(costs.cached), [], [], {}
    panels = (("each step", (costs.cached, costs.uncached)), ("all steps so far, together", costs.sums()))
    for panel, (title, pair) in enumerate(panels):
        axis = "2" if panel else ""
        size, unit = _unit(costs, max(np.nanmax(part, initial=0.0) for part in pair))
        drawn = [named for named in zip((WITH, WITHOUT), pair, _lines(colours), strict=True) if len(_known(named[1]))]
        for name, values, line in drawn:
            traces.append(_curve(name, values / size, line, at, [costs.written(v) for v in values], axis))
        ends = [(float(values[last]), name, last) for name, values, _ in drawn for last in _known(values)[-1:]]
        for value, name, last in ends:
            shift = 0 if len(ends) == 1 else 9 if (value, name) == max(ends)[:2] else -9
            place = {"x": last, "y": value / size, "xref": f"x{axis}", "yref": f"y{axis}", "yshift": shift}
            text = f"<b>{name}</b>" if name == WITH else name
            notes.append(place | {"text": text, "xanchor": "left", "xshift": 12, "showarrow": False})
        place = {"x": 0.5, "xref": f"x{axis} domain", "y": 1, "yref": f"y{axis} domain", "yanchor": "bottom"}
        notes.append(place | {"text": title, "yshift": 4, "showarrow": False})
        layout[f"xaxis{axis}"] = _steps(count) | {"anchor": f"y{axis}", "matches": "x2", "showticklabels": panel == 1}
        domain = [0, 0.43] if panel else [0.57, 1]
        layout[f"yaxis{axis}"] = {"title": {"text": unit}, "rangemode": "tozero", "domain": domain}
    layout["xaxis2"] |= {"title": {"text": "step"}, "matches": None}
    figure = go.Figure(
        traces, layout | {"annotations": notes, "shapes": [_mark(at, axis, colours) for axis in ("", "2")]}
    )
    laid_out(figure, height=520, right=150, colours=colours).update_layout(margin={"t": 34})
    return figure.update_annotations(font=colours.font)


def _known(values: np.ndarray) -> np.ndarray:
    """The places of what is not NaN."""
    return np.flatnonzero(~np.isnan(values))


def _lines(colours: Colours) -> tuple[dict[str, Any], dict[str, Any]]:
    """With the cache, and without."""
    return {"color": colours.accent, "width": 4}, {"color": colours.other, "width": 2, "dash": "dash"}


def _unit(costs: Costs, largest: float) -> tuple[float, str]:
    """What the axis counts in."""
    if costs.what == "time":
        return (1.0, "seconds") if largest >= 1 else (1e-3, "milliseconds")
    size, name = next(scale for scale in SCALES if largest >= scale[0] or scale[0] == 1)
    return size, f"{name} operations".strip()


def _curve(
    name: str, values: np.ndarray, line: dict[str, Any], at: int, texts: list[str], axis: str = "", crossed: Any = ()
) -> go.Scatter:
    """One curve, its point at step `at` larger than the others; crossed: steps that are drawn as a cross."""
    steps = np.arange(len(values))
    marker = {
        "color": line["color"],
        "opacity": 1,
        "size": np.where(steps == at, 14, 7 if len(steps) <= 64 else 0.1),
        "symbol": ["x" if step in crossed else "circle" for step in range(len(steps))],
    }
    return go.Scatter(
        x=steps,
        y=values.astype(np.float32),
        xaxis=f"x{axis}",
        yaxis=f"y{axis}",
        mode="lines+markers",
        line=line,
        marker=marker,
        customdata=texts,
        hovertemplate="step %{x}, " + name + ": %{customdata}<extra></extra>",
        name=name,
    )


def _steps(count: int) -> dict[str, Any]:
    """The axis of steps."""
    margin = max(0.3, count / 50)
    return {"range": [-margin, count - 1 + margin], **({"dtick": 1} if count <= 16 else {"nticks": 9})}


def _mark(at: int, axis: str, colours: Colours) -> dict[str, Any]:
    """A line through step `at`."""
    ends = {"x0": at, "x1": at, "y0": 0, "y1": 1, "xref": f"x{axis}", "yref": f"y{axis} domain"}
    return ends | {"type": "line", "line": {"color": colours.accent, "width": 1}}


def step_in_words(step: DecodeStep, work: StepWork | None) -> tuple[str, list[str]]:
    """A title and sentences: what the step read, what it reused, and what it would have cost without the cache."""
    new, reused = len(step.input_tokens), step.read - len(step.input_tokens)
    took = f"it took {duration(step.seconds)}"
    if not reused:
        read = f"{new} tokens" if new > 1 else "1 token"
        return f"Step {step.number} reads everything once", [
            f"It read {read} and computed a row for each: there was nothing to reuse yet, so the cache saves "
            f"nothing here, and {took}."
        ]
    said = [f"Step {step.number} read {new} token and reused the rows of {reused}."]
    if any(step.dropped):
        said.append("Layers with a window no longer hold the oldest of them.")
    again = f"Without the cache it would have read all {step.read} again"
    if work is not None:
        less = operations(work.cached.total).removesuffix(" operations")
        again += f": {operations(work.uncached.total)} instead of {less}"
    uncached = step.seconds_uncached
    if uncached is None:
        said.append(f"{again}. With the cache {took}; without it nothing was measured.")
    else:
        said.append(f"{again}. That took {duration(uncached)}; with the cache {took}.")
        if uncached < step.seconds:
            said.append("It was not faster this time: so short a pass is easily disturbed by whatever else runs.")
        elif work is not None and 2 * uncached / step.seconds < work.times:
            said.append(
                "Time grows less than work: fetching the model’s weights takes as long for one token as for many."
            )
    title = (
        f"{_times(work.times)} times the work without the cache" if work is not None else f"{step.read} tokens again"
    )
    return title, said


def costs_in_words(costs: Costs, at: int) -> str:
    """The sums of all steps up to `at`, and of all that are there."""
    cached, uncached = costs.sums()
    places = [at, len(cached) - 1] if at < len(cached) - 1 else [at]
    if not costs.known.any():
        return " ".join(f"{_steps_to(place)} took {costs.written(cached[place])} with the cache." for place in places)
    known = np.flatnonzero(costs.known)
    places = [int(known[known <= place].max(initial=known[0])) for place in places]
    which = "" if costs.known.all() else ", those that were compared,"
    return " ".join(
        f"{_steps_to(place)}{which} took {costs.written(cached[place])} with the cache and "
        f"{costs.written(uncached[place])} without it{_more(uncached[place] / cached[place])}."
        for place in dict.fromkeys(places)
    )


def _more(ratio: float) -> str:
    return f", {_times(ratio)} times as much" if abs(ratio - 1) >= 0.05 else ""


def _steps_to(place: int) -> str:
    return f"Steps 0 to {place} together" if place else "Step 0"


# ── the proof ───────────────────────────────────────────────────────────────────────────────────────────────────────


def needed(run: Run) -> np.ndarray:
    """(steps,) float64: a difference that could make another token the likeliest, half of the best score's lead over
    the second. The logarithms of their probabilities are as far apart. NaN where only one token is possible."""
    best = [sorted((c.before for c in step.candidates), reverse=True)[:2] for step in run.steps]
    return np.array([np.log(two[0] / two[1]) / 2 if len(two) > 1 and two[1] > 0 else np.nan for two in best])


def proof_figure(run: Run, at: int, colours: Colours = EITHER) -> go.Figure:
    """Largest difference of a score at each step, and how large it would have to be to matter; logarithmic."""
    found = [step.max_logit_difference for step in run.steps]
    apart = np.array([np.nan if d is None else d for d in found], dtype=np.float64)
    drawn, limit = np.maximum(apart, NOTHING), np.where(np.isnan(apart), np.nan, needed(run))
    crossed = {step.number for step in run.steps if step.same_token is False}
    ours, theirs = _lines(colours)
    traces = [
        _curve("largest difference", drawn, ours, at, [small(d) for d in apart], crossed=crossed),
        _curve("would change the token", limit, theirs, at, [small(d) for d in limit]),
    ]
    notes = [
        {"text": text, "x": 0, "y": np.log10(np.nanmax(values)), "xanchor": "left", "yanchor": "bottom", "yshift": 6}
        | {"showarrow": False, "font": colours.font}
        for text, values in (("<b>largest difference</b>", drawn), ("would change the token", limit))
        if len(_known(values))
    ]
    high = max(1.0, float(np.nanmax([*drawn, *limit], initial=1.0)))
    powers = range(-9, int(np.ceil(np.log10(high))) + 1, 3)
    scale = {
        "type": "log",
        "range": [np.log10(NOTHING) - 0.4, np.log10(high) + 0.9],
        "title": {"text": "difference of scores"},
        "tickvals": [10.0**power for power in powers],
        "ticktext": ["0" if power == -9 else small(10.0**power).removeprefix("1.0 × ") for power in powers],
    }
    layout = {"xaxis": _steps(len(apart)) | {"title": {"text": "step"}}, "yaxis": scale, "annotations": notes}
    figure = go.Figure(traces, layout | {"shapes": [_mark(at, "", colours)]})
    return laid_out(figure, height=330, colours=colours)


def proof_in_words(run: Run) -> list[str]:
    """Whether the same token came out of both, the largest difference, and how far that is from mattering."""
    compared = [step for step in run.steps if step.max_logit_difference is not None]
    if not compared:
        return []
    largest = max(compared, key=lambda step: step.max_logit_difference or 0.0)
    plain = not run.facts.sampling.do_sample and not any(step.forced for step in compared)
    same = "both chose the same token" if plain else "the same token was the likeliest in both"
    count, other = len(compared), [step for step in compared if not step.same_token]
    every = "At the one step that was compared" if count == 1 else f"At every one of the {count} steps"
    if count > 1 and count < len(run.steps):
        every += " that were compared"
    said = (
        f"; the largest difference of a score was {small(largest.max_logit_difference or 0.0)} (step {largest.number})."
    )
    if other:
        places = ", ".join(str(step.number) for step in other)
        return [f"At {count - len(other)} of {count} steps {same}, but not at step {places}{said}"]
    sentences, limit = [f"{every} {same}{said}"], needed(run)
    possible = [step.number for step in compared if not np.isnan(limit[step.number])]
    if possible:
        closest = min(possible, key=lambda number: float(limit[number]))
        sentences.append(
            f"For another token to be chosen, scores must differ by at least {small(limit[closest])} (step {closest})."
        )
    if largest.max_logit_difference:
        sentences.append("The difference is not exactly 0, because sums are rounded, and added in another order.")
    return sentences


# ── tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def steps_table(run: Run, work: RunWork | None) -> Table:
    """Every step in numbers."""
    header = ["step", "reads", "reuses", f"ms {WITH}", f"ms {WITHOUT}", "largest difference", "same token"]
    header[3:3] = [f"operations {WITH}", f"operations {WITHOUT}"] if work is not None else []
    rows = []
    for place, step in enumerate(run.steps):
        new = len(step.input_tokens)
        read = step.input_texts[0] if new == 1 else f"{new} tokens"
        counts = [work.steps[place].cached.total, work.steps[place].uncached.total] if work is not None else []
        apart, same = step.max_logit_difference, {True: "yes", False: "no", None: "—"}[step.same_token]
        seconds = [step.seconds, step.seconds_uncached]
        row = [str(step.number), read, str(step.read - new), *(f"{count:,}" for count in counts)]
        row += ["—" if part is None else f"{part * 1000:,.2f}" for part in seconds]
        rows.append((*row, "—" if apart is None else small(apart), same))
    return Table(tuple(header), tuple(rows))


def parts_table(step: StepWork) -> Table:
    """Where one step's operations go."""
    parts = {
        "key and value rows alone": lambda cost: cost.keys_values,
        "all weights, these included": lambda cost: cost.projections,
        "compressed rows made into keys and values": lambda cost: cost.unpacked,
        "dot products: queries with keys, weights with values": lambda cost: cost.dots,
        "together": lambda cost: cost.total,
    }
    rows = [(name, part(step.cached), part(step.uncached)) for name, part in parts.items()]
    shown = [(name, f"{one:,}", f"{other:,}") for name, one, other in rows if one or other]
    return Table((f"operations of step {step.number}", WITH, WITHOUT), tuple(shown))
