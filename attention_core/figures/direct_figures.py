"""Which layer and which head wrote a token, and when it became likely: in sentences, as plotly figures, as tables.

A figure's words are its alternative text. Knows nothing about pages, and runs no model.
"""

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from ..direct import Direct
from ..record import Capture
from ..scorer import Aim
from .blocks import written
from .cache_figures import EITHER, Colours, laid_out
from .relevance_figures import AGAINST, faint, signed_map, with_legend
from .relevance_words import amount, chance, digits, listed, place
from .step import Table

WRITTEN_UP_TO = (12, 9)  # layers and heads whose numbers are written into the map
COLUMNS_UP_TO = 12  # heads that have a column each in the table
EVERY_LAYER_UP_TO = 12  # has its number on an axis


# ── who wrote it ────────────────────────────────────────────────────────────────────────────────────────────────────


def heads_of(direct: Direct) -> np.ndarray:
    """(layers, heads) float32: what each head added; NaN where heads are not told apart."""
    wide = max((len(part.heads) for part in direct.layers if part.heads is not None), default=0)
    found = np.full((len(direct.layers), wide), np.nan, dtype=np.float32)
    for layer, part in enumerate(direct.layers):
        if part.heads is not None:
            found[layer, : len(part.heads)] = part.heads.detach().cpu().numpy()
    return found


def strongest_heads(direct: Direct, count: int) -> list[tuple[int, int, float]]:
    """(layer, head, value) of those that added or took away most, the strongest first."""
    values = heads_of(direct)
    order = np.argsort(-np.nan_to_num(np.abs(values)), axis=None, kind="stable")
    places = [tuple(map(int, np.unravel_index(flat, values.shape))) for flat in order]
    found = [(layer, head, float(values[layer, head])) for layer, head in places]
    return [part for part in found if not np.isnan(part[2])][:count]


def heads_looking_at(
    capture: Capture, entries: Sequence[int], row: int, keys: Sequence[int], count: int
) -> list[tuple[int, int, float]]:
    """(layer, head, weight) of the heads whose weight from a row on the tokens `keys`, one or a word's, is largest, the
    largest first; none that does not look at them. layer: counts among `entries` of capture.layers."""
    found = []
    for layer, entry in enumerate(entries):
        part = capture.layers[entry]
        first = 0 if part.kind == "cross" else int(part.key_positions[-1]) + 1 - part.shape[1]
        at = [n for n, position in enumerate(part.key_positions.tolist()) if position in keys]
        if not at or not 0 <= row - first < part.shape[1]:
            continue
        tile = part.weights(slice(None), slice(row - first, row - first + 1), slice(None))[:, 0, at]  # (heads, keys)
        looking = tile.detach().sum(dim=-1).tolist()
        found += [(layer, head, weight) for head, weight in enumerate(looking) if weight > 0]
    return sorted(found, key=lambda looking: -looking[2])[:count]


def heads_figure(direct: Direct, colours: Colours = EITHER) -> go.Figure:
    """Layers × heads: what each added to the logit, gaps where heads are not told apart."""
    values = heads_of(direct)
    layers, heads = values.shape
    fits = layers <= WRITTEN_UP_TO[0] and heads <= WRITTEN_UP_TO[1]
    texts = [["" if np.isnan(v) else written(float(v), "+.2f") for v in row] for row in values] if fits else None
    largest = float(np.nanmax(np.abs(np.nan_to_num(values)), initial=0.0)) or 1.0
    figure = signed_map(values, texts, largest, colours)
    hover = "layer %{y}, head %{x}: %{z:+.4f}<extra></extra>"
    figure.update_traces(hovertemplate=hover, selector={"type": "heatmap"})
    figure.update_xaxes(title="head", dtick=1 if heads <= 16 else 4)
    figure.update_yaxes(title="layer", dtick=1 if layers <= EVERY_LAYER_UP_TO else 5)
    return laid_out(figure, 90 + (46 if fits else 18) * max(2, layers), colours=colours)


