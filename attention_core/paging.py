"""The same rows in pages: how a server keeps them, and what two requests with the same beginning share.

Rows are kept in pages of a fixed number, taken one by one as the text grows, instead of room for the longest text at
once; a page table says where each page lies (Kwon et al. 2023, "Efficient Memory Management for Large Language Model
Serving with PagedAttention", arXiv 2309.06180, section 4.1 to 4.4). Requests that begin with the same tokens have the
same rows there, and whole pages of these are held once. transformers keeps no pages: the rows are real, the pages are
where a server would put them. Knows nothing about what is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import HeadlightError
from .ledger import EVERY_ROW
from .run import DecodeStep, Run

ROWS_A_PAGE = 16  # as in the paper (section 7.2 finds it best) and in vLLM


@dataclass(frozen=True)
class Page:
    """Room for `size` tokens in a row, each with its rows of all layers."""

    place: int  # where it lies: its number among all pages
    first: int  # the token of its first row
    filled: int
    size: int = ROWS_A_PAGE

    @property
    def free(self) -> int:
        return self.size - self.filled


@dataclass(frozen=True)
class PageTable:
    """The pages of one sequence, in the order of its tokens."""

    tokens: int  # that have rows
    row_bytes: int  # of one token, in all layers that are paged
    pages: tuple[Page, ...]
    size: int = ROWS_A_PAGE

    @property
    def free(self) -> int:
        """Rows that the last page still has room for."""
        return sum(page.free for page in self.pages)

    @property
    def used_bytes(self) -> int:
        return self.tokens * self.row_bytes

    @property
    def page_bytes(self) -> int:
        return self.size * self.row_bytes

    @property
    def bytes(self) -> int:
        """What its pages hold, free rows included."""
        return len(self.pages) * self.page_bytes

    def at_once(self, tokens: int) -> int:
        """What room for so many tokens takes, if it is set aside before the first one is read."""
        return tokens * self.row_bytes


@dataclass(frozen=True)
class Shared:
    """Two sequences of one model, and the pages that they share."""

    one: PageTable
    other: PageTable  # its first pages are those of `one`
    prefix: int  # tokens at the beginning that are the same
    pages: int  # of these, whole ones

    @property
    def rows(self) -> int:
        """Tokens whose rows are held once for both."""
        return self.pages * self.one.size

    @property
    def bytes(self) -> int:
        """What both hold together."""
        return self.one.bytes + self.other.bytes - self.saved_bytes

    @property
    def saved_bytes(self) -> int:
        return self.pages * self.one.page_bytes


@dataclass(frozen=True)
class Agreement:
    """How far the rows of two runs are apart where their texts are the same."""

    tokens: int
    key: float  # the largest difference of a number
    value: float
    largest: float  # the largest number among these rows, to measure the differences by

    @property
    def apart(self) -> float:
        return max(self.key, self.value)


# ── one sequence ────────────────────────────────────────────────────────────────────────────────────────────────────


def paged_layers(step: DecodeStep) -> tuple[int, ...]:
    """The layers that keep a row of every token read so far; latent attention's compressed rows are such too."""
    return tuple(
        layer
        for layer, (kept, words) in enumerate(zip(step.kept, step.facts.layers, strict=True))
        if kept is not None and words.startswith(EVERY_ROW) and kept.positions == range(step.read)
    )


def row_bytes(step: DecodeStep) -> int:
    """Bytes of one token's rows in all layers that are paged. Raises HeadlightError where none is."""
    held = [step.kept[layer] for layer in paged_layers(step)]
    if not held:
        raise HeadlightError(
            f"No layer of {step.facts.model or 'this model'} keeps a row of every token, so there is nothing to put "
            "into pages: choose a decoder without windows, such as small."
        )
    return sum(tensor.nbytes for kept in held if kept is not None for tensor in kept.tensors) // step.read


def page_table(step: DecodeStep, size: int = ROWS_A_PAGE) -> PageTable:
    """The pages of a run after a step, taken one after the other from an empty memory."""
    return _table(step.read, row_bytes(step), size, range(-(-step.read // size)))


def not_paged(step: DecodeStep) -> tuple[str, ...]:
    """In words, one line a reason: what the cache holds and the pages do not."""
    paged = set(paged_layers(step))
    reasons: dict[str, list[int]] = {}
    for layer, words in enumerate(step.facts.layers):
        if layer not in paged:
            reasons.setdefault(words, []).append(layer)
    lines = [
        f"{'Layer' if len(places) == 1 else 'Layers'} {', '.join(map(str, places))}: {words}."
        for words, places in reasons.items()
    ]
    if step.cross_kept:
        lines.append("The rows of the cross-attention are written once and never grow: they need no pages.")
    if step.state_bytes:
        lines.append(f"{step.state_bytes:,} bytes of other states never grow either.")
    return tuple(lines)


def _table(tokens: int, row: int, size: int, places: Sequence[int]) -> PageTable:
    pages = [Page(place, n * size, min(size, tokens - n * size), size) for n, place in enumerate(places)]
    return PageTable(tokens, row, tuple(pages), size)


# ── two sequences ───────────────────────────────────────────────────────────────────────────────────────────────────


def tokens_read(run: Run, step: int) -> tuple[int, ...]:
    """Every token that has rows after a step."""
    return tuple(token for each in run.steps[: step + 1] for token in each.input_tokens)


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens at the beginning are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def shared_pages(one: Sequence[int], other: Sequence[int], row: int, size: int = ROWS_A_PAGE) -> Shared:
    """Two token lists of a model whose rows take `row` bytes a token: the second uses the first one's whole pages of
    the prefix. A page that only begins alike is not shared: what follows in it differs."""
    prefix = common_prefix(one, other)
    whole, first, second = prefix // size, -(-len(one) // size), -(-len(other) // size)
    places = [*range(whole), *range(first, first + second - whole)]
    return Shared(_table(len(one), row, size, range(first)), _table(len(other), row, size, places), prefix, whole)


def prefix_agreement(one: DecodeStep, other: DecodeStep, tokens: int) -> Agreement:
    """The rows of the first `tokens` tokens in two runs, measured: they may differ by rounding alone, for a row
    depends on nothing that comes after it."""
    layers = paged_layers(one)
    if one.facts.model != other.facts.model or one.facts.revision != other.facts.revision:
        raise HeadlightError(
            f"The runs are of {one.facts.model} and of {other.facts.model}: compare two texts of one model."
        )
    if one.facts.source != other.facts.source:
        raise HeadlightError("The two decoders read what different encoders gave, so no row is the same.")
    if not layers or layers != paged_layers(other) or not 0 < tokens <= min(one.read, other.read):
        raise HeadlightError("The two texts share no rows: give them the same beginning.")
    apart, most = [0.0, 0.0], 0.0
    for layer in layers:
        kept, others = one.kept[layer], other.kept[layer]
        assert kept is not None and others is not None, "a paged layer has rows"
        for part, (mine, theirs) in enumerate(zip(kept.tensors, others.tensors, strict=True)):
            mine, theirs = mine[:, :tokens].float(), theirs[:, :tokens].float()  # (key-value heads, tokens, head_dim)
            apart[part] = max(apart[part], float((mine - theirs).abs().max()))
            most = max(most, float(mine.abs().max()))
    return Agreement(tokens, apart[0], apart[1], most)
