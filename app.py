"""Headlight: see what every attention head looks at. Start it with: streamlit run app.py"""

from pathlib import Path

import streamlit as st

from pages.shared import frame, selection
from pages.shared.messages import make_place, notice
from pages.shared.share import ask_for_text

st.set_page_config("Headlight", "🔦", layout="wide", initial_sidebar_state="collapsed")
st.html(Path(__file__).parent / "assets" / "app.css")

pages = [
    st.Page("pages/heads.py", title="Heads", url_path="who-looks-at-whom", default=True),
    st.Page("pages/steps.py", title="Step by step", url_path="steps"),
    st.Page("pages/positions.py", title="Positions", url_path="positions"),
    st.Page("pages/cache.py", title="KV cache", url_path="cache"),
    st.Page("pages/relevance.py", title="Relevance", url_path="relevance"),
    st.Page("pages/road.py", title="Road", url_path="road"),
]
page = st.navigation(pages, position="hidden")

frame.begin()
notices = selection.read_url()
frame.header(pages)
if page.url_path == "road":
    frame.word_field()
elif page.url_path not in frame.OWN_INPUT:
    frame.text_and_model()
make_place()
for line in [*notices, ask_for_text()]:
    if line:
        notice(line)
page.run()
