"""How the page shows what is selected: every option with its default, how it is read from a URL and written there.

A bad value is None, and becomes a sentence. The widget of an option has the option's name as its key.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from attention_core.attribution import DEFAULT, METHODS
from attention_core.heads import SCORES
from attention_core.known_models import KNOWN
from attention_core.roofline import DEVICES
from attention_core.scorer import BASELINES
from attention_core.seq2seq.original import HEADS, LAYERS
from attention_core.seq2seq.stations import STATIONS
from attention_core.variants import ENCODINGS
from attention_core.views import BETWEEN, COMBINE

DTYPES = {"float32": "float32, exact", "bfloat16": "bfloat16", "float16": "float16", "int8": "int8 weights"}
KINDS = {"encoder": "Encoder", "decoder": "Decoder", "cross": "Cross"}
VIEWS = {"heat": "Heat map", "lines": "Lines", "distance": "Distance"}
PER = {"one": "100%", "head": "head’s largest", "row": "row’s largest"}
AGAINST = {"": "nothing", "head": "another head", "text": "another text", "model": "another model"}
TABS = {"growth": "Growth", "why": "Why", "bytes": "Bytes", "lab": "Lab"}  # of the page "KV cache"
ORDERS = {  # of the page "Positions"
    "ways": "The five ways",
    "shuffle": "Shuffle",
    "longer": "Longer texts",
    "needle": "Needle",
}
SENTENCE = "once upon a time there was a little girl"
TURNED = "4, 5, 6, 7, 8, 0, 1, 2, 3"  # its order at first: “there was a little girl once upon a time”
NEEDLE = "My friend is called Anna."
ROADS = {"length": "Where it breaks", "steps": "Steps in a row", "papers": "The papers"}  # of the page "Road"
CROSS = [f"{layer}.{head}" for layer in range(LAYERS) for head in range(HEADS)]  # of its Transformer
WORDS = {  # its examples
    "forthcoming": "none of them learnt it",
    "through": "hard to guess",
    "knowledge": "a letter that nobody says",
    "wednesday": "more than one",
    "responsibilities": "long",
    "blorptastic": "no such word",
}
BITS = {"32": "fp32", "16": "bf16", "8": "int8", "4": "int4"}
POLICIES = {
    "window": "Only the newest rows",
    "sinks": "The first rows and the newest",
    "least": "The rows looked at most",
    "row": "Every row but one",
    "quantised": "Every row, rounded",
}
BY = {"place": "Position", "size": "Size"}
BELOW = {"test": "Which to believe", "layers": "Layers and heads"}  # of the page "Relevance", under the bars
SCORED = {"log_probability": "log-probability", "logit": "logit", "probability": "probability"}
ATTENDED = {"all": "the mean of all heads", "layer": "the chosen layer’s heads", "head": "the chosen head"}
ROUNDED_TO = {"8": "8 bits", "4": "4 bits"}
MEASURED = {"control": "control", "text": "this text"}  # the control: random tokens, twice in a row
NOT_CHOSEN = -(10**9)  # a number that the URL leaves open
MOST_NEW = 1024  # tokens that may be asked for at once
LONGEST = 1000  # characters of a second text: all of them travel in the URL


@dataclass(frozen=True)
class Option:
    default: Any
    read: Callable[[str], Any]  # → the widget's value, or None
    write: Callable[[Any], str] = str
    in_words: str = ""  # what a good value is


def one_of(choices: dict[str, str], default: str) -> Option:
    return Option(
        default,
        lambda given: given if given in choices else None,
        in_words=f"one of {', '.join(filter(None, choices))}",
    )


def flag() -> Option:
    return Option(False, lambda given: {"1": True, "0": False}.get(given), lambda on: "1" if on else "0", "1 or 0")


def text() -> Option:
    return Option("", lambda given: given if len(given) <= LONGEST else None, in_words=f"at most {LONGEST} characters")


def number(default: float, low: float, high: float) -> Option:
    def read(given: str) -> float | None:
        good = re.fullmatch(r"\d{1,4}(\.\d{1,4})?", given) and low <= float(given) <= high
        return float(given) if good else None

    return Option(default, read, lambda value: f"{value:g}", f"a number from {low:g} to {high:g}")


def count(default: int = 0, low: int = 0, high: int = 10**6) -> Option:
    def read(given: str) -> int | None:
        return int(given) if re.fullmatch(r"[0-9]{1,9}", given) and low <= int(given) <= high else None

    return Option(default, read, in_words=f"a whole number from {low:,} to {high:,}")


def place() -> Option:
    """A number that may be left open: the page then takes the place that tells most."""
    return replace(count(), default=NOT_CHOSEN)


def names() -> Option:
    """Several names, with commas between them; a comma that is a name itself is not needed anywhere."""
    return Option([], lambda given: [part for part in given.split(",") if part][:20], ",".join, "names")


def listed(pattern: str, in_words: str) -> Option:
    """A list that is typed: “3.1, 2.0”. The widget's value is the text itself."""

    def read(given: str) -> str | None:
        parts = [part.strip() for part in given.split(",") if part.strip()]
        return ", ".join(parts) if len(parts) <= 400 and all(re.fullmatch(pattern, part) for part in parts) else None

    return Option("", read, lambda given: given.replace(" ", ""), in_words)


