"""What kind of head this is: measured scores on a text, and on a control of random tokens that are repeated.

Every score is a mean over query rows of a Capture's attention weights; a head is called after a kind only where the
control supports it, since a text of one's own can fool any of them. Knows nothing about pages.
"""

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from .language import LanguageModel
from .record import Capture, LayerCapture
from .seam import input_device

NEAR = 4  # tokens: what "local" counts as near
ROWS_AT_ONCE = 128
ROWS_READ = 512  # at most, of a long text's query rows, evenly spread
COPY, DRAWS = 40, 4  # the control: so many random tokens, twice in a row, drawn so often
NAMED = 0.4  # a head is called after a kind from this mean weight on
CURVE_BINS = 32


@dataclass(frozen=True)
class Score:
    """One measure of a head."""

    title: str
    names: bool  # whether a head is called after it
    about: str


SCORES = {
    "previous": Score("previous token", True, "weight on the token before"),
    "same": Score("same token", True, "weight on the token itself"),
    "first": Score("first-token sink", True, "weight on the very first token"),
    "induction": Score("induction", True, "weight on what followed an earlier copy of the token"),
    "duplicate": Score("duplicate token", True, "weight on earlier copies of the token"),
    "local": Score("local", False, f"weight on the nearest {NEAR} tokens and the token itself"),
    "entropy": Score("entropy", False, "how spread the weights are, in bits"),
    "distance": Score("mean distance", False, "how many tokens away it looks, on average"),
}


def head_scores(capture: Capture) -> list[dict[str, np.ndarray]]:
    """One {score: (heads,) float32} per entry of capture.layers; NaN where a score has no meaning or no row.

    With w the weights, q a query's place, k a key's, t their tokens, the mean over the query rows of

        previous     w[q, q − 1], rows from 1 on        (Clark et al. 2019, section 3.1; Voita et al. 2019, section 4)
        same         w[q, q], rows from 1 on
        first        w[q, 0], rows from 2 on: token 1's previous token is the first      (Xiao et al. 2023, section 3.1)
        induction    Σ w[q, k] over k < q with t[k − 1] = t[q]; rows that have such a k   (Olsson et al. 2022)
        duplicate    Σ w[q, k] over k < q with t[k] = t[q]; rows that have such a k       (Wang et al. 2022, section 3)
        local        Σ w[q, k] over |q − k| ≤ 4
        entropy      −Σ w log₂ w, in bits; 0 for one key alone                          (Clark et al. 2019, section 3.3)
        distance     Σ w |q − k| / Σ w, in tokens

    Rows that may look nowhere are left out. In cross-attention q and k count different texts: first and entropy alone
    are measured. Of a text of more than 512 tokens every 2nd row is read, of more than 1,024 every 3rd, and so on.
    """
    return [_layer_scores(layer, *_ids(capture, layer)) for layer in capture.layers]


def _ids(capture: Capture, layer: LayerCapture) -> tuple[Tensor | None, Tensor | None]:
    """The token ids of a layer's queries and keys, where both are of one text."""
    has_target = not {"decoder_input_ids", "decoder_inputs_embeds"}.isdisjoint(capture.inputs)
    name = "decoder_input_ids" if has_target and layer.kind == "decoder" else "input_ids"
    ids = capture.inputs.get(name)
    _, queries, keys = layer.shape
    if layer.kind == "cross" or ids is None or ids.shape[1] < keys:
        return None, None
    ids = ids[0].cpu()
    return ids[ids.shape[0] - queries :], ids[layer.key_positions.cpu()]


def _layer_scores(layer: LayerCapture, query_ids: Tensor | None, key_ids: Tensor | None) -> dict[str, np.ndarray]:
    heads, queries, _ = layer.shape
    sums = {name: torch.zeros(heads) for name in SCORES}
    rows_of = dict.fromkeys(SCORES, 0)
    k = layer.key_positions.cpu()[None, :]  # (1, keys)
    first = int(k[0, -1]) + 1 - queries if query_ids is not None else 0
    for rows in _rows(queries):
        weights = layer.weights(slice(None), rows, slice(None)).cpu()  # (heads, rows, keys)
        at = torch.arange(queries)[rows]
        q = at[:, None] + first  # (rows, 1)
        looks = weights.sum(dim=(0, 2)) > 0  # (rows,)

        measured = {
            "entropy": (-torch.special.xlogy(weights, weights).sum(-1) / math.log(2), looks),
            "first": ((weights * (k == 0)).sum(-1), looks & (q[:, 0] >= (0 if query_ids is None else 2))),
        }
        if query_ids is not None and key_ids is not None:
            away = (q - k).abs()
            copies = (query_ids[at][:, None] == key_ids[None]) & (k < q)  # (rows, keys)
            after = torch.zeros_like(copies)
            after[:, 1:] = (query_ids[at][:, None] == key_ids[None, :-1]) & (k[:, 1:] < q)
            measured |= {
                "previous": ((weights * (k == q - 1)).sum(-1), looks & (q[:, 0] >= 1)),
                "same": ((weights * (k == q)).sum(-1), looks & (q[:, 0] >= 1)),
                "local": ((weights * (away <= NEAR)).sum(-1), looks),
                "distance": ((weights * away).sum(-1) / weights.sum(-1).clamp(min=1e-30), looks),
                "duplicate": ((weights * copies).sum(-1), looks & copies.any(-1)),
                "induction": ((weights * after).sum(-1), looks & after.any(-1)),
            }
        for name, (values, which) in measured.items():  # values (heads, rows), which (rows,)
            sums[name] += values[:, which].sum(dim=1)
            rows_of[name] += int(which.sum())
    nothing = np.full(heads, np.nan, dtype=np.float32)
    return {name: (sums[name] / rows_of[name]).numpy() if rows_of[name] else nothing for name in SCORES}


