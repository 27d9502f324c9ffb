"""A Capture as a notebook shows it: the stand-alone page in a frame, or a picture of all heads where that is too large.

Importing this file gives Capture its picture; record.py itself knows nothing about drawing.
"""

import base64
import html
from typing import Any, cast

from ..export import count_numbers
from ..record import Capture
from .captions import caption_of, entry_names
from .standalone import standalone_html

PAGE_UP_TO = 4_000_000  # letters of the page; a notebook keeps it in its file
_NUMBERS_UP_TO = PAGE_UP_TO // 6  # base64 takes 16 letters for 3 numbers
_HEIGHT = 1000


def notebook_html(capture: Capture) -> str:
    """The Capture as HTML for a notebook's cell: live where it is small enough, else a picture of all heads."""
    if count_numbers(capture) <= _NUMBERS_UP_TO:
        page = standalone_html(capture)
        if len(page) <= PAGE_UP_TO:
            # a sandbox: its script runs, but reaches nothing of the notebook
            return (
                f'<iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts" title="Every attention head" '
                f'width="100%" height="{_HEIGHT}" style="border: 0"></iframe>'
            )
    return _picture(capture)


def _picture(capture: Capture) -> str:
    from .paper import as_bytes  # matplotlib is slow to import and seldom needed here
    from .printed import grid

    caption = caption_of(capture, 0, None, ["Small pictures: the largest weight of each group of tokens."])
    thumbnails = [part.numpy() for part in capture.thumbnails(32)]
    figure = grid(thumbnails, entry_names(capture), title="Every attention head", caption=caption)
    png = base64.b64encode(as_bytes(figure, "png")).decode("ascii")
    return f'<img src="data:image/png;base64,{png}" alt="{html.escape(caption)}" style="max-width: 900px; width: 100%">'


cast(Any, Capture)._repr_html_ = notebook_html
