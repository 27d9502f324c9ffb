"""Token strings as people should see them: a space is ·, a line end ⏎, a piece of a character its bytes.

Knows nothing about models. Tokens are text, never markup: whoever draws them escapes them.
"""

import json
import re
import unicodedata

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

_BYTE_OF = {letter: byte for byte, letter in bytes_to_unicode().items()}
_SHOWN = {" ": "·", "\n": "⏎", "\t": "⇥"}


def display_tokens(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """One display string per id; special tokens literally, as in "[CLS]" or "<s>"."""
    special, added, byte_level = set(tokenizer.all_special_ids), _added(tokenizer), _is_byte_level(tokenizer)
    strings = []
    for number, raw in zip(ids, map(str, tokenizer.convert_ids_to_tokens(ids)), strict=True):
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


def _is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is not None and "ByteLevel" in json.dumps(json.loads(backend.to_str()).get("decoder"))