def _rows(queries: int) -> list[slice]:
    """The query rows that are read, in blocks: all, or every step-th of a long text, at most ROWS_READ."""
    step = -(-queries // ROWS_READ)
    block = ROWS_AT_ONCE * step
    return [slice(start, min(start + block, queries), step) for start in range(0, queries, block)]


# ── the control ─────────────────────────────────────────────────────────────────────────────────────────────────────


def control_ids(lm: LanguageModel, seed: int) -> Tensor:
    """(1, tokens): COPY tokens drawn uniformly from the ordinary ones, twice in a row, in the tokenizer's own frame
    ([CLS] … [SEP], <s> …)."""
    count = cast(Any, lm.model.get_input_embeddings()).weight.shape[0]
    config = lm.model.config.get_text_config().to_dict()
    before, after, special = [], [], {config.get(f"{name}_token_id") for name in ("pad", "bos", "eos")}
    if lm.tokenizer is not None:
        count = min(count, len(lm.tokenizer))
        special = set(lm.tokenizer.all_special_ids)
        begins = {lm.tokenizer.bos_token_id, lm.tokenizer.cls_token_id}
        around = [i for i in lm.tokenizer("")["input_ids"] if i in special]
        before, after = [i for i in around if i in begins], [i for i in around if i not in begins]
    ordinary = [i for i in range(count) if i not in special]
    block = np.random.default_rng(seed).choice(ordinary, COPY).tolist()
    return torch.tensor([[*before, *block, *block, *after]])


def control_scores(lm: LanguageModel) -> list[dict[str, np.ndarray]]:
    """head_scores of the control, the mean of DRAWS draws. A decoder behind an encoder reads the same tokens."""
    drawn = []
    for seed in range(DRAWS):
        ids = control_ids(lm, seed)
        ids = ids[:, : lm.context or ids.shape[1]].to(input_device(lm.model))
        target: dict[str, Any] = {"decoder_input_ids": ids} if lm.has_target else {}
        drawn.append(head_scores(lm.capture(ids, **target)))
    return [{name: np.mean([draw[i][name] for draw in drawn], axis=0) for name in SCORES} for i in range(len(drawn[0]))]


def kind_of(control: dict[str, np.ndarray], head: int) -> tuple[str, float] | None:
    """The kind that the control supports for one head, and its score there: the highest of those from NAMED on."""
    scores = {name: float(control[name][head]) for name, score in SCORES.items() if score.names}
    best = max(scores, key=lambda name: -1.0 if math.isnan(scores[name]) else scores[name])
    return (best, scores[best]) if scores[best] >= NAMED else None


# ── weight by distance ──────────────────────────────────────────────────────────────────────────────────────────────


def by_distance(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """weights (q, k) with NaN for gaps, of one text → distances (n,) in tokens, q − k, and the mean weight at each.

    A distance that no query can look across is left out. Negative distances look ahead.
    """
    queries, keys = weights.shape
    first = keys - queries
    distances = np.arange(first + queries - 1, first - keys, -1)  # from the farthest back to the farthest ahead
    means = np.array([_mean(np.diagonal(weights, offset=int(first - d))) for d in distances], dtype=np.float32)
    seen = ~np.isnan(means)
    return distances[seen][::-1], means[seen][::-1]


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else math.nan


def distance_curves(layer: LayerCapture) -> np.ndarray:
    """(heads, ≤ CURVE_BINS) float32: each head's mean weight by distance |q − k|, binned evenly up to the farthest
    pair, as a share of its largest bin: for small pictures. Of long texts the rows of head_scores are read."""
    heads, queries, keys = layer.shape
    bins = min(CURVE_BINS, max(queries, keys))
    sums, pairs = torch.zeros(heads, bins), torch.zeros(bins)
    k = layer.key_positions.cpu()
    first = int(k[-1]) + 1 - queries if layer.kind != "cross" else 0
    for rows in _rows(queries):
        weights = layer.weights(slice(None), rows, slice(None)).cpu()
        q = torch.arange(queries)[rows, None] + first
        place = ((q - k).abs() * bins // max(queries, keys)).clamp(max=bins - 1).flatten()
        visible = layer.visible(slice(0, 1), rows, slice(None))
        seen = torch.ones_like(weights[0]) if visible is None else visible[0].expand(weights.shape[1:]).cpu().float()
        sums.index_add_(1, place, weights.flatten(1))
        pairs.index_add_(0, place, seen.flatten())
    means = sums / pairs.clamp(min=1)
    return (means / means.amax(dim=1, keepdim=True).clamp(min=1e-30)).numpy()
