"""Heads: who looks at whom. Every layer and head as a small picture, the chosen one large, its row in words."""

from dataclasses import replace

import numpy as np
import streamlit as st

from attention_core.errors import HeadlightError
from attention_core.figures.curves import distance_curve
from attention_core.figures.words import farthest, layer_name, row_in_words
from attention_core.heads import SCORES, by_distance, kind_of
from attention_core.record import Capture
from attention_core.views import FIRST, Seen
from pages.shared import frame, selection
from pages.shared.beside import side_by_side
from pages.shared.chosen import place_numbers, text_as_read
from pages.shared.components import head_view, lines_view, overview
from pages.shared.display import display_popover
from pages.shared.messages import notice, sentence
from pages.shared.numbers import numbers_section
from pages.shared.options import VIEWS
from pages.shared.place import CELLS_UP_TO, Place, find_place, look
from pages.shared.save import save_popover

MOST_LINES_OF = 8  # heads, each in a colour of its own


def choose(place: Place) -> None:
    """The place to choose on the left: kind, layer, head, token, and the overview of all heads."""
    place_numbers(place)
    every_head(place)
    example = selection.at_example()
    if example:
        sentence(f"Look: {example.look_for}")


def every_head(place: Place) -> None:
    state, capture, engine = st.session_state, place.capture, frame.engine()
    scores, order, shown, about = None, None, None, st.container(key="about_scores")
    if state.sort:
        control = frame.control()
        measured = control if state.measured == "control" and control is not None else engine.scores(capture)
        if state.measured == "control" and control is None:
            with about:
                sentence("For this model only this text was measured.")
        scores = [measured[entry][state.sort] for entry in place.entries]
        flat = [(i, h) for i, part in enumerate(scores) for h in range(len(part)) if not np.isnan(part[h])]
        order = sorted(flat, key=lambda at: -scores[at[0]][at[1]])
        shown = [part >= state.least for part in scores] if state.least else None
    curves = None
    if state.view == "distance":
        every = engine.curves(capture)
        curves = [every[entry] for entry in place.entries]
    together = place.heads[:MOST_LINES_OF] if state.view == "lines" else place.heads[1:]
    thumbnails = engine.thumbnails(capture, 32)
    overview(
        [thumbnails[entry].numpy() for entry in place.entries],
        [layer_name(capture.layers[entry], len(place.kinds) > 1).lower() for entry in place.entries],
        chosen=(state.layer, state.head),
        key="overview",
        on_choose=selection.chose_head,
        combined=[(place.entries.index(entry), head) for entry, head in together],
        colors=list(range(len(together))) if state.view == "lines" and len(together) > 1 else None,
        scores=scores,
        score_name=SCORES[state.sort].title if state.sort else "",
        order=order,
        shown=shown,
        curves=curves,
    )


def title_of_head(place: Place, seen: Seen) -> str:
    """The head's name, and its kind where random tokens show that it is of one."""
    if len(seen.view.heads) > 1:
        return f"{place.name} and {len(seen.view.heads) - 1} more"
    control = frame.control()
    kind = kind_of(control[place.entry], place.head) if control is not None else None
    return f"{place.name} · {SCORES[kind[0]].title} {kind[1]:.2f}" if kind else place.name


def in_words(place: Place, seen: Seen, row: np.ndarray, rows: list[int]) -> str:
    more = len(seen.view.heads) - 1
    who = f"{place.name} and {more} more" if more else place.name
    queries = [(seen.token_of(r), seen.query_tokens[r]) for r in rows]
    unit = "word from token" if seen.view.words else "token"
    return row_in_words(who, queries, seen.key_tokens, row, [group[0] for group in seen.key_groups], unit)


def chosen_head(place: Place, seen: Seen) -> None:
    """The picture of the chosen head, and the chosen row in words."""
    state = st.session_state
    rows = list(dict.fromkeys(seen.place_of(token) for token in place.tokens))
    row = seen.mean_of(rows)
    with st.container(key="finding"):
        sentence(in_words(place, seen, row, rows), "finding")
    with st.container(horizontal=True, vertical_alignment="center", key="views"):
        st.segmented_control(
            "View",
            list(VIEWS),
            key="view",
            format_func=VIEWS.get,
            required=True,
            label_visibility="collapsed",
            on_change=selection.changed,
        )
        st.space("stretch")
        display_popover(place, seen)
        save_popover(place, seen, title_of_head(place, seen), scale())
    with st.container(key="sink"):  # always there, so that the line moves nothing else to another place
        about_the_sink(seen, row, rows)
    if state.view == "distance":
        by_distance_view(place, seen, row, rows)
    elif state.view == "lines" and max(len(seen), len(seen.key_groups)) <= CELLS_UP_TO:
        lines(place, seen, rows)
    else:
        if state.view == "lines":
            sentence(f"Lines are drawn for up to {CELLS_UP_TO} tokens; this text has more, so the heat map is shown.")
        heat_map(place, seen, row, rows)


