"""What this server may open: any model only where it listens on this machine alone, or where its host says so.

A link must not make a server read its disk or download gigabytes.
"""

import os

import streamlit as st

AT_HOME = ("localhost", "127.0.0.1", "::1")


def any_model_allowed() -> bool:
    return os.environ.get("HEADLIGHT_ANY_MODEL") == "1" or st.get_option("server.address") in AT_HOME
