"""How the page shows what is selected: every option with its default, how it is read from a URL and written there.

A bad value is None, and becomes a sentence. The widget of an option has the option's name as its key.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attention_core.heads import SCORES
from attention_core.views import BETWEEN, COMBINE

DTYPES = {"float32": "float32, exact", "bfloat16": "bfloat16", "float16": "float16", "int8": "int8 weights"}
KINDS = {"encoder": "Encoder", "decoder": "Decoder", "cross": "Cross"}
VIEWS = {"heat": "Heat map", "lines": "Lines", "distance": "Distance"}
PER = {"one": "100%", "head": "head’s largest", "row": "row’s largest"}
AGAINST = {"": "nothing", "head": "another head", "text": "another text", "model": "another model"}
MEASURED = {"control": "control", "text": "this text"}  # the control: random tokens, twice in a row
LONGEST = 1000  # characters of a second text: all of them travel in the URL


@dataclass(frozen=True)
class Option:
    default: Any
    read: Callable[[str], Any]  # → the widget's value, or None
    write: Callable[[Any], str] = str
    in_words: str = ""  # what a good value is


def one_of(choices: dict[str, str], default: str) -> Option:
    return Option(default, lambda given: given if given in choices else None, in_words=f"one of {', '.join(choices)}")


def flag() -> Option:
    return Option(False, lambda given: {"1": True, "0": False}.get(given), lambda on: "1" if on else "0", "1 or 0")


def text() -> Option:
    return Option("", lambda given: given if len(given) <= LONGEST else None, in_words=f"at most {LONGEST} characters")


def number(default: float, low: float, high: float) -> Option:
    def read(given: str) -> float | None:
        good = re.fullmatch(r"\d{1,4}(\.\d{1,4})?", given) and low <= float(given) <= high
        return float(given) if good else None

    return Option(default, read, lambda value: f"{value:g}", f"a number from {low:g} to {high:g}")


def count(default: int = 0) -> Option:
    return Option(
        default, lambda given: int(given) if re.fullmatch(r"[0-9]{1,6}", given) else None, in_words="a number"
    )


def names() -> Option:
    """Several names, with commas between them; a comma that is a name itself is not needed anywhere."""
    return Option([], lambda given: [part for part in given.split(",") if part][:20], ",".join, "names")


def listed(pattern: str, in_words: str) -> Option:
    """A list that is typed: “3.1, 2.0”. The widget's value is the text itself."""

    def read(given: str) -> str | None:
        parts = [part.strip() for part in given.split(",") if part.strip()]
        return ", ".join(parts) if len(parts) <= 400 and all(re.fullmatch(pattern, part) for part in parts) else None

    return Option("", read, lambda given: given.replace(" ", ""), in_words)


OPTIONS: dict[str, Option] = {
    "dtype": one_of(DTYPES, "float32"),
    "kind": one_of({"": "", **KINDS}, ""),
    "target": text(),
    "second": text(),
    "view": one_of(VIEWS, "heat"),
    "log": flag(),
    "per": one_of(PER, "one"),
    "cut": number(0.0, 0, 100),
    "drop": names(),
    "words": flag(),
    "ids": flag(),
    "heads": listed(r"[0-9]{1,4}\.([0-9]{1,4}|\*)", "a list such as 3.1, 2.0 (layer.head), or 3.* for a whole layer"),
    "how": one_of(COMBINE, "mean"),
    "tokens": listed(r"[0-9]{1,6}", "a list of tokens such as 3, 5"),
    "between": one_of({"": "", **BETWEEN}, ""),
    "sort": one_of({"": "", **{name: score.title for name, score in SCORES.items()}}, ""),
    "least": number(0.0, 0, 9999),
    "measured": one_of(MEASURED, "control"),
    "against": one_of(AGAINST, ""),
    "vs_layer": count(),
    "vs_head": count(),
    "vs_text": text(),
    "vs_model": Option("", lambda given: given if len(given) < 400 else None, in_words="a model"),
}


def numbers_in(given: str) -> list[int]:
    """ "3, 5" → [3, 5]."""
    return list(dict.fromkeys(int(part) for part in given.split(",") if part.strip()))


def heads_in(given: str) -> list[tuple[int, int | None]]:
    """ "3.1, 2.*" → [(3, 1), (2, None)]: layer and head, None for all heads of a layer."""
    pairs = [part.strip().split(".") for part in given.split(",") if part.strip()]
    return [(int(layer), None if head == "*" else int(head)) for layer, head in pairs]
