"""Which installed fonts can show a text. matplotlib falls back from letter to letter, in the order given to it."""

from functools import cache

from matplotlib.font_manager import FontEntry, fontManager, weight_dict
from matplotlib.ft2font import FT2Font

FIRST = "DejaVu Sans"  # comes with matplotlib
LAST = "Last Resort High-Efficiency"  # so does this: a box for every letter, so that nothing warns or crashes
_FITTING = ("Noto Sans", "Sans", "Noto", "")  # of several fonts that have a letter, the one that fits the rest


def families(*texts: str) -> list[str]:
    """DejaVu Sans, then as few further families as cover the letters of the texts."""
    wanted = {ord(letter) for text in texts for letter in text} - _letters(FIRST)
    chosen = [FIRST]
    while wanted:
        best = max(_others(), key=lambda family: len(wanted & _letters(family)), default=LAST)
        if not wanted & _letters(best):
            return [*chosen, LAST]
        chosen.append(best)
        wanted -= _letters(best)
    return chosen


@cache
def _others() -> list[str]:
    """Upright families, sans-serif ones first: max() takes the first of equals."""
    names = {e.name for e in fontManager.ttflist if e.style == "normal"} - {FIRST, LAST}
    return sorted(names, key=lambda name: (next(n for n, part in enumerate(_FITTING) if part in name), name))


def bold(family: list[str]) -> str:
    """The weight of what stands out: bold, where all these families have it."""
    names = {e.name for e in fontManager.ttflist if _weight(e) >= 600}
    return "bold" if names.issuperset(family) else "normal"


def _weight(entry: FontEntry) -> int:
    return int(weight_dict.get(str(entry.weight), entry.weight))


@cache
def _letters(family: str) -> frozenset[int]:
    """The code points that a family's regular font has."""
    fonts = [e for e in fontManager.ttflist if e.name == family and e.style == "normal"]
    try:
        return frozenset(FT2Font(min(fonts, key=lambda e: abs(_weight(e) - 400)).fname).get_charmap())
    except (RuntimeError, OSError):  # a font file that has gone or is broken
        return frozenset()
