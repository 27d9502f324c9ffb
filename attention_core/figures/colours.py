"""Which weight is which colour on paper."""

from typing import TypedDict

import numpy as np

# The colours of the page (assets/components/common.js): Blues; blue for less and orange for more; one for each head.
BLUES = ("#f3f8fd", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b")
DIFFERENCE = ("#08457e", "#3b86c4", "#a9cde8", "#f4f4f2", "#f6c48f", "#dd7a1c", "#8a3f00")
HEADS = ("#004490", "#db7b07", "#01a876", "#780e50", "#ab793d", "#067699", "#414e1a", "#001313")
DECADES = 4  # of a logarithmic scale


class Scale(TypedDict, total=False):
    """How weights become colours."""

    log: bool  # logarithmic over four decades
    per: str  # relative to "one", to each "row"'s largest, to the "head"'s largest
    cut: float  # weights under this are left blank


def shades(weights: np.ndarray, scale: Scale | None = None, signed: bool = False) -> tuple[np.ndarray, float]:
    """(q, k) weights, NaN for gaps → (q, k) shades in 0 … 1 (signed: −1 … 1) and the weight of shade 1.

    The largest weight of a row or of the head becomes 1 where the scale says so; logarithmic: four decades below it.
    Weights under the cut become NaN too.
    """
    scale = scale or {}
    size = np.abs(weights.astype(np.float64))
    largest = float(np.nanmax(size, initial=0.0)) or 1.0
    per = scale.get("per", "one")
    of_row = np.nanmax(np.where(np.isnan(size), 0.0, size), axis=1, keepdims=True, initial=0.0)
    reference = {"one": 1.0, "head": largest, "row": np.where(of_row > 0, of_row, 1.0)}[per]
    shade = np.clip(size / reference, 0.0, 1.0)
    if scale.get("log"):
        shade = np.clip(1 + np.log10(np.maximum(shade, 10.0**-DECADES)) / DECADES, 0.0, 1.0)
    shade = np.where(size < scale.get("cut", 0.0), np.nan, shade)
    return (np.copysign(shade, weights) if signed else shade), largest if per == "head" else 1.0
