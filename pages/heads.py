"""Heads: who looks at whom. Every layer and head as a small picture, the chosen one large, its row in words."""

import numpy as np
import streamlit as st

from attention_core.figures.heatmaps import vectors_heatmap
from attention_core.figures.words import attention_table, finding, percent
from attention_core.language import LanguageModel
from attention_core.record import Capture
from pages.shared import frame, selection
from pages.shared.components import head_view, overview, token_chips
from pages.shared.messages import notice, sentence

CELLS_UP_TO = 256  # tokens; beyond, a cell of the picture stands for several
VECTORS_UP_TO = 256


def next_tokens(capture: Capture, model: LanguageModel) -> None:
    likely = model.next_tokens(capture)
    if likely:
        listed = "   ".join(f"{token} {percent(share)}" for token, share in likely)
        sentence(f"Expected next:  {listed}      (· is a space)", "next")


def chosen_head(capture: Capture, row: np.ndarray, visible: np.ndarray) -> None:
    """The picture of the chosen head, and the chosen row in words."""
    entry, head, token = st.session_state.layer, st.session_state.head, st.session_state.token
    layer = capture.layers[entry]
    queries, keys = capture.query_tokens(entry), capture.key_tokens(entry)
    with st.container(key="finding"):
        sentence(finding(layer.layer, head, token, queries[token], keys, row, visible), "finding")
    if len(keys) <= CELLS_UP_TO:
        weights = capture.attention(entry, head).numpy()
        weights[~capture.visible(entry, head).numpy()] = np.nan
        rows, columns, at, exact = queries, keys, token, None
    else:
        weights = capture.pooled(entry, head, CELLS_UP_TO).numpy()
        rows = [queries[i * len(queries) // len(weights)] for i in range(len(weights))]
        columns = [keys[i * len(keys) // weights.shape[1]] for i in range(weights.shape[1])]
        at = token * len(weights) // len(queries)
        exact = (token, queries[token], np.where(visible, row, np.nan).astype(np.float32), keys)
        side = -(-len(keys) // CELLS_UP_TO)
        sentence(
            f"{len(keys):,} tokens are too many to see one by one: each cell stands for up to {side} × {side} of them "
            "and shows their largest weight. The bars and the sentence are exact."
        )
    head_view(
        weights,
        rows,
        columns,
        row=at,
        uniform=1 / max(1, int(visible.sum())),
        title=f"Layer {layer.layer}, head {head}",
        key="head_view",
        exact=exact,
        on_choose=lambda chosen: selection.chose_token(chosen * len(queries) // len(rows)),
    )


def vectors(capture: Capture) -> None:
    """The head's queries, keys and values, drawn when somebody opens them."""
    with st.expander("Numbers: queries, keys, values", key="numbers", on_change="rerun") as section:
        if not section.open:
            return
        entry, head = st.session_state.layer, st.session_state.head
        layer = capture.layers[entry]
        shared = layer.key_value_head(head)
        if layer.key.shape[0] < layer.heads:
            sentence(f"This head reads key-value head {shared}, which it shares with its neighbours.")
        start = max(0, min(st.session_state.token - VECTORS_UP_TO // 2, layer.key.shape[1] - VECTORS_UP_TO))
        shown = slice(start, start + VECTORS_UP_TO)
        if layer.key.shape[1] > VECTORS_UP_TO:
            sentence(f"Tokens {start} to {start + VECTORS_UP_TO - 1} are shown, around the chosen one.")
        parts = {
            "queries": (layer.query[head], capture.query_tokens(entry)),
            "keys": (layer.key[shared], capture.key_tokens(entry)),
            "values": (layer.value[shared], capture.key_tokens(entry)),
        }
        for column, (name, (tensor, tokens)) in zip(st.columns(3), parts.items(), strict=True):
            figure = vectors_heatmap(tensor[shown].float().cpu().numpy(), tokens[shown], start, name)
            column.plotly_chart(figure, key=f"vectors-{name}", config={"displayModeBar": False})


def save(capture: Capture) -> None:
    entry, head = st.session_state.layer, st.session_state.head

    def as_csv() -> bytes:
        weights, visible = capture.attention(entry, head).numpy(), capture.visible(entry, head).numpy()
        table = attention_table(weights, visible, capture.query_tokens(entry), capture.key_tokens(entry))
        return table.to_csv(index=False).encode("utf-8-sig")

    name = f"headlight-{capture.name}-layer{capture.layers[entry].layer}-head{head}.csv"
    st.download_button("Heatmap as CSV", as_csv, name, "text/csv", key="csv", on_click="ignore")


def show(capture: Capture, model: LanguageModel) -> None:
    state, layers = st.session_state, capture.layers
    problems = [selection.fit("layer", len(layers), default=0)]
    problems.append(selection.fit("head", layers[state.layer].heads, default=0))
    tokens = layers[state.layer].query.shape[1]
    last = tokens - 1 if model.predicts else max(0, tokens - 2)  # an encoder ends with its separator
    problems.append(selection.fit("token", tokens, default=last))
    for problem in filter(None, problems):
        notice(problem)
    row = capture.attention(state.layer, state.head, slice(state.token, state.token + 1))[0].numpy()
    visible = capture.visible(state.layer, state.head, slice(state.token, state.token + 1))[0].numpy()
    token_chips(
        capture.query_tokens(state.layer),
        capture.inputs["input_ids"][0].tolist() if state.ids else None,
        row,
        chosen=state.token,
        key="chips",
        on_choose=selection.chose_token,
    )
    next_tokens(capture, model)

    left, right = st.columns([2, 5], gap="medium")
    with left:
        counts = (len(layers), layers[state.layer].heads, tokens)
        for column, name, count in zip(st.columns(3, gap="small"), selection.NUMBERS, counts, strict=True):
            column.number_input(
                f"{name.capitalize()} (0–{count - 1})", key=name, step=1, on_change=selection.number_changed
            )
        overview(
            [thumbnail.numpy() for thumbnail in frame.engine().thumbnails(capture, 32)],
            [f"layer {layer.layer}" for layer in layers],
            chosen=(state.layer, state.head),
            key="overview",
            on_choose=selection.chose_head,
        )
        example = selection.at_example()
        if example:
            sentence(f"Look: {example.look_for}")
    with right:
        chosen_head(capture, row, visible)
        with st.container(horizontal=True, vertical_alignment="center"):
            save(capture)
            st.toggle("Token ids", key="ids", on_change=selection.number_changed)
    vectors(capture)
    if st.session_state.text_was_read:
        selection.keep_view()


read = frame.read_text()
if read is not None:
    show(*read)
