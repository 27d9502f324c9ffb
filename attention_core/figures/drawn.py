"""The blocks of a step drawn for paper: tables and SVG, colours as classes that sheet.css gives their light and dark.

Numbers stay text, so that they can be read, searched and copied; a row of cells is one SVG picture. Tokens are text.
"""

import html
import re
from collections.abc import Sequence

import numpy as np

from .blocks import DIALS_UP_TO, Bars, Block, Column, Dials, Groups, Keys, Strip, Strips, largest, span, written
from .colours import BLUES, DIFFERENCE

MOST_CELLS = 600  # of a strip; of more numbers a cell shows the one furthest from 0
SEPARATE_UP_TO = 96  # cells with a gap between them
ACROSS = 16  # dials beside each other
# On a dark screen: the difference is that of assets/components/common.js, a weight goes from the page to the accent.
DARK_DIFFERENCE = ("#a6d8ff", "#4a9be0", "#235a8c", "#24262c", "#84480f", "#e0801f", "#ffd39b")
DARK_WEIGHTS = ("#1a202b", "#7cc4f2")
LEVELS = 32  # of a colour, on each side of 0
_QUOTED = re.compile(r"“([^“”]*)”")
_HIGH, _DROP, _THICK = (
    20,
    5,
    15,
)  # a cell above 0 hangs from the top, one below 0 stands on the ground: seen without colour


def drawn(block: Block, chosen: int | None = None) -> str:
    """One block as HTML; chosen: the place of the key whose row is marked."""
    match block:
        case Strips():
            kind, body = "strips", "".join(_strip(strip) for strip in block.strips)
        case Keys():
            kind, body = "keys", _keys(block, chosen)
        case Dials():
            kind, body = "dials", _dials(block)
        case Bars():
            kind, body = "bars", _bars(block)
        case Groups():
            kind, body = "groups", _groups(block)
    title = "" if isinstance(block, Dials) else block.title
    caption = f"<figcaption>{text(title)}</figcaption>" if title else ""
    return f'<figure class="{kind}">{caption}{body}</figure>\n'


def text(words: str) -> str:
    """Words as HTML text; a token that they quote keeps its own direction, so that Hebrew turns nothing around it."""
    return _QUOTED.sub(r"“<bdi>\1</bdi>”", html.escape(words))


def weight_class(weight: float) -> str:
    """The class of a weight's shade; "gap" where the query cannot look."""
    return "gap" if np.isnan(weight) else f"w{round(float(np.clip(weight, 0, 1)) * LEVELS)}"


def shades_css(dark: bool) -> str:
    """What the classes w0 … w32 (weights, 0 to 1) and s0 … s64 (cells, −1 to 1) look like."""
    rules = []
    for level, colour in enumerate(_ramp(DARK_WEIGHTS if dark else BLUES, LEVELS + 1)):
        ink = "#ffffff" if _luminance(colour) < 0.18 else "#000000"
        rules.append(f".w{level}{{background:{colour};color:{ink}}}")
    for level, colour in enumerate(_ramp(DARK_DIFFERENCE if dark else DIFFERENCE, 2 * LEVELS + 1)):
        rules.append(f".s{level}{{fill:{colour}}}")
    return "\n".join(rules)


def _ramp(stops: Sequence[str], count: int) -> list[str]:
    """`count` colours, evenly between the stops."""
    channels = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in stops], dtype=float)
    at, known = np.linspace(0, 1, count), np.linspace(0, 1, len(stops))
    between = np.stack([np.interp(at, known, channel) for channel in channels.T], axis=1).round().astype(int)
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in between]