def parts_figure(direct: Direct, colours: Colours = EITHER) -> go.Figure:
    """What attention and the feed-forward part of each layer added, and what was there before the first."""
    layers = np.arange(len(direct.layers))
    apart = np.array([part.attention is not None for part in direct.layers], dtype=bool)
    attention = np.array([part.attention or 0.0 for part in direct.layers], dtype=np.float32)
    rest = np.array([part.rest for part in direct.layers], dtype=np.float32)
    start = np.array([direct.embedding], dtype=np.float32)
    bars = [  # name, places, values, colour, pattern, where its side begins
        ("attention", layers[apart], attention[apart], colours.accent, "", -0.4),
        ("feed-forward", layers[apart], rest[apart], AGAINST, "/", 0.0),
        ("the whole layer", layers[~apart], rest[~apart], AGAINST, "x", -0.2),
        ("the token’s own vector", np.array([-1]), start, colours.other, ".", -0.2),
    ]
    figure = go.Figure()
    for name, x, y, colour, shape, offset in bars:
        if len(x):
            figure.add_bar(
                x=x,
                y=y,
                name=name,
                width=0.4,
                offset=offset,
                marker={"color": colour, "pattern": {"shape": shape}},
                hovertemplate=("layer %{x}, " if name != bars[-1][0] else "") + f"{name}: %{{y:+.4f}}<extra></extra>",
            )
    figure.update_xaxes(title="layer", range=[-1.6, len(layers) - 0.4], zeroline=False)
    marks = [int(n) for n in layers if len(layers) <= EVERY_LAYER_UP_TO or n and n % 5 == 0]
    figure.update_xaxes(tickvals=[-1, *marks], ticktext=["start", *map(str, marks)], tickangle=0, showgrid=False)
    figure.update_yaxes(title="added to the logit", zerolinecolor=colours.other, gridcolor=faint(colours.other))
    laid_out(figure, 420, colours=colours).update_layout(barmode="overlay")
    return with_legend(figure, colours)


def direct_in_words(direct: Direct, aim: Aim) -> list[str]:
    """Which part wrote most, which heads and layers, and that the parts sum to the logit."""
    of = f"“{aim.target.token}”" if aim.target is not None else "the target"
    if aim.contrast is not None:
        of += f" rather than “{aim.contrast.token}”"
    logit = digits(direct.before)
    heads = strongest_heads(direct, len(direct.layers) * heads_of(direct).shape[1])
    rest = [(layer, part.rest, part.attention is None) for layer, part in enumerate(direct.layers)]
    parts = [(f"Layer {layer}, head {head}", value) for layer, head, value in heads]
    parts += [(f"Layer {n} as a whole" if whole else f"The feed-forward part of layer {n}", v) for n, v, whole in rest]
    parts.append(("The token’s own vector", direct.embedding))
    name, value = max(parts, key=lambda part: part[1])
    if value <= 0:
        said = [f"No part speaks for {of}: all together make a logit of {logit}."]
    elif direct.before > 0:
        said = [f"{name} wrote the largest part of {of}: {amount(value)} of its logit, {logit}."]
    else:
        said = [f"{name} speaks most for {of}: {amount(value)}, but all parts together make {logit}."]
    speak = sorted((part for part in parts if part[1] > 0), key=lambda part: -part[1])[1:4]
    if speak:
        said.append(f"Then {listed([f'{_small(part)} ({amount(added)})' for part, added in speak])}.")
    against = sorted((part for part in parts if part[1] < 0), key=lambda part: part[1])[:2]
    if against:
        said.append(f"Most against it: {listed([f'{_small(part)} ({amount(added)})' for part, added in against])}.")
    apart = sum(part.heads is None for part in direct.layers)
    if apart:
        where = "in any layer" if apart == len(direct.layers) else f"in {apart} of the {len(direct.layers)} layers"
        said.append(f"The heads cannot be told apart {where} of this model.")
    return [*said, _sum_in_words(direct)]


def _small(name: str) -> str:
    return name[0].lower() + name[1:]


def _sum_in_words(direct: Direct) -> str:
    whole = f"All parts sum to {written(direct.sum, '.5f')} of the model’s {written(direct.before, '.5f')}"
    if direct.capped:
        whole += f", before it bends its logits: {written(direct.logit, '.5f')} afterwards"
    return f"{whole}."


def direct_table(direct: Direct) -> Table:
    """What every part added: a row a layer, the first and the last part, and the sum."""
    wide = heads_of(direct).shape[1]
    columns = [f"head {head}" for head in range(wide)] if wide <= COLUMNS_UP_TO else ["each head"]
    header = ("layer", "attention", *columns, "the rest")
    empty = ("",) * (1 + len(columns))
    rows = [("the token’s own vector", *empty, _number(direct.embedding))]
    for layer, part in enumerate(direct.layers):
        values = [] if part.heads is None else [_number(value) for value in part.heads.tolist()]
        each = [*values, *["—"] * (wide - len(values))]
        if wide > COLUMNS_UP_TO:
            each = ["; ".join(f"{head}: {value}" for head, value in enumerate(values)) or "—"]
        attention = "—" if part.attention is None else _number(part.attention)
        rows.append((str(layer), attention, *each, _number(part.rest)))
    rows.append(("last norm and output head", *empty, _number(direct.offset)))
    rows.append(("together", *empty, _number(direct.sum)))
    rows.append(("the model’s own", *empty, _number(direct.before)))
    return Table(header, tuple(rows))


