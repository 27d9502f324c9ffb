"""Letters and sounds: what is read, and what is said, as numbers and as people write them.

The sounds are the 39 phonemes of the CMU Pronouncing Dictionary, written in ARPAbet, without its marks of stress.
"""

import torch
from torch import Tensor

from ..errors import HeadlightError

LETTERS = [*"abcdefghijklmnopqrstuvwxyz", "'"]
IPA = {  # General American, as the dictionary means it
    "AA": "ɑ",
    "AE": "æ",
    "AH": "ʌ",
    "AO": "ɔ",
    "AW": "aʊ",
    "AY": "aɪ",
    "B": "b",
    "CH": "tʃ",
    "D": "d",
    "DH": "ð",
    "EH": "ɛ",
    "ER": "ɝ",
    "EY": "eɪ",
    "F": "f",
    "G": "ɡ",
    "HH": "h",
    "IH": "ɪ",
    "IY": "i",
    "JH": "dʒ",
    "K": "k",
    "L": "l",
    "M": "m",
    "N": "n",
    "NG": "ŋ",
    "OW": "oʊ",
    "OY": "ɔɪ",
    "P": "p",
    "R": "ɹ",
    "S": "s",
    "SH": "ʃ",
    "T": "t",
    "TH": "θ",
    "UH": "ʊ",
    "UW": "u",
    "V": "v",
    "W": "w",
    "Y": "j",
    "Z": "z",
    "ZH": "ʒ",
}
PAD, START, END = 0, 1, 2
VOCABULARY = ["<pad>", "<start>", "<end>", *LETTERS, *IPA]
NUMBER = {token: number for number, token in enumerate(VOCABULARY)}
LONGEST = 34  # letters: the longest word of the dictionary
MOST_SOUNDS = 40  # what is said ends there, whatever the model thinks


def spelled(word: str) -> str:
    """The word as the models read it; raises HeadlightError where they cannot."""
    word = word.strip().lower().replace("’", "'")
    if not word:
        raise HeadlightError("There is no word: type one, such as “through”.")
    strange = next((letter for letter in word if letter not in NUMBER), None)
    if strange == " ":
        raise HeadlightError("One word at a time: type it without spaces.")
    if strange is not None:
        raise HeadlightError(f"“{strange}” is none of the letters that these models know: use a to z and ’.")
    if len(word) > LONGEST:
        raise HeadlightError(f"This word has {len(word)} letters, and at most {LONGEST} can be read: shorten it.")
    return word


def letter_numbers(word: str) -> list[int]:
    """The numbers of a spelled word's letters, and of the end behind them."""
    return [*(NUMBER[letter] for letter in word), END]


def sound_numbers(sounds: list[str]) -> list[int]:
    """The numbers of ARPAbet sounds, and of the end behind them."""
    return [*(NUMBER[sound] for sound in sounds), END]


def named(numbers: list[int]) -> list[str]:
    """What stands for the numbers on a page; the end of a word is called “end”."""
    return ["end" if number == END else VOCABULARY[number] for number in numbers]


def ipa(sounds: list[str]) -> str:
    """ARPAbet → the phonetic alphabet: ["TH", "R", "UW"] → "θɹu"."""
    return "".join(IPA[sound] for sound in sounds if sound in IPA)


def padded(rows: list[list[int]]) -> Tensor:
    """Rows of numbers → (rows, the longest), PAD behind the shorter ones."""
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
