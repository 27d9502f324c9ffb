"""Pages of rows: how a server would keep a run's real rows, and what a second request that begins alike shares."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
import streamlit as st
from matplotlib.image import imsave

from attention_core.errors import HeadlightError
from attention_core.figures.blocks import small
from attention_core.figures.run_words import counted
from attention_core.figures.step import Table
from attention_core.paging import (
    Page,
    PageTable,
    Shared,
    not_paged,
    page_table,
    paged_layers,
    prefix_agreement,
    shared_pages,
    tokens_read,
)
from attention_core.run import DecodeStep, Run

from . import selection
from .drawn import table_html
from .messages import sentence, told
from .options import LONGEST

MOST_CARDS = 6  # pages drawn of a group: the first ones and the last two
BLUE, ORANGE = (59, 134, 196), (221, 122, 28)  # below 0 and above, fainter the nearer to it: seen on white and on black
ANOTHER_END = " dog slept by the door"


def pages_part(run: Run, step: DecodeStep, other: Run | None) -> None:
    """The rows of a run after a step in pages; with the run of a second text, what the two share."""
    try:
        table = page_table(step)
    except HeadlightError as problem:
        sentence(str(problem))
        return
    mine = tokens_read(run, step.number)
    told(*_in_words(table, step))
    if other is None:
        _picture([("", "", table.pages, step, mine)])
        _try_one(run)
    else:
        last = other.steps[-1]
        theirs = tokens_read(other, last.number)
        shared = shared_pages(mine, theirs, table.row_bytes)
        for line in _shared_in_words(shared, step, last):
            sentence(line)
        alike = shared.pages
        _picture(
            [
                ("both", "Held once, for both requests", shared.one.pages[:alike], step, mine),
                ("alone", "The first request alone", shared.one.pages[alike:], step, mine),
                ("alone", "The second request alone", shared.other.pages[alike:], last, theirs),
            ]
        )
    for line in not_paged(step):
        sentence(f"Not in pages: {line[0].lower()}{line[1:]}")
    with st.expander("The page table in numbers", key="page_table", on_change="rerun") as section:
        if section.open:
            st.html(table_html(_numbers(table if other is None else shared)))


def _try_one(run: Run) -> None:
    """A second request that begins like this one, for those who have none at hand."""
    text = run.facts.text
    if text and not st.session_state.run and len(text) + len(ANOTHER_END) <= LONGEST:
        st.button(
            "Try a second request with the same beginning",
            key="same_beginning",
            on_click=selection.write_url,
            kwargs={"other": text + ANOTHER_END},
        )


# ── in words ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _in_words(table: PageTable, step: DecodeStep) -> tuple[str, list[str]]:
    full, last = table.tokens // table.size, table.tokens % table.size
    filled = [counted(full, "page")] if full else []
    filled += [f"{last} of the {table.size} rows of {'another' if full else 'one'}"] if last else []
    said = [f"The {counted(table.tokens, 'token')} read so far fill {' and '.join(filled)}."]
    if table.free:
        said.append(f"{counted(table.free, 'row')} {'is' if table.free == 1 else 'are'} still free.")
    said.append(f"The pages hold {table.bytes:,} bytes.")
    facts = step.facts
    if facts.context is not None:
        whole = table.at_once(facts.context)
        said.append(
            f"Room for the whole context of {facts.context:,} tokens, set aside at the start, would take {whole:,} "
            f"bytes, {whole / table.bytes:,.3g} times as much."
        )
    if facts.asked is not None:
        asked = len(facts.prompt) + facts.asked - 1  # the token chosen last needs no row
        said.append(f"Room for just the {asked:,} tokens of this run would take {table.at_once(asked):,}.")
    return f"{counted(len(table.pages), 'page')} of {table.size} rows", said


def _shared_in_words(shared: Shared, one: DecodeStep, other: DecodeStep) -> list[str]:
    if not shared.prefix:
        return ["The two requests begin with different tokens, so they share nothing: begin the second like the first."]
    size, both = shared.one.size, len(shared.one.pages) + len(shared.other.pages)
    said = [f"The two requests begin with the same {counted(shared.prefix, 'token')}."]
    if not shared.pages:
        said.append(f"That is less than one page of {size}, so each keeps its own.")
    else:
        said.append(
            f"{counted(shared.pages, 'whole page')} of these {'is' if shared.pages == 1 else 'are'} held once for "
            f"both: {both - shared.pages} pages instead of {both}, {shared.saved_bytes:,} bytes saved of "
            f"{shared.bytes + shared.saved_bytes:,} ({shared.saved_bytes / (shared.bytes + shared.saved_bytes):.0%})."
        )
        if shared.prefix > shared.rows:
            rest = shared.prefix - shared.rows
            said.append(f"The page with the other {counted(rest, 'token')} goes on differently, so each keeps its own.")
    try:
        found = prefix_agreement(one, other, shared.prefix)
    except HeadlightError as problem:
        return [" ".join(said), str(problem)]
    measured = f"Measured on the real rows of both runs, over these {counted(shared.prefix, 'token')} in every layer: "
    if not found.apart:
        return [" ".join(said), f"{measured}keys and values are equal, to the last bit."]
    return [
        " ".join(said),
        f"{measured}keys differ by at most {small(found.key)} and values by {small(found.value)}, where the largest "
        f"number is {found.largest:.3g}. That is rounding: a row depends on nothing that comes after it.",
    ]


def _numbers(table: PageTable | Shared) -> Table:
    """Where the rows of each sequence lie."""
    tables = [table.one, table.other] if isinstance(table, Shared) else [table]
    header = ("rows of tokens", *(("first request", "second request") if len(tables) > 1 else ("lie in",)))
    size, rows = tables[0].size, []
    for n in range(max(len(one.pages) for one in tables)):
        cells = [_lies_in(one.pages[n]) if n < len(one.pages) else "—" for one in tables]
        rows.append((f"{n * size:,} to {(n + 1) * size - 1:,}", *cells))
    rows.append(("together", *(f"{one.bytes:,} bytes, {one.free} rows free" for one in tables)))
    return Table(header, tuple(rows))


def _lies_in(page: Page) -> str:
    return f"page {page.place}: {page.filled} of {page.size} rows"


# ── as a picture ────────────────────────────────────────────────────────────────────────────────────────────────────


def _picture(groups: Sequence[tuple[str, str, Sequence[Page], DecodeStep, tuple[int, ...]]]) -> None:
    """Every group: its class, its title, its pages, and the step and the tokens that these are rows of."""
    layer, head, rows = _keys(groups[0][3])
    full = float(np.percentile(np.abs(rows), 99)) or 1.0
    step = groups[0][3]
    every = paged_layers(step)
    sentence(
        f"Drawn are the real keys of layer {layer}, key-value head {head}: one line a token, one cell a number, blue "
        f"below 0 and orange above. A page holds its tokens’ keys and values of {counted(len(every), 'layer')}."
    )
    parts = []
    for kind, title, pages, of, tokens in groups:
        if pages:
            names, keys = of.facts.names(tokens), _keys(of)[2]
            cards = [_card(page, names, keys, full) for page in pages]
            if len(cards) > MOST_CARDS:
                left_out = len(cards) - MOST_CARDS
                cards[MOST_CARDS - 2 : -2] = [f'<p class="more">… {counted(left_out, "full page")} …</p>']
            heading = f'<p class="name">{title}</p>' if title else ""
            parts.append(f'<section class="{kind}">{heading}<div class="group">{"".join(cards)}</div></section>')
    st.html(f'<div class="paged">{"".join(parts)}</div>')


def _keys(step: DecodeStep) -> tuple[int, int, np.ndarray]:
    """The selected layer and key-value head, or the first layer in pages, and its keys (tokens, head_dim) float32."""
    state, paged = st.session_state, paged_layers(step)
    layer = state.layer if state.layer in paged else paged[0]
    kept = step.kept[layer]
    assert kept is not None, "a layer in pages has rows"
    key = kept.tensors[0]  # (key-value heads, tokens, head_dim)
    heads = next((call.heads for call in step.layers if (call.kind, call.layer) == ("decoder", layer)), len(key))
    head = min(state.head, heads - 1) * len(key) // heads
    return layer, head, key[head].float().cpu().numpy()


def _card(page: Page, names: Sequence[str], keys: np.ndarray, full: float) -> str:
    """One page: its tokens, its rows as coloured cells, its free rows hatched."""
    stop = page.first + page.filled
    items = "".join(f"<li><bdi>{html.escape(name)}</bdi></li>" for name in names[page.first : stop])
    items += '<li aria-hidden="true"></li>' * page.free
    drawn = f"Page {page.place}: the keys of tokens {page.first} to {stop - 1}, {page.free} rows free"
    free = f'<div class="free" style="height: {1.4 * page.free:.1f}rem"></div>' if page.free else ""
    note = "full" if not page.free else f"{page.filled} of {page.size} rows"
    return (
        f'<figure class="page"><figcaption><strong>Page {page.place}</strong> · {note}</figcaption>'
        f'<div class="rows"><ol>{items}</ol><div><img alt="{drawn}" style="height: {1.4 * page.filled:.1f}rem" '
        f'src="{_png(keys[page.first : stop], full)}">{free}</div></div></figure>'
    )


def _png(rows: np.ndarray, full: float) -> str:
    """(rows, numbers) → a picture as an address: one pixel a number, on whatever lies behind it."""
    image = np.empty((*rows.shape, 4), np.uint8)
    image[..., :3] = np.where(rows[..., None] < 0, BLUE, ORANGE)
    image[..., 3] = np.clip(np.abs(rows) / full, 0, 1) * 255
    file = io.BytesIO()
    imsave(file, image, format="png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
