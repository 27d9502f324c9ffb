"""The stations' alignments, mistakes and steps as tables of exact numbers."""

from collections.abc import Mapping
from typing import Any

from ..seq2seq.saying import Alignment, Saying
from ..seq2seq.sounds import IPA
from .blocks import written
from .road_cells import can_look
from .road_words import share_with_interval, size, title
from .step import Table

MOST = 18  # letters beside each other: as many as fit a page


def weights_tables(saying: Saying, alignment: Alignment) -> list[Table]:
    """Every weight: a row for each sound, a column for each letter, — outside of a window; of a long word in parts.
    Then the chance that the sound had."""
    last = len(saying.letters) - 1
    letters = [letter if n == last else f"{letter} {n}" for n, letter in enumerate(saying.letters)]
    names = [f"{sound} {IPA[sound]}" if sound in IPA else sound for sound in saying.sounds]
    rows = [
        [written(float(weight), ".4f") if there else "—" for weight, there in zip(row, seen, strict=True)]
        for row, seen in zip(alignment.weights, can_look(alignment), strict=True)
    ]
    chances = [written(float(chance), ".4f") for chance in saying.chances]
    made = []
    for begin in range(0, len(letters), MOST):
        part = slice(begin, begin + MOST)
        header = ("sound ↓ letter →", *letters[part], "chance of the sound")
        parts = [(name, *row[part], chance) for name, row, chance in zip(names, rows, chances, strict=True)]
        made.append(Table(header, tuple(parts)))
    return made


def lengths_table(found: Mapping[str, Any], what: str = "wrong") -> Table:
    """Every point of the curves with its 95 % interval: words that are wrong, or sounds (what = "sound_errors")."""
    stations = found["stations"]
    first = next(iter(stations.values()))["by_length"]
    rows = [
        (
            size(part),
            f"{part['words']:,}",
            *(share_with_interval(one["by_length"][n][what]) for one in stations.values()),
        )
        for n, part in enumerate(first)
    ]
    named = "words wrong" if what == "wrong" else "sounds wrong"
    return Table((f"letters ({named})", "words", *map(title, stations)), tuple(rows))


def steps_table(sayings: Mapping[str, Saying], found: Mapping[str, Any]) -> Table:
    """The steps for this word, those of an average word of the test, and what the station cost."""
    rows = []
    for name, saying in sayings.items():
        mean, here = found["stations"][name], saying.steps
        usual = " / ".join(f"{mean['steps'][part]:g}" for part in ("reading", "learning", "saying"))
        rows.append(
            (
                title(name),
                *(str(n) for n in (here.reading, here.learning, here.saying)),
                usual,
                f"{mean['parameters']:,}",
                f"{mean['step_milliseconds']:g}",
            )
        )
    header = ("station", "reading", "learning", "saying", "the three for an average word", "parameters")
    return Table((*header, "milliseconds for a step of training"), tuple(rows))