def _number(value: float) -> str:
    return written(value, "+.4f")


# ── when it became likely ───────────────────────────────────────────────────────────────────────────────────────────


def _followed(direct: Direct, aim: Aim) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """The target (and the contrast): token, chances (layers,) float32, ranks (layers,)."""
    wanted, ranks = direct.lens.wanted, direct.lens.ranks
    if wanted is None or ranks is None:
        return []
    tokens = [each.token for each in (aim.target, aim.contrast) if each is not None]
    chances = wanted.detach().numpy().astype(np.float32)
    return [(token, chances[:, n], ranks[:, n].numpy()) for n, token in enumerate(tokens)]


def lens_figure(direct: Direct, aim: Aim, colours: Colours = EITHER) -> go.Figure:
    """The chance of the target, and of the contrast, if the model stopped after a layer."""
    figure, followed = go.Figure(), _followed(direct, aim)
    looks = ((colours.accent, "solid", "circle"), (AGAINST, "dash", "diamond"))
    for (token, chances, ranks), (colour, dash, symbol) in zip(followed, looks, strict=False):
        figure.add_scatter(
            x=np.arange(len(chances)),
            y=chances,
            mode="lines+markers",
            line={"color": colour, "width": 3, "dash": dash},
            marker={"color": colour, "size": 10, "symbol": symbol, "opacity": 1},
            name=f"“{html.escape(token)}”",
            customdata=[place(int(rank)) for rank in ranks],
            hovertemplate="%{fullData.name} after layer %{x}: %{y:.2%}, %{customdata}<extra></extra>",
        )
    layers = len(direct.layers)
    figure.update_xaxes(title="after layer", dtick=1 if layers <= EVERY_LAYER_UP_TO else 5, range=[-0.4, layers - 0.6])
    figure.update_yaxes(title="probability", range=[-0.04, 1.06], tickformat=".0%", zeroline=False)
    figure.update_xaxes(showgrid=False, zeroline=False).update_yaxes(gridcolor=faint(colours.other))
    laid_out(figure, 400, colours=colours)
    return with_legend(figure, colours)


def lens_in_words(direct: Direct, aim: Aim) -> list[str]:
    """From which layer on the target is the most likely token; with a contrast, when it got ahead of it."""
    followed = _followed(direct, aim)
    said = [f"If the model wrote after a layer already: {_rise(*part)}." for part in followed[:1]]
    if len(followed) > 1:
        (one, ours, _), (other, theirs, ranks) = followed[:2]
        last = f"“{other}” is {place(int(ranks[-1]))} in the end ({chance(float(theirs[-1]))})"
        ahead = _onwards(ours > theirs)
        if ahead is None:
            said.append(f"{last}, ahead of “{one}”.")
        else:
            since = "after every layer" if ahead == 0 else f"from layer {ahead} on"
            said.append(f"{last}; “{one}” is ahead of it {since}.")
    return said


def _onwards(true: np.ndarray) -> int | None:
    """The first layer from which on it holds until the end."""
    if not len(true) or not true[-1]:
        return None
    wrong = np.flatnonzero(~true)
    return int(wrong[-1]) + 1 if len(wrong) else 0


def _rise(token: str, chances: np.ndarray, ranks: np.ndarray) -> str:
    first = _onwards(ranks == 1)

    def at(layer: int) -> str:
        return f"{place(int(ranks[layer]))} ({chance(float(chances[layer]))})"

    if first is None:
        tops = np.flatnonzero(ranks == 1)
        where = f"is the most likely token after layer {tops[-1]}, but not at the end" if len(tops) else ""
        where = where or "is not the most likely token after any layer"
        return f"“{token}” {where}; after the last one it is {at(-1)}"
    if first == 0:
        return f"“{token}” is the most likely token after every layer ({chance(float(chances[-1]))} after the last)"
    return f"“{token}” is the most likely token from layer {first} on; after layer {first - 1} it is {at(first - 1)}"


def lens_table(direct: Direct, aim: Aim) -> Table:
    """Chance and rank after every layer."""
    followed = _followed(direct, aim)
    header = ["after layer"]
    for token, _, _ in followed:
        header += [f"“{token}”", f"rank of “{token}”"]
    rows = []
    for layer in range(len(direct.layers)):
        cells = [(f"{100 * float(chances[layer]):.3f}%", f"{int(ranks[layer]):,}") for _, chances, ranks in followed]
        rows.append((str(layer), *(cell for pair in cells for cell in pair)))
    return Table(tuple(header), tuple(rows))
