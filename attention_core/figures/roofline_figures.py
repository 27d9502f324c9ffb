"""Where a decode step stands under a device's roof: as a sentence, a plotly figure, and a table of its numbers.

Knows nothing about pages, and runs no model.
"""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from ..roofline import MOST_SEQUENCES, Roofline
from .cache_figures import EITHER, Colours, laid_out, short
from .growing import amount
from .step import Table

APART = 0.2  # powers of ten between two batches that are both named


def batches(roof: Roofline) -> list[int]:
    """The batches that the picture shows beside its own: fourfold each, as far as they tell something."""
    last = max(roof.batch, 4 * (roof.changes_at or 1024))
    shown = [4**power for power in range(11) if 4**power <= min(last, MOST_SEQUENCES)]
    return sorted({*shown, roof.batch, *([roof.changes_at] if roof.changes_at else [])})


def roofline_figure(roof: Roofline, others: Sequence[Roofline], colours: Colours = EITHER) -> go.Figure:
    """The roof, both axes logarithmic; this step on it in colour, and the same step with other batches."""
    bandwidth, compute = roof.device.bandwidth or 1.0, roof.device.compute or 1.0
    points = sorted([roof, *(other for other in others if other.batch != roof.batch)], key=lambda each: each.batch)
    lowest, highest = min(each.intensity for each in points), max(each.intensity for each in points)
    ends = np.array([min(lowest, roof.ridge) / 3, roof.ridge, max(highest, roof.ridge) * 4])
    figure = go.Figure()
    figure.add_scatter(
        x=ends.astype(np.float32),
        y=_reached(ends, bandwidth, compute),
        mode="lines",
        line={"color": colours.other, "width": 3},
        hoverinfo="skip",
    )
    at = np.array([each.intensity for each in points])
    named = _named([*at], [each is roof or each.batch == roof.changes_at for each in points])
    figure.add_scatter(
        x=at.astype(np.float32),
        y=_reached(at, bandwidth, compute),
        mode="markers+text",
        marker={
            "opacity": 1,
            "color": [colours.accent if each is roof else colours.other for each in points],
            "size": [18 if each is roof else 10 for each in points],
            "symbol": ["diamond" if each is roof else "circle" for each in points],
        },
        text=[_text(each, roof) if name else "" for each, name in zip(points, named, strict=True)],
        textposition=[_side(each, roof) for each in points],
        cliponaxis=False,
        textfont=colours.font,
        customdata=[f"{each.batch:,}" for each in points],
        hovertemplate="batch %{customdata}: %{x:.4~g} operations a byte, %{y:.4~g} trillion a second<extra></extra>",
    )
    _areas(figure, roof, colours)
    figure.update_xaxes(type="log", title="operations for every byte that is read", tickformat=",~r", dtick=1)
    figure.update_yaxes(type="log", title="trillion operations a second", tickformat=",~r", dtick=1)
    return laid_out(figure, 430, colours=colours).update_layout(margin={"t": 40})


def _reached(intensity: np.ndarray, bandwidth: float, compute: float) -> np.ndarray:
    """Trillions of operations a second that a device reaches at most."""
    return (np.minimum(intensity * bandwidth, compute) / 1e12).astype(np.float32)


def _named(places: Sequence[float], always: Sequence[bool]) -> list[bool]:
    """Which points get their name: not two that would lie on each other."""
    taken = [np.log10(place) for place, must in zip(places, always, strict=True) if must]
    named = []
    for place, must in zip(np.log10(places), always, strict=True):
        free = must or all(abs(place - other) > APART for other in taken)
        taken += [place] if free and not must else []
        named.append(free)
    return named


def _text(each: Roofline, roof: Roofline) -> str:
    if each.batch == roof.batch:
        return f"<b>batch {each.batch:,}</b>"
    return f"from {each.batch:,} on" if each.batch == roof.changes_at else f"{each.batch:,}"


def _side(each: Roofline, roof: Roofline) -> str:
    """Where a point's name stands: along the slope and under the roof there is room below."""
    if each.bound == "memory" or each.batch == roof.batch:
        return "bottom right"
    return "top left" if each.batch == roof.changes_at else "top right"


def _areas(figure: go.Figure, roof: Roofline, colours: Colours) -> None:
    """What each side of the ridge means."""
    figure.add_vline(x=roof.ridge, line={"color": colours.other, "width": 1, "dash": "dot"})
    for text, side, shift in (("bound by memory", "right", -8), ("bound by compute", "left", 8)):
        figure.add_annotation(
            x=np.log10(roof.ridge),
            y=0.0,
            yref="paper",
            text=text,
            xanchor=side,
            yanchor="bottom",
            xshift=shift,
            showarrow=False,
            font=colours.font,
        )


def roofline_in_words(roof: Roofline) -> tuple[str, list[str]]:
    """What the step waits for, and from which batch on that changes."""
    device, texts = short(roof.device), "1 text" if roof.batch == 1 else f"{roof.batch:,} texts"
    reading = (roof.weight_bytes + roof.cache_bytes) / (roof.device.bandwidth or 1.0)
    counting = roof.operations / (roof.device.compute or 1.0)
    said = [
        f"One step for {texts} reads {amount(roof.weight_bytes)} of 16-bit weights and {amount(roof.cache_bytes)} of "
        f"cache: {duration(reading)} on the {device}. Its multiplications and additions take {duration(counting)}."
    ]
    if roof.changes_at is None:
        said.append("However many texts are written at once, reading takes longer: each brings a cache of its own.")
    elif roof.changes_at == 1:
        said.append("Arithmetic takes longer from a single text on.")
    else:
        said.append(f"From {roof.changes_at:,} texts at once (the batch) on, the arithmetic takes longer.")
    fits = "fit into" if roof.fits else "are more than"
    said.append(
        f"All weights and caches, {amount(roof.needed_bytes)}, {fits} its {roof.device.gib:g} GB. (A step reads fewer "
        "weights than there are: of tables and experts only the rows and the experts that it needs. Models that are "
        "published in 8 or 4 bits take less than the 16 counted here.)"
    )
    return f"Bound by {roof.bound}", said


def duration(seconds: float) -> str:
    """ "4.79 ms"."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.9995 * size:
            return f"{seconds / size:,.3g} {unit}" if seconds < 999.5 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def equations_table(roof: Roofline) -> Table:
    """The numbers filled in."""
    return Table(("what", "with the numbers filled in"), tuple(_parted(line) for line in roof.equations))


def _parted(line: str) -> tuple[str, str]:
    what, _, numbers = line.partition(": ")
    return what, numbers


def roofline_table(roofs: Sequence[Roofline]) -> Table:
    """The points of the figure."""
    rows = [
        (
            f"{roof.batch:,}",
            f"{roof.intensity:,.2f}",
            duration(roof.seconds),
            roof.bound,
            f"{roof.batch / roof.seconds:,.0f}",
            "yes" if roof.fits else "no",
        )
        for roof in roofs
    ]
    header = ("texts at once", "operations a byte", "a step takes at least", "bound by", "tokens a second at most")
    return Table((*header, "fits into the memory"), tuple(rows))
