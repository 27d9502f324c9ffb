"""What a picture shows, in a sentence."""

from collections.abc import Sequence

import numpy as np

from ..record import LayerCapture


def strongest(weights: np.ndarray, visible: np.ndarray, count: int = 3) -> list[int]:
    """weights, visible (keys,) → the visible keys with the largest weights, strongest first."""
    order = np.argsort(-weights, kind="stable")
    return [int(key) for key in order if visible[key]][:count]


def finding(
    layer: int, head: int, query: int, query_token: str, key_tokens: list[str], weights: np.ndarray, visible: np.ndarray
) -> str:
    """One attention row in words: layer, head, query token, its strongest keys with percentages of one decimal."""
    shown = np.where(visible, weights, np.nan)
    return row_in_words(f"Layer {layer}, head {head}", [(query, query_token)], key_tokens, shown, range(len(shown)))


def row_in_words(
    who: str,
    queries: Sequence[tuple[int, str]],
    key_tokens: list[str],
    weights: np.ndarray,
    places: Sequence[int],
    unit: str = "token",
) -> str:
    """The same for any row: weights (columns,) with NaN for gaps, places: the first token of each column.

    queries: (place, token) of each row that it is the mean of. unit: what a row or a column is, "token" or "word".
    """
    keys = strongest(weights, ~np.isnan(weights))
    looks = [f"{percent(weights[k])} at “{key_tokens[k]}” ({unit} {places[k]})" for k in keys]
    listed = looks[0] if len(looks) == 1 else f"{', '.join(looks[:-1])} and {looks[-1]}" if looks else "nowhere"
    named = [f"“{token}” ({unit} {place})" for place, token in queries]
    if len(named) == 1:
        return f"{who}: {named[0]} looks {listed}."
    return f"{who}: {', '.join(named[:-1])} and {named[-1]} look, on average, {listed}."


def layer_name(layer: LayerCapture, several_kinds: bool) -> str:
    """ "Layer 2"; where a model has several kinds of attention, the kind too."""
    if not several_kinds:
        return f"Layer {layer.layer}"
    kind = "Cross-attention" if layer.kind == "cross" else layer.kind.capitalize()
    return f"{kind} layer {layer.layer}"


def percent(share: float) -> str:
    return f"{100 * float(share):.1f}%"


def farthest(query_token: str, query: int, key_tokens: list[str], weights: np.ndarray, unit: str = "tokens") -> str:
    """The farthest column that still carries 1 % of a row: weights (columns,) with NaN for gaps."""
    carries = np.flatnonzero(np.nan_to_num(weights) >= 0.01)
    if not len(carries):
        return f"From “{query_token}” no column carries 1 % or more."
    key = int(carries[np.argmax(np.abs(carries - query))])
    away = abs(key - query)
    where = (
        "the same place"
        if not away
        else f"{away} {unit if away > 1 else unit[:-1]} {'back' if key < query else 'ahead'}"
    )
    return (
        f"From “{query_token}” ({query}), the farthest that carries 1 % or more is “{key_tokens[key]}” ({key}), "
        f"{where}: {percent(weights[key])}."
    )


def largest_difference(first: np.ndarray, second: np.ndarray, query_tokens: list[str], key_tokens: list[str]) -> str:
    """Two maps (queries, keys) with NaN for gaps, in the words of the cell where they differ most."""
    apart = np.abs(first - second)
    if np.isnan(apart).all():
        return "The two never look at the same place."
    query, key = np.unravel_index(np.nanargmax(apart), apart.shape)
    return (
        f"They differ most from “{query_tokens[query]}” ({query}) to “{key_tokens[key]}” ({key}): "
        f"{percent(first[query, key])} against {percent(second[query, key])}."
    )
