"""Sentences on a page. They may hold tokens and texts of others, so they are text, never markup."""

import html
from collections.abc import Sequence

import streamlit as st


def make_place() -> None:
    """Where notices stand on this run. It is always there, so that a notice moves nothing else to another place."""
    st.session_state.messages = st.container(key="messages")


def notice(sentence: str) -> None:
    """Something the user should know or do."""
    st.session_state.messages.html(f'<p class="notice" role="status">{html.escape(sentence)}</p>')


def told(title: str, sentences: Sequence[str]) -> None:
    """What a picture tells: a title and some sentences, one after the other."""
    rest = html.escape(" ".join(sentences))
    st.html(f'<p class="finding"><strong>{html.escape(title)}.</strong> {rest}</p>')


def sentence(text: str, kind: str = "sentence") -> None:
    st.html(f'<p class="{kind}">{html.escape(text)}</p>')
