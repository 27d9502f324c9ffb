"""What the stations of the road say and look at, in sentences."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..seq2seq.recurrent import SIZES
from ..seq2seq.saying import Alignment, Saying
from ..seq2seq.sounds import IPA, ipa
from ..seq2seq.stations import STATIONS
from .blocks import written
from .road_cells import Cell, can_look, head_name
from .words import percent

NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NO_JUDGE = "Who is right your ear must tell: no dictionary is at hand here."
NOTHING = f"Nothing to see: everything went through one vector of {SIZES.hidden} numbers."


def title(name: str) -> str:
    return STATIONS[name].title


def spoken(saying: Saying) -> str:
    """ "θɹu"; a station may say nothing at all."""
    return ipa(saying.said) or "nothing"


def sound_name(sound: str) -> str:
    """ "u (UW)"."""
    return f"{IPA[sound]} ({sound})" if sound in IPA else "the end"


def letter_name(saying: Saying, letter: int) -> str:
    return "the end" if letter == len(saying.letters) - 1 else f"“{saying.letters[letter]}” (letter {letter})"


def listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def counted(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


# ── what they say ───────────────────────────────────────────────────────────────────────────────────────────────────


def agreement_in_words(sayings: Mapping[str, Saying]) -> tuple[str, list[str]]:
    """Which stations say the same, and who says something else. Whether that is right no station can tell."""
    said = Counter(spoken(saying) for saying in sayings.values())
    most, times = said.most_common(1)[0]
    total = counted(len(sayings))
    if times == len(sayings):
        return f"All {total} stations say {most}", [NO_JUDGE]
    if times == 1:
        return f"The {total} stations say {total} different things", [NO_JUDGE]
    others = []
    for sounds in said:
        names = [title(name) for name, saying in sayings.items() if spoken(saying) == sounds]
        if sounds != most:
            others.append(f"{listed(names)} {'says' if len(names) == 1 else 'say'} {sounds}.")
    return f"{counted(times).capitalize()} of {total} stations say {most}", [*others, NO_JUDGE]


# ── what they look at ───────────────────────────────────────────────────────────────────────────────────────────────


def who(saying: Saying, alignment: Alignment) -> str:
    """ "The Transformer, layer 1, head 2"."""
    head = head_name(alignment)
    return title(saying.station) + (f", layer {alignment.layer}, head {alignment.head}" if head else "")


def cell_in_words(saying: Saying, alignment: Alignment, cell: Cell) -> tuple[str, list[str]]:
    """One weight, and what it is among the others of its row."""
    sound, letter = sound_name(saying.sounds[cell.sound]), letter_name(saying, cell.letter)
    row = alignment.weights[cell.sound]
    if not can_look(alignment)[cell.sound, cell.letter]:
        return f"{who(saying, alignment)}: {sound} cannot look at {letter}", ["It is outside of the window."]
    weight = float(row[cell.letter])
    rest = [f"Its score is {written(float(alignment.scores[cell.sound, cell.letter]), '.3f')}."]
    best = int(row.argmax())
    if best == cell.letter:
        rest.append("No letter weighs more for this sound.")
    else:
        rest.append(f"The most, {percent(float(row[best]))}, goes to {letter_name(saying, best)}.")
    if alignment.before is not None:
        rest.append(f"With the bell curve the row sums to {percent(float(row.sum()))}.")
    rest.append("Letters and sounds count from 0.")
    return f"{who(saying, alignment)}: {sound} looks {percent(weight)} at {letter}", rest


def alignment_in_words(saying: Saying, alignment: Alignment | None) -> str:
    """For every sound the letter that it looks at most: the text twin of a matrix."""
    if alignment is None:
        return f"{title(saying.station)} says {spoken(saying)}. {NOTHING}"
    looks = [
        f"{sound_name(sound)} {percent(float(row.max()))} at {letter_name(saying, int(row.argmax()))}"
        for sound, row in zip(saying.sounds, alignment.weights, strict=True)
    ]
    return f"{who(saying, alignment)} says {spoken(saying)} and looks most: {', '.join(looks)}."


def vector_in_words(saying: Saying) -> tuple[str, list[str]]:
    """What is to be said where there is no alignment."""
    letters = len(saying.letters)
    return (
        f"{title(saying.station)}: {letters} letters became one vector of {SIZES.hidden} numbers",
        [
            f"The end of the word counts as one of the {letters}. All {len(saying.sounds)} sounds, the end among them, "
            "are said from this vector: no letter can be looked at again, and a longer word gets no longer vector."
        ],
    )


# ── where it breaks ─────────────────────────────────────────────────────────────────────────────────────────────────


def size(part: Mapping[str, Any]) -> str:
    """ "5", "up to 4", "13 and more"."""
    low, high = part["from"], part["to"]
    return f"{low}" if low == high else f"up to {high}" if low == 1 else f"{low} and more"


def share_with_interval(found: Mapping[str, float]) -> str:
    """ "21.3% (20.1% to 22.6%)"."""
    return f"{percent(found['share'])} ({percent(found['low'])} to {percent(found['high'])})"


def lengths_in_words(found: Mapping[str, Any], chosen: str) -> tuple[str, list[str]]:
    """How many words the fixed vector and the chosen station say wrong, long ones and short ones."""
    stations, long = found["stations"], found["long"]

    def wrong(name: str, which: str) -> str:
        return percent(stations[name][which]["wrong"]["share"])

    least = min(stations, key=lambda name: stations[name]["long"]["wrong"]["share"])
    best = stations[least]["long"]["wrong"]
    near = [name for name, one in stations.items() if name != least and one["long"]["wrong"]["low"] <= best["high"]]
    rest = [f"{title(least)} makes the fewest mistakes in long words, {wrong(least, 'long')}."]
    if near:
        rest[0] = f"{rest[0][:-1]}; the interval of {listed([title(name) for name in near])} meets its own."
    if least != "transformer":
        rest.append(
            f"The Transformer, at {wrong('transformer', 'long')}, is not the best at this size and after so short a "
            "training."
        )
    rest.append(
        f"Measured on {found['tested']:,} words that no station learnt; the bands and the table have 95% intervals. A "
        "word is wrong if a single sound differs from all that the dictionary lists."
    )
    if chosen == "bottleneck":
        said = f"The fixed vector says {wrong(chosen, 'long')} of words with {long} letters and more wrong"
        return said, [f"Of shorter words it says {wrong(chosen, 'short')} wrong.", *rest]
    return (
        f"Of words with {long} letters and more {title(chosen)} says {wrong(chosen, 'long')} wrong, the fixed vector "
        f"{wrong('bottleneck', 'long')}",
        [
            f"Of shorter words {title(chosen)} says {wrong(chosen, 'short')} wrong, the fixed vector "
            f"{wrong('bottleneck', 'short')}.",
            *rest,
        ],
    )


def lengths_alt(found: Mapping[str, Any]) -> str:
    """The alternative text of the curves."""
    parts = []
    for name, one in found["stations"].items():
        first, last = one["by_length"][0], one["by_length"][-1]
        parts.append(
            f"{title(name)} from {percent(first['wrong']['share'])} ({size(first)} letters) to "
            f"{percent(last['wrong']['share'])} ({size(last)})"
        )
    return f"Share of words that are said wrong by their length: {'; '.join(parts)}."


# ── steps in a row ──────────────────────────────────────────────────────────────────────────────────────────────────


def steps_in_words(sayings: Mapping[str, Saying]) -> tuple[str, list[str]]:
    """How many steps have to wait for the one before: the Transformer against one that reads letter by letter."""
    new, old = sayings["transformer"].steps, sayings["additive"].steps
    learning, before = new.reading + new.learning, old.reading + old.learning
    return (
        f"To learn this word the Transformer needs {counted(learning)} steps in a row, additive attention {before}",
        [
            "A step in a row is one that has to wait for the one before it.",
            f"Additive attention reads letter by letter, {old.reading} with the end, and then says sound by sound, "
            f"{old.learning}; the other stations before the Transformer do the same. The Transformer takes all letters "
            "at once; and while it learns, the right sounds are known, so that it takes these at once, too. (Learning "
            "is counted here as if what each station says were right.)",
            "Many processors can then work side by side on one word. On a single one, and with words so short, that "
            "saves little: the milliseconds are in the table.",
            f"Saying stays step by step for every station ({new.saying} steps for the Transformer): each sound must be "
            "known before the next can be chosen. A step of the Transformer passes through its layers, one after the "
            "other.",
        ],
    )


def steps_alt(sayings: Mapping[str, Saying]) -> str:
    parts = [
        f"{title(name)}: reading {one.steps.reading}, learning {one.steps.learning}, saying {one.steps.saying}"
        for name, one in sayings.items()
    ]
    return f"Steps in a row for “{next(iter(sayings.values())).word}”. {'; '.join(parts)}."


# ── the papers ──────────────────────────────────────────────────────────────────────────────────────────────────────


def papers_in_words(saying: Saying, cell: Cell) -> tuple[str, list[str]]:
    """What the timeline is filled with."""
    years = [station.year for station in STATIONS.values()]
    return (
        f"From one vector to attention alone in {counted(max(years) - min(years))} years",
        [
            "A score says how well a letter fits the sound that is to be said. Each equation is filled with the "
            f"numbers of sound number {cell.sound} and {letter_name(saying, cell.letter)} of “{saying.word}”: choose "
            "another cell above."
        ],
    )
