"""Figures and tables on a page."""

import re
from collections.abc import Callable

import pandas as pd
import streamlit as st

from attention_core.figures.cache_figures import DARK, LIGHT, Colours
from attention_core.figures.step import Table

_SHORT = re.compile(r"<td>(?=[^<]{1,16}</td>)")  # a number stays on one line with its unit


def colours() -> Colours:
    """Those of the page's theme."""
    return DARK if st.context.theme.type == "dark" else LIGHT


def plot(figure, key: str, alt: str) -> None:
    """A plotly figure; alt: what it shows, for those who cannot see it."""
    st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=alt)


def table_html(table: Table) -> str:
    rows = pd.DataFrame(list(table.rows), columns=[*table.header])
    return f'<div class="table">{rows.to_html(index=False, border=0, escape=True)}</div>'


def show_table(table: Table) -> None:
    st.html(_SHORT.sub('<td style="white-space: nowrap">', table_html(table)))


def opened(title: str, key: str, *tables: Callable[[], Table]) -> None:
    """Tables in a section that is closed at first, made when it is opened."""
    with st.expander(title, key=key, on_change="rerun") as section:
        if section.open:
            for made in tables:
                show_table(made())
