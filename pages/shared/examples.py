"""The example texts: each with the selection that shows something, and a sentence on what to look for."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Example:
    title: str
    model: str
    text: str
    layer: int
    head: int
    token: int
    look_for: str  # true on that model: a test holds it to `key` and `at_least`
    key: int  # the token that gets the most weight
    at_least: float


@cache
def lab_example() -> dict[str, str | int]:
    """A text on which it matters which rows a cache keeps, with the settings that show it."""
    file = Path(__file__).parents[2] / "assets" / "lab.json"
    return json.loads(file.read_text(encoding="utf-8"))


@cache
def examples() -> tuple[Example, ...]:
    file = Path(__file__).parents[2] / "assets" / "examples.json"
    return tuple(Example(**entry) for entry in json.loads(file.read_text(encoding="utf-8")))


def first_look(model: str) -> Example | None:
    """The example that a model is opened with."""
    return next((example for example in examples() if example.model == model), None)