def _methods_in(given: str) -> list[str] | None:
    """None of them: the default ones."""
    named = [part for part in dict.fromkeys(given.split(",")) if part]
    return (named or list(DEFAULT)) if set(named) <= set(METHODS) else None


OPTIONS: dict[str, Option] = {
    "dtype": one_of(DTYPES, "float32"),
    "kind": one_of({"": "", **KINDS}, ""),
    "target_text": text(),
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
    "step": count(),
    "key": place(),
    "predict": flag(),
    "temperature": number(1.0, 0.01, 10),
    "moved": place(),
    "tab": one_of(TABS, "growth"),
    "new": count(12, 1, MOST_NEW),
    "sampled": flag(),
    "sampling_temperature": number(0.8, 0.01, 10),
    "top_k": count(0),
    "top_p": number(1.0, 0.01, 1),
    "seed": count(0),
    "stop": text(),
    "until": count(0, 0, MOST_NEW),
    "at": place(),
    "forced": listed(r"[0-9]{1,6}:[0-9]{1,7}", "a list such as 3:512 (step:token)"),
    "stack": flag(),
    "compare": one_of({"": "", "1": "1", "0": "0"}, ""),
    "run": Option(
        "", lambda given: given if re.fullmatch("[0-9a-f]{16}", given) else None, in_words="the name of an opened run"
    ),
    "cost": one_of({"work": "Work", "time": "Time"}, "work"),
    "tokens_at": count(0),
    "bits": one_of(BITS, "16"),
    "batch": count(1, 1, 4096),
    "known": one_of({"": "", **{model.name: "" for model in KNOWN}}, ""),
    "device": one_of({device.name: "" for device in DEVICES}, "H100 (SXM)"),
    "target": text(),
    "contrast": text(),
    "method": Option(list(DEFAULT), _methods_in, ",".join, f"one or more of {', '.join(METHODS)}"),
    "by": one_of(BY, "place"),
    "below": one_of(BELOW, "test"),
    "score": one_of(SCORED, "log_probability"),
    "baseline": one_of(BASELINES, "mean"),
    "path": count(64, 2, 300),
    "samples": count(25, 2, 500),
    "attended": one_of(ATTENDED, "all"),
    "policy": one_of(POLICIES, "window"),
    "window": count(16, 1, 4096),
    "first": count(4, 1, 4096),
    "row": place(),
    "rounded_to": one_of(ROUNDED_TO, "4"),
    "other": text(),
    "order": one_of(ORDERS, "ways"),
    "encoding": one_of(ENCODINGS, "sinusoidal"),
    "turned": count(5, 0, 127),
    "sentence": replace(text(), default=SENTENCE),
    "words_order": listed(r"[0-9]{1,2}", "a list such as 3, 0, 1, 2: the words in their new order"),
    "both_ways": flag(),
    "small_layer": count(),
    "small_head": count(),
    "small_row": place(),
    "needle": replace(text(), default=NEEDLE),
    "word": replace(text(), default="forthcoming"),
    "station": one_of(dict.fromkeys(STATIONS, ""), "additive"),
    "sound": place(),
    "letter": place(),
    "cross": one_of(dict.fromkeys(["", *CROSS], ""), ""),
    "road": one_of(ROADS, "length"),
    "vs_model": Option("", lambda given: given if len(given) < 400 else None, in_words="a model"),
}


def numbers_in(given: str) -> list[int]:
    """ "3, 5" → [3, 5]."""
    return list(dict.fromkeys(int(part) for part in given.split(",") if part.strip()))


def forced_in(given: str) -> tuple[tuple[int, int], ...]:
    """ "3:512, 7:9" → ((3, 512), (7, 9)): step and token."""
    pairs = [part.strip().split(":") for part in given.split(",") if part.strip()]
    return tuple((int(step), int(token)) for step, token in pairs)


def heads_in(given: str) -> list[tuple[int, int | None]]:
    """ "3.1, 2.*" → [(3, 1), (2, None)]: layer and head, None for all heads of a layer."""
    pairs = [part.strip().split(".") for part in given.split(",") if part.strip()]
    return [(int(layer), None if head == "*" else int(head)) for layer, head in pairs]
