"""What a picture shows, in a sentence, and the numbers behind it as a table."""

import numpy as np
import pandas as pd


def strongest(weights: np.ndarray, visible: np.ndarray, count: int = 3) -> list[int]:
    """weights, visible (keys,) → the visible keys with the largest weights, strongest first."""
    order = np.argsort(-weights, kind="stable")
    return [int(key) for key in order if visible[key]][:count]


def finding(
    layer: int, head: int, query: int, query_token: str, key_tokens: list[str], weights: np.ndarray, visible: np.ndarray
) -> str:
    """One attention row in words: layer, head, query token, its strongest keys with percentages of one decimal."""
    keys = strongest(weights, visible)
    looks = [f"{percent(weights[k])} at “{key_tokens[k]}” (token {k})" for k in keys]
    listed = looks[0] if len(looks) == 1 else f"{', '.join(looks[:-1])} and {looks[-1]}" if looks else "nowhere"
    return f"Layer {layer}, head {head}: “{query_token}” (token {query}) looks {listed}."


def percent(share: float) -> str:
    return f"{100 * float(share):.1f}%"


def attention_table(
    weights: np.ndarray, visible: np.ndarray, query_tokens: list[str], key_tokens: list[str]
) -> pd.DataFrame:
    """(queries, keys) weights as a table, a row per query token; where a query may not look stands nothing."""
    shown = np.where(visible, weights, np.nan)
    table = pd.DataFrame(shown, columns=[plain_cell(t) for t in key_tokens])
    table.insert(0, "from ↓ to →", [plain_cell(t) for t in query_tokens], allow_duplicates=True)
    return table


def plain_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
