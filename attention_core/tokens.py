"""Token strings as people should see them: a space is ·, a line end ⏎, a piece of a character its bytes.

Knows nothing about models. Tokens are text, never markup: whoever draws them escapes them.
"""

import json
import unicodedata

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

_BYTE_OF = {letter: byte for byte, letter in bytes_to_unicode().items()}
_SHOWN = {" ": "·", "\n": "⏎", "\t": "⇥"}


def display_tokens(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """One display string per id; special tokens literally, as in "[CLS]" or "<s>"."""
    special, byte_level = set(tokenizer.all_special_ids), _is_byte_level(tokenizer)
    return [
        raw if number in special else _from_bytes(raw) if byte_level else visible_text(raw.replace("▁", " "))
        for number, raw in zip(ids, map(str, tokenizer.convert_ids_to_tokens(ids)), strict=True)
    ]


def visible_text(text: str) -> str:
    """Spaces and invisible characters made visible; everything else as it is."""
    return "".join(_SHOWN.get(letter) or _visible(letter) for letter in text)


def _visible(letter: str) -> str:
    invisible = unicodedata.category(letter)[0] == "C" or unicodedata.category(letter) in ("Zs", "Zl", "Zp")
    return f"‹U+{ord(letter):04X}›" if invisible else letter


def _from_bytes(raw: str) -> str:
    """A token of a byte-level vocabulary, where each letter stands for one byte."""
    if any(letter not in _BYTE_OF for letter in raw):  # added tokens stand there as plain text
        return visible_text(raw)
    packed = bytes(_BYTE_OF[letter] for letter in raw)
    try:
        return visible_text(packed.decode("utf-8"))
    except UnicodeDecodeError:
        return f"‹{packed.hex(' ').upper()}›"


def _is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is not None and "ByteLevel" in json.dumps(json.loads(backend.to_str()).get("decoder"))
