"""Texts that are too long for a URL, kept on this server under a name that fits."""

import hashlib
from collections import OrderedDict
from threading import Lock

import streamlit as st


class TextStore:
    """Texts by the first 16 hex digits of their SHA-256; the oldest go first."""

    def __init__(self, limit: int = 32 << 20):
        self.limit, self._texts, self._lock = limit, OrderedDict[str, str](), Lock()

    def put(self, text: str) -> str:
        name = text_id(text)
        with self._lock:
            self._texts[name] = text
            self._texts.move_to_end(name)
            while len(self._texts) > 1 and sum(map(len, self._texts.values())) > self.limit:
                self._texts.popitem(last=False)
        return name

    def get(self, name: str) -> str | None:
        return self._texts.get(name)


def text_id(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@st.cache_resource
def texts() -> TextStore:
    return TextStore()
