"""What all printed pictures share: a white sheet with title and caption, text measured in inches, and saving.

matplotlib's objects alone, no pyplot: any thread may draw. Tokens are text: a $, _ or ^ in them is no formula.
"""

import io
import math
import textwrap
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..errors import HeadlightError
from . import fonts
from .captions import short

FORMS = ("png", "svg", "pdf")
TEXT, MUTED, ACCENT, LINE = "#1f2328", "#57606a", "#0b5c8a", "#d0d7de"
LABEL, CAPTION, TITLE = 8.0, 8.0, 11.0  # points
LEADING = 1.35 / 72  # inches a line needs for each point of its letters
PAD = 0.28  # inches around everything
NARROWEST = 5.0
LABEL_UP_TO = 24  # letters of a token beside a picture

_SAVING = threading.Lock()  # matplotlib's settings are one for all threads


@dataclass(frozen=True)
class Sheet:
    """A figure with the axes of its picture, the families that can show all its letters, and what in them is bold."""

    figure: Figure
    axes: Axes
    family: list[str]
    bold: str

    def x(self, inches: float) -> float:
        """Inches → share of the sheet's width."""
        return inches / float(self.figure.get_figwidth())

    def y(self, inches: float) -> float:
        return inches / float(self.figure.get_figheight())


def sheet(
    width: float, height: float, margins: tuple[float, float, float, float], title: str, caption: str, family: list[str]
) -> Sheet:
    """A picture of width × height inches, with margins (left, right, top, bottom) for its labels, between its title and
    its caption."""
    left, right, top, bottom = margins
    wide = max(NARROWEST, left + width + right + 2 * PAD)
    bold = fonts.bold(family)
    head = wrapped(title, wide - 2 * PAD, TITLE, family, bold)
    foot = wrapped(caption, wide - 2 * PAD, CAPTION, family)
    above = (len(head) * TITLE * LEADING + 0.12) if head else 0.0
    below = (len(foot) * CAPTION * LEADING + 0.16) if foot else 0.0
    tall = PAD + above + top + height + bottom + below + PAD
    figure = Figure(figsize=(wide, tall), facecolor="white")
    FigureCanvasAgg(figure)
    start = PAD + left + max(0.0, (wide - 2 * PAD - left - width - right) / 2)  # a small picture stands in the middle
    axes = figure.add_axes((start / wide, (PAD + below + bottom) / tall, width / wide, height / tall))
    figure.text(
        PAD / wide, 1 - PAD / tall, "\n".join(head), size=TITLE, weight=bold, gid="title",
        ha="left", va="top", color=TEXT, family=family, parse_math=False, linespacing=1.2,
    )  # fmt: skip
    figure.text(
        PAD / wide, PAD / tall, "\n".join(foot), size=CAPTION, gid="caption",
        ha="left", va="bottom", color=MUTED, family=family, parse_math=False, linespacing=1.2,
    )  # fmt: skip
    return Sheet(figure, axes, family, bold)


def label(page: Sheet, text: str, at: tuple[float, float], offset: tuple[float, float], **look: Any) -> None:
    """A text beside a place of the axes (coords="data") or of their box ("axes fraction"), offset in points."""
    coords = look.pop("coords", "data")
    usual: dict[str, Any] = {
        "size": LABEL,
        "color": TEXT,
        "family": page.family,
        "parse_math": False,
        "annotation_clip": False,
    }
    page.axes.annotate(text, at, offset, coords, "offset points", **(usual | look))


def text_width(texts: Sequence[str], size: float, family: list[str], weight: str = "normal") -> list[float]:
    """The width of each text in inches; repeated ones are measured once."""
    figure = Figure(dpi=100)
    renderer = FigureCanvasAgg(figure).get_renderer()
    shown = figure.text(0, 0, "", size=size, family=family, weight=weight, parse_math=False)
    known: dict[str, float] = {}
    for text in set(texts):
        shown.set_text(text)
        known[text] = shown.get_window_extent(renderer).width / 100 if text else 0.0
    return [known[text] for text in texts]


def wrapped(text: str, width: float, size: float, family: list[str], weight: str = "normal") -> list[str]:
    """A text in lines of about `width` inches."""
    if not text:
        return []
    one_line = " ".join(text.split())
    letters = int(0.94 * width * len(one_line) / text_width([one_line], size, family, weight)[0])
    return textwrap.wrap(one_line, max(letters, 8), break_on_hyphens=False)


def labels(tokens: Sequence[str]) -> list[str]:
    """Tokens as they stand beside a picture."""
    return [short(token, LABEL_UP_TO) for token in tokens]


def every(count: int, pitch: float, size: float = LABEL) -> range:
    """Which of `count` labels, `pitch` inches apart, have room."""
    return range(0, count, max(1, math.ceil(size * 1.15 / 72 / pitch)))


def as_bytes(figure: Figure, form: str) -> bytes:
    """The figure as "png", "svg" or "pdf". Text stays text, equal figures make equal files."""
    if form not in FORMS:
        raise HeadlightError(f"There is no picture form “{form}”: choose {', '.join(FORMS)}.")
    words = {text.get_gid(): " ".join(text.get_text().split()) for text in figure.texts if text.get_gid()}
    facts: dict[str, str | None] = {"Title": words.get("title", "")}
    facts |= {
        "png": {"Description": words.get("caption", ""), "Software": None},
        "svg": {"Description": words.get("caption", ""), "Date": None, "Creator": "Headlight"},
        "pdf": {"Subject": words.get("caption", ""), "CreationDate": None, "Creator": "Headlight"},
    }[form]
    file = io.BytesIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "headlight", "pdf.fonttype": 42}
    with _SAVING, matplotlib.rc_context(settings):
        figure.savefig(file, format=form, dpi=200 if form == "png" else 300, metadata=facts)
    return file.getvalue()


def families_for(*texts: Sequence[str] | str) -> list[str]:
    """The font families that a picture with these texts needs."""
    return fonts.families(*("".join(text) for text in texts))