def _luminance(colour: str) -> float:
    """WCAG's, 0 to 1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


# ── a vector as a row of cells ──


def _cells(values: np.ndarray, full: float, label: str) -> str:
    """(n,) → one SVG picture: a path for each colour, so that hundreds of cells stay small."""
    shown = _pooled(values)
    n, wide = len(shown), "1" if len(shown) > SEPARATE_UP_TO else ".9"
    paths: dict[int, list[str]] = {}
    for i, value in enumerate(shown):
        if np.isnan(value):
            continue
        level = LEVELS + round(float(np.clip(value / full, -1, 1)) * LEVELS)
        top = 0 if value > 0 else _DROP
        height = _HIGH - 2 * _DROP if value == 0 else _THICK
        paths.setdefault(level, []).append(f"M{i} {top}h{wide}v{height}h-{wide}z")
    drawing = "".join(f'<path class="s{level}" d="{"".join(parts)}"/>' for level, parts in sorted(paths.items()))
    holes = " gap" if np.isnan(values).any() else ""
    return (
        f'<svg class="cells{holes}" viewBox="0 0 {max(n, 1)} {_HIGH}" preserveAspectRatio="none" role="img" '
        f'aria-label="{html.escape(f"{label}: {_range_of(values)}")}">{drawing}</svg>'
    )


def _pooled(values: np.ndarray) -> np.ndarray:
    """(n,) → at most MOST_CELLS of them: of those that share a cell, the one furthest from 0."""
    if len(values) <= MOST_CELLS:
        return values
    groups = np.array_split(values, MOST_CELLS)
    return np.array([group[np.argmax(np.abs(np.nan_to_num(group)))] for group in groups])


def _range_of(values: np.ndarray) -> str:
    known = values[~np.isnan(values)]
    if not len(known):
        return "cannot look there"
    return f"{len(values):,} numbers from {written(known.min(), '.3g')} to {written(known.max(), '.3g')}"


def _strip(strip: Strip) -> str:
    cells = _cells(strip.values, largest(strip.values, strip.scale), strip.label)
    then = f'<p class="then"><span aria-hidden="true">↓</span> {text(strip.then)}</p>' if strip.then else ""
    note = f'<span class="note">{text(strip.note)}</span>'
    return f'<div class="strip"><span class="label">{text(strip.label)}</span>{cells}{note}</div>{then}'


# ── keys and bars ──


def _track(value: float, low: float, high: float, colour: str) -> str:
    """A bar from the zero line, as a picture beside its number."""
    end = float(np.clip(value, low, high)) if np.isfinite(value) else 0.0
    left, right = (100 * (at - low) / (high - low) for at in (min(end, 0.0), max(end, 0.0)))
    zero = f'<rect class="zero" x="{-100 * low / (high - low) - 0.4:.2f}" width=".8" height="10"/>' if low < 0 else ""
    bar = f'<rect class="{colour}" x="{left:.2f}" width="{right - left:.2f}" height="10"/>'
    gap = " gap" if np.isnan(value) else ""
    frame = f'class="track{gap}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"'
    return f"<svg {frame}>{bar}{zero}</svg>"


def _keys(block: Keys, chosen: int | None) -> str:
    columns = list(enumerate(block.columns))
    titles = "".join(_column_title(column, index in block.covered) for index, column in columns)
    rows = []
    for row, (token, place) in enumerate(zip(block.tokens, block.places, strict=True)):
        mark = ' class="chosen"' if place == chosen else ""
        said = '<span class="unseen">, the chosen key</span>' if place == chosen else ""
        name = (
            f'<th scope="row"><span class="name"><bdi>{html.escape(token)}</bdi><span>{place}{said}</span></span></th>'
        )
        cells = "".join(
            '<td class="covered" colspan="2">?</td>'
            if index in block.covered
            else _key_cell(column, row, f"“{token}” ({place}), {column.title}")
            for index, column in columns
        )
        rows.append(f"<tr{mark}>{name}{cells}</tr>")
    more = f'<p class="quiet">{text(block.more)}</p>' if block.more else ""
    head = f'<tr><th scope="col">key</th>{titles}</tr>'
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>{more}"


def _column_title(column: Column, covered: bool) -> str:
    wide = ' colspan="2"' if column.kind == "bar" or covered else ""
    return f'<th scope="col" class="{column.kind}"{wide}>{text(column.title)}</th>'


def _key_cell(column: Column, row: int, label: str) -> str:
    if column.kind == "strip":
        full = largest(column.values, column.scale)  # one scale for all rows
        return f'<td class="strip">{_cells(column.values[row], full, label)}</td>'
    value = float(column.values[row])
    number = f'<td class="number">{written(value, column.form)}</td>'
    if column.kind == "number":
        return number
    low, high = span(column.values, column.scale)
    colour = "bar" if low == 0 and not column.signed else "less" if value < 0 else "more"
    return f'<td class="bar">{_track(value, low, high, colour)}</td>{number}'


def _bars(block: Bars) -> str:
    low, high = span(block.values)
    items = []
    for i, (label, value) in enumerate(zip(block.labels, block.values, strict=True)):
        mark = ' class="chosen"' if i == block.marked else ""
        said = '<span class="unseen">, this one</span>' if i == block.marked else ""
        track = _track(float(value), low, high, "bar" if i == block.marked or block.marked is None else "other")
        number = f"{written(value, block.form)}{f' {block.unit}' if block.unit else ''}"
        name = f'<span class="label">{text(label)}{said}</span>'
        items.append(f'<li{mark}>{name}{track}<span class="number">{text(number)}</span></li>')
    n = len(items)
    columns = "three" if n > 32 else "two" if n > 12 else "one"
    return f'<ul class="{columns}">{"".join(items)}</ul>'


# ── dials and groups ──


def _dials(block: Dials) -> str:
    pairs = min(len(block.angles), DIALS_UP_TO)
    left_out = f"the first {pairs} of {len(block.angles)} pairs" if len(block.angles) > pairs else ""
    across, size = min(ACROSS, pairs), 40
    lines = -(-pairs // across) if pairs else 0
    hands = "".join(
        _dial(block, i, size * (i % across) + size / 2, size * (i // across) + size / 2, size / 2 - 3)
        for i in range(pairs)
    )
    note = ", ".join(filter(None, [block.note, left_out]))
    label = f"{block.label}: {pairs} pairs, each turned by its angle"
    box = f'width="{size * across}" height="{size * lines}" viewBox="0 0 {size * across} {size * lines}"'
    words = f'<span class="label">{text(block.label)}</span>'
    note = f'<span class="note">{text(note)}</span>'
    picture = f'<svg class="hands" {box} role="img" aria-label="{html.escape(label)}">{hands}</svg>'
    return f'<div class="strip">{words}{picture}{note}</div>'


def _dial(block: Dials, i: int, x: float, y: float, radius: float) -> str:
    """One pair as hands of a dial, counted against the clock as in a textbook; the sector is the angle."""
    (x0, y0), (x1, y1), angle = block.before[i], block.after[i], float(block.angles[i])
    most = max(float(np.hypot(x0, y0)), float(np.hypot(x1, y1))) or 1.0
    turn = float(np.fmod(angle, 2 * np.pi))
    start = float(np.arctan2(y0, x0))

    def at(direction: float) -> str:
        return f"{x + radius * np.cos(direction):.1f} {y - radius * np.sin(direction):.1f}"

    def hand(kind: str, dx: float, dy: float) -> str:
        end = f'x2="{x + dx / most * radius:.1f}" y2="{y - dy / most * radius:.1f}"'
        return f'<line class="{kind}" x1="{x:g}" y1="{y:g}" {end}/>'

    arc = f"A{radius:g} {radius:g} 0 {int(abs(turn) > np.pi)} {int(turn < 0)} {at(start + turn)}"
    numbers = [written(float(number), ".3g") for number in (x0, y0, angle, x1, y1)]
    words = "pair {}: ({}, {}) turned by {} rad → ({}, {})".format(i, *numbers)
    return (
        f'<g><title>{words}</title><circle cx="{x:g}" cy="{y:g}" r="{radius:g}"/>'
        f'<path d="M{x:g} {y:g}L{at(start)}{arc}z"/>{hand("before", x0, y0)}{hand("after", x1, y1)}</g>'
    )


def _groups(block: Groups) -> str:
    boxes = []
    for group in range(block.heads // block.each):
        first = group * block.each
        heads = [
            f"<b>q {head}</b>" if head == block.marked else f"<span>q {head}</span>"
            for head in range(first, first + block.each)
        ]
        this = ' class="this"' if group == block.marked // block.each else ""
        boxes.append(f"<div{this}><p>{' '.join(heads)}</p><p>k, v {group}</p></div>")
    return f'<div class="boxes" aria-hidden="true">{"".join(boxes)}</div><p class="quiet">{text(block.words)}</p>'
