"""Token strings as people should see them: a space is ·, a line end ⏎, a piece of a character its bytes.

Knows nothing about models. Tokens are text, never markup: whoever draws them escapes them.
"""

import json
import re
import unicodedata
import weakref

from transformers import BatchEncoding, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

_BYTE_OF = {letter: byte for byte, letter in bytes_to_unicode().items()}
_SHOWN = {" ": "·", "\n": "⏎", "\t": "⇥"}


def display_tokens(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """One display string per id; special tokens literally, as in "[CLS]" or "<s>"."""
    special, added, byte_level = set(tokenizer.all_special_ids), _added(tokenizer), _is_byte_level(tokenizer)
    strings = []
    for number in ids:
        raw = _raw(tokenizer, number)
        if raw is None:
            strings.append(f"‹id {number}›")
            continue
        byte = re.fullmatch("<0x([0-9A-F]{2})>", raw)  # how SentencePiece writes a byte that is no character of its own
        if number in special:
            strings.append(raw)
        elif byte_level and number not in added:
            strings.append(_from_bytes(bytes(_BYTE_OF[letter] for letter in raw)))
        elif byte:
            strings.append(_from_bytes(bytes.fromhex(byte[1])))
        else:
            strings.append(visible_text(raw.replace("▁", " ")))
    return strings


def _raw(tokenizer: PreTrainedTokenizerBase, number: int) -> str | None:
    """The token as it stands in the vocabulary; None where a model has more rows than its tokenizer has tokens."""
    try:
        found = tokenizer.convert_ids_to_tokens(number)
    except IndexError:  # so says a slow tokenizer
        return None
    return None if found is None else str(found)


def word_numbers(encoded: BatchEncoding, offsets: list[tuple[int, int]], texts: tuple[str, ...]) -> list[int | None]:
    """The number of the word that each token is a piece of; None for special tokens.

    A word is what the tokenizer takes for one, or a whole number, with the space in front of it; where the tokenizer
    takes a whole sentence for one word it is split at white space.
    """
    numbers: list[int | None] = []
    count = -1
    before: tuple[int, int | None, int, int] | None = None  # the text, word, start and end of the token before
    for (start, end), word, part in zip(offsets, encoded.word_ids(), encoded.sequence_ids(), strict=True):
        if part is None:
            numbers.append(None)
            continue
        count += before is None or before[0] != part or _begins_word(texts[part], start, before[2:], word == before[1])
        numbers.append(count)
        before = (part, word, start, end)
    return numbers


def _begins_word(text: str, start: int, before: tuple[int, int], same_word: bool) -> bool:
    """Whether a token that begins at `start` begins a word, given where the token before lies."""
    begin, end = before
    if start < end:  # another piece of the same character
        return False
    if any(letter.isspace() for letter in text[end : start + 1]):
        return True
    last, number = text[begin:end], text[start : start + 1].isdigit()
    if last and not last.strip(" "):  # a space alone
        return not (same_word or number)
    return last[-1:].isspace() or not (same_word or number and last[-1:].isdigit())


def word_label(pieces: list[str]) -> str:
    """The display strings of a word's tokens as one: without the space in front, bytes that make up a character as that
    character, and without the ## that WordPiece puts before later pieces."""
    joined = pieces[0] + "".join(piece.removeprefix("##") for piece in pieces[1:])
    whole = re.sub("(?:‹[0-9A-F]{2}(?: [0-9A-F]{2})*›)+", lambda run: _from_bytes(_bytes_in(run[0])), joined)
    return whole.lstrip("·") or whole


def _bytes_in(shown: str) -> bytes:
    return bytes.fromhex(shown.replace("‹", " ").replace("›", " "))


def visible_text(text: str) -> str:
    """Spaces and invisible characters made visible; everything else as it is."""
    return "".join(_SHOWN.get(letter) or _visible(letter) for letter in text)


def _visible(letter: str) -> str:
    invisible = unicodedata.category(letter)[0] == "C" or unicodedata.category(letter) in ("Zs", "Zl", "Zp")
    return f"‹U+{ord(letter):04X}›" if invisible else letter


def _from_bytes(packed: bytes) -> str:
    """A character, or the bytes of a piece of one."""
    try:
        return visible_text(packed.decode("utf-8"))
    except UnicodeDecodeError:
        return f"‹{packed.hex(' ').upper()}›"


def _added(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids of added tokens, which stand in the vocabulary as plain text."""
    return set(getattr(tokenizer, "added_tokens_decoder", {}))


_BYTE_LEVEL: "weakref.WeakKeyDictionary[PreTrainedTokenizerBase, bool]" = weakref.WeakKeyDictionary()


def _is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Asked once of each tokenizer: it writes its whole vocabulary out to say so."""
    if tokenizer not in _BYTE_LEVEL:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        decoder = json.loads(backend.to_str()).get("decoder") if backend is not None else None
        _BYTE_LEVEL[tokenizer] = "ByteLevel" in json.dumps(decoder)
    return _BYTE_LEVEL[tokenizer]
