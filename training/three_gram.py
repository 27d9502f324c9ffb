"""The rival of the small Transformer: an interpolated 3-gram model, counted on the same tokens.

Knows nothing about text: it takes token ids.
"""

import numpy as np

WINDOW = 1024  # text is read in windows of so many tokens; nothing before a window is seen


class ThreeGram:
    """Interpolated Kneser-Ney: how often a token followed the two before it, less a discount D, which goes to the
    guess from one token fewer (Kneser and Ney 1995; Chen and Goodman 1999, eq. 4.23):

    p(c | a b) = max(n(a b c) − D, 0) / n(a b ·) + D · types(a b ·) / n(a b ·) · p(c | b)

    Below the top, n counts in how many different contexts a gram was met; at the bottom every token is equally likely.
    """

    def __init__(self, ids: np.ndarray, vocabulary: int, discounts=(0.7, 0.8, 0.9)):
        """discounts: D of one token, two tokens, three tokens."""
        self.vocabulary, self.base, self.discounts = vocabulary, vocabulary + 1, list(discounts)
        keys, counts = np.unique(self.pack(ids[:-2], ids[1:-1], ids[2:]), return_counts=True)
        self.levels = [self.level(keys, counts)]
        for order in (2, 1):  # the distinct grams without their first token
            keys, counts = np.unique(keys % self.base**order, return_counts=True)
            self.levels.insert(0, self.level(keys, counts))

    def pack(self, *tokens: np.ndarray) -> np.ndarray:
        """Grams as one number each: a · base² + b · base + c."""
        packed = np.zeros(1, dtype=np.int64)
        for token in tokens:
            packed = packed * self.base + token
        return packed

    def level(self, keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, ...]:
        """(grams, their counts, contexts, n(context ·), types(context ·)); keys are sorted, so contexts are too."""
        contexts, start, types = np.unique(keys // self.base, return_index=True, return_counts=True)
        return keys, counts, contexts, np.add.reduceat(counts, start), types

    def look_up(self, ids: np.ndarray) -> list[tuple[np.ndarray, ...]]:
        """ids (windows, length) → per order (n(gram), n(context ·), types(context ·)), each (windows, length − 1)."""
        ids = ids.astype(np.int64)
        nothing = np.full((len(ids), 1), self.vocabulary)  # before a window: never counted, so the 2-gram decides
        first, second, third = np.hstack([nothing, ids[:, :-2]]), ids[:, :-1], ids[:, 1:]
        found = []
        for order, (keys, counts, contexts, totals, types) in enumerate(self.levels, start=1):
            context = self.pack(*(first, second)[3 - order :])
            gram = self.pack(context, third)
            (at, met), (context_at, context_met) = _find(keys, gram), _find(contexts, context)
            found.append((counts[at] * met, totals[context_at] * context_met, types[context_at]))
        return found

    def mix(self, found: list[tuple[np.ndarray, ...]]) -> np.ndarray:
        """Counts as look_up() gives them → probabilities (windows, length − 1)."""
        p = 1 / self.vocabulary
        for (count, total, types), discount in zip(found, self.discounts, strict=True):
            known = (np.maximum(count - discount, 0) + discount * types * p) / np.maximum(total, 1)
            p = np.where(total > 0, known, p)
        return p

    def losses(self, ids: np.ndarray) -> np.ndarray:
        """ids (windows, length) → nats (windows, length − 1)."""
        return -np.log(self.mix(self.look_up(ids)))

    def tune(self, ids: np.ndarray) -> None:
        """Chooses the discounts that predict ids (windows, length) best, one after the other, twice."""
        found = self.look_up(ids)
        for _ in range(2):
            for order in range(3):
                tried = {}
                for discount in np.arange(0.3, 1.0, 0.05):
                    self.discounts[order] = float(discount)
                    tried[float(discount)] = -np.log(self.mix(found)).mean()
                self.discounts[order] = min(tried, key=tried.get)


def _find(table: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each wanted number stands in a sorted table, and whether it stands there at all."""
    at = np.searchsorted(table, wanted).clip(max=len(table) - 1)
    return at, table[at] == wanted


def three_gram(streams: list[np.ndarray], vocabulary: int) -> ThreeGram:
    """Counts over all of the streams; the discounts are tuned on their last twentieths with counts of the rest."""
    cuts = [len(ids) - len(ids) // 20 for ids in streams]
    rest = np.concatenate([ids[:cut] for ids, cut in zip(streams, cuts, strict=True)]).astype(np.int64)
    tuned = ThreeGram(rest, vocabulary)
    tuned.tune(np.concatenate([windows(ids[cut:]) for ids, cut in zip(streams, cuts, strict=True)]))
    return ThreeGram(np.concatenate(streams).astype(np.int64), vocabulary, tuned.discounts)


def windows(ids: np.ndarray, length: int = WINDOW, every: int | None = None) -> np.ndarray:
    """(tokens,) → (windows, length), a new one at every so many tokens; the end that fills none is left out."""
    return np.lib.stride_tricks.sliding_window_view(ids, length)[:: every or length]