def about_the_sink(seen: Seen, row: np.ndarray, rows: list[int]) -> None:
    """Why so many heads look at the first token, and the switch that leaves it out."""
    rests = min(rows) > 1 and not np.isnan(row[0]) and row[0] > 0.5
    if rests and seen.key_groups[0][0] == 0 and FIRST not in seen.view.left_out:
        with st.container(horizontal=True, vertical_alignment="center"):
            sentence("Many heads rest on the first token when they find nothing they look for: a first-token sink.")
            drop = [*st.session_state.drop, FIRST]
            st.button("Leave it out", key="leave_out", on_click=selection.write_url, kwargs={"drop": drop})


def scale() -> dict:
    state = st.session_state
    return {"log": state.log, "per": state.per, "cut": state.cut / 100}


def heat_map(place: Place, seen: Seen, row: np.ndarray, rows: list[int]) -> None:
    count = len(seen.key_groups)
    weights, queries, keys = seen.shown(CELLS_UP_TO)
    at = [r * len(weights) // len(seen) for r in rows]
    pooled = weights.shape != (len(seen), count)
    if pooled:
        side = -(-max(count, len(seen)) // CELLS_UP_TO)
        sentence(
            f"{count:,} tokens are too many to see one by one: each cell stands for up to {side} × {side} of them "
            "and shows their largest weight. The bars and the sentence are exact."
        )
    exact = (rows[0], _row_label(seen, rows), row, seen.key_tokens) if pooled or len(rows) > 1 else None
    per = (
        "head"
        if seen.view.how == "sum" and len(seen.view.heads) > 1 and st.session_state.per == "one"
        else st.session_state.per
    )
    head_view(
        weights,
        queries,
        keys,
        row=at[0],
        uniform=1 / max(1, int((~np.isnan(row)).sum())),
        title=title_of_head(place, seen),
        key="head_view",
        exact=exact,
        on_choose=lambda chosen: selection.chose_token(seen.token_of(chosen * len(seen) // len(weights))),
        also=at[1:],
        scale=scale() | {"per": per},
        caption=" ".join(seen.notes),
    )


def _row_label(seen: Seen, rows: list[int]) -> str:
    return " + ".join(seen.query_tokens[r] for r in rows)


def lines(place: Place, seen: Seen, rows: list[int]) -> None:
    """Every head on its own, in a colour of its own."""
    drawn = place.heads[:MOST_LINES_OF]
    each = [Seen(place.capture, replace(seen.view, heads=(head,))) for head in drawn]
    if len(place.heads) > MOST_LINES_OF:
        sentence(f"The first {MOST_LINES_OF} of {len(place.heads)} heads are drawn: more colours cannot be told apart.")
    lines_view(
        [one.all() for one in each],
        [place.head_name(*head) for head in drawn],
        seen.query_tokens,
        seen.key_tokens,
        row=rows[0],
        title=title_of_head(place, seen),
        key="lines_view",
        on_choose=lambda chosen: selection.chose_token(seen.token_of(chosen)),
        cut=st.session_state.cut / 100,
        scale=scale(),
    )
    for note in each[0].notes:
        sentence(note)


def by_distance_view(place: Place, seen: Seen, row: np.ndarray, rows: list[int]) -> None:
    if place.layer.kind == "cross" or seen.view.between:
        sentence("Distance is counted within one text: choose another kind of attention, or look at everything.")
        return
    distances, weights = by_distance(seen.all())
    unit = "words" if seen.view.words else "tokens"
    figure = distance_curve(distances, weights, unit)
    sentence(title_of_head(place, seen), "heading")
    st.plotly_chart(figure, key="distance", config={"displayModeBar": False})
    sentence(farthest(seen.query_tokens[rows[0]], rows[0], seen.key_tokens, row, unit))
    for note in seen.notes:
        sentence(note)


def show(capture: Capture) -> None:
    place = find_place(capture)
    seen = look(place)
    text_as_read(place, seen)
    left, right = st.columns([2, 5], gap="medium")
    with left:
        choose(place)
    with right:
        chosen_head(place, seen)
    with st.container(key="beside"):
        try:
            side_by_side(place, seen, scale())
        except HeadlightError as problem:
            notice(str(problem))
    numbers_section(place)
    if st.session_state.text_was_read:
        selection.keep_view()


read = frame.read_text()
if read is not None:
    show(read)
