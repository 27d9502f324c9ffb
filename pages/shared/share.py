"""The share button: the link to this view, as text and as a QR code that is drawn here."""

import html
import socket
from urllib.parse import urlsplit, urlunsplit

import segno
import streamlit as st

from . import selection
from .texts import text_id, texts


def class_address() -> str:
    """The address under which others in the same network reach this page: localhost means nothing to them."""
    address = urlsplit(st.context.url or "http://localhost:8501/")
    listens_on = st.get_option("server.address")
    if address.hostname in ("localhost", "127.0.0.1", "::1") and listens_on in (None, "", "0.0.0.0", "::"):
        address = address._replace(netloc=f"{_own_address()}:{address.port or 80}")
    return urlunsplit(address._replace(path=address.path or "/", query="", fragment=""))


def _own_address() -> str:
    """This machine's address in its network. Connecting a UDP socket sends nothing; it only picks the interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return "localhost"


def share_button() -> None:
    with st.popover("Share", key="share", on_change="rerun") as opened:
        if not opened.open:
            return
        link = selection.link(class_address())
        text = st.session_state.text
        if "textid=" in link:
            st.write(
                "This text is too long for a link. Send it as a file too: where it is not known, the link asks for it."
            )
            st.download_button(
                "Text as a file", text.encode("utf-8", "replace"), "text.txt", "text/plain", on_click="ignore"
            )
        st.code(link, language=None, wrap_lines=True)
        try:
            picture = segno.make(link, error="l", micro=False).svg_data_uri(scale=4, border=2, light="#fff")
        except segno.DataOverflowError:
            st.write("The link is too long for a QR code.")
            return
        st.html(f'<img class="qr" alt="QR code of the link" src="{html.escape(picture)}">')


def ask_for_text() -> str | None:
    """A link named a long text that this server does not know: ask for the file; → a sentence about it, if any."""
    wanted = st.session_state.wanted_text
    if wanted is None:
        return None
    given = st.session_state.messages.file_uploader("The link’s text", type=["txt", "md"], key="text_file")
    if given is None:
        return "This link needs its text, which is too long for a link: drop the file that came with it here."
    text = given.getvalue().decode("utf-8", "replace")
    if text_id(text) != wanted:
        return f"“{given.name}” is another text than the link’s. Drop the file that came with the link."
    texts().put(text)
    st.rerun()
