"""Kinds of head: every score against loops over rows and keys in float64, on the weights of transformers' eager
attention; the control; the heads that are known."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers import models as token_models

from attention_core import LanguageModel, capture, heads, load_model, models
from attention_core.heads import (
    SCORES,
    by_distance,
    control_ids,
    control_scores,
    distance_curves,
    head_scores,
    kind_of,
)
from tests.architectures import ARCHITECTURES, LLAMA, VOCABULARY
from tests.tiny import needs_smollm2

OF_ONE_TEXT = ["previous", "same", "local", "distance", "duplicate", "induction"]


# ── the oracle ──────────────────────────────────────────────────────────────────────────────────────────────────────


def eager_weights(model: tf.PreTrainedModel, **inputs: torch.Tensor) -> dict[str, list[np.ndarray]]:
    """The model's own weights by kind, each (heads, q, k) float64. It is left with eager attention."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(**inputs, output_attentions=True)
    names = {
        "encoder": "encoder_attentions",
        "decoder": "decoder_attentions",
        "cross": "cross_attentions",
        "": "attentions",
    }
    found = {kind: getattr(output, name, None) for kind, name in names.items()}
    return {kind: [w[0].double().numpy() for w in weights] for kind, weights in found.items() if weights}


def by_hand(weights: np.ndarray, ids: list[int] | None, rows: range | list[int] | None = None) -> dict:
    """The formulas of head_scores, row by row and key by key. weights (heads, q, k) float64; ids of queries and keys,
    which are the same tokens; None: two texts."""
    count = weights.shape[1]
    found: dict[str, list[np.ndarray]] = {name: [] for name in SCORES}
    for q in range(count) if rows is None else rows:
        row = weights[:, q]  # (heads, keys)
        if row.sum() == 0:
            continue
        entropy = np.zeros(len(row))
        for h in range(len(row)):
            for w in row[h]:
                entropy[h] -= w * math.log2(w) if w > 0 else 0.0
        found["entropy"].append(entropy)
        if ids is None:
            found["first"].append(row[:, 0])
            continue
        nothing = np.zeros(len(row))
        distance, local, duplicate, induction = (nothing.copy() for _ in range(4))
        copies = successors = 0
        for k in range(weights.shape[2]):
            distance += row[:, k] * abs(q - k)
            local += row[:, k] if abs(q - k) <= 4 else 0.0
            if k < q and ids[k] == ids[q]:
                duplicate += row[:, k]
                copies += 1
            if 0 < k < q and ids[k - 1] == ids[q]:
                induction += row[:, k]
                successors += 1
        found["distance"].append(distance / row.sum(axis=1))
        found["local"].append(local)
        if q >= 1:
            found["previous"].append(row[:, q - 1])
            found["same"].append(row[:, q])
        if q >= 2:
            found["first"].append(row[:, 0])
        if copies:
            found["duplicate"].append(duplicate)
        if successors:
            found["induction"].append(induction)
    nothing = np.full(len(weights), np.nan)
    return {name: np.mean(each, axis=0) if each else nothing for name, each in found.items()}


def assert_scores(measured: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float = 1e-5) -> None:
    assert set(measured) == set(expected) == set(SCORES)
    for name, values in measured.items():
        assert values.dtype == np.float32 and values.shape == expected[name].shape, name
        np.testing.assert_allclose(values, expected[name], rtol=tolerance, atol=tolerance, err_msg=name)


def check(name: str, inputs: dict[str, torch.Tensor], nowhere: int = 0) -> list[dict[str, np.ndarray]]:
    """head_scores of an architecture against the oracle; the first `nowhere` tokens are padding that sees nothing."""
    architecture = ARCHITECTURES[name]
    cap = capture(architecture.model(), **inputs)
    own = eager_weights(architecture.model(), **inputs)
    measured = head_scores(cap)
    calls = {kind: iter(weights) for kind, weights in own.items()}
    ids = {"encoder": inputs["input_ids"], "decoder": inputs.get("decoder_input_ids", inputs["input_ids"])}
    for layer, scores in zip(cap.layers, measured, strict=True):
        weights = next(calls.get(layer.kind) or calls[""])
        weights[:, :nowhere] = 0  # eager shares a row that may look nowhere evenly; for us it is a gap
        read = None if layer.kind == "cross" else ids[layer.kind][0].tolist()
        assert_scores(scores, by_hand(weights, read))
    assert all(next(rest, None) is None for rest in calls.values())
    return measured


def repeating(tokens: int, seed: int = 3) -> torch.Tensor:
    """(1, tokens) of seven different ids: most have earlier copies."""
    return torch.randint(3, 10, (1, tokens), generator=torch.Generator().manual_seed(seed))


# ── the scores ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["Llama: grouped", "Mistral: sliding window", "gpt-oss: learned sinks", "BERT"])
def test_scores_equal_the_loops(name):
    for scores in check(name, {"input_ids": repeating(23)}):
        assert all(np.isfinite(values).all() for values in scores.values())
        assert all(np.ptp(values) > 0 for values in scores.values()), "every head has a number of its own"


@pytest.mark.parametrize("name", ["T5: relative positions", "Marian: sinusoids"])
@pytest.mark.parametrize("source, target", [(23, 11), (9, 13)])
def test_scores_of_an_encoder_decoder(name, source, target):
    measured = check(name, {"input_ids": repeating(source), "decoder_input_ids": repeating(target, seed=4)})
    for (kind, _), scores in zip(ARCHITECTURES[name].order, measured, strict=True):
        unknown = {score for score, values in scores.items() if np.isnan(values).all()}
        assert unknown == (set(OF_ONE_TEXT) if kind == "cross" else set())


def test_scores_of_a_model_that_hands_out_weights_alone():
    model = tf.BloomForCausalLM(tf.BloomConfig(vocab_size=VOCABULARY, hidden_size=40, n_layer=2, n_head=5)).eval()
    ids = repeating(23)
    cap = capture(model, input_ids=ids)
    with torch.no_grad():
        own = model(input_ids=ids, output_attentions=True).attentions
    for scores, weights in zip(head_scores(cap), own, strict=True):
        assert_scores(scores, by_hand(weights[0].double().numpy(), ids[0].tolist()))


@pytest.mark.parametrize("name", ["Llama: grouped", "BERT", "gpt-oss: learned sinks"])
@pytest.mark.parametrize(
    "ids, known",
    [
        ([5], {"local", "entropy", "distance"}),
        ([5, 6], {"local", "entropy", "distance", "previous", "same"}),
        ([5, 5], {"local", "entropy", "distance", "previous", "same", "duplicate"}),
        ([5, 6, 7], {"local", "entropy", "distance", "previous", "same", "first"}),
        ([5, 6, 5], {"local", "entropy", "distance", "previous", "same", "first", "duplicate", "induction"}),
    ],
)
def test_a_score_without_a_row_is_unknown(name, ids, known):
    for scores in check(name, {"input_ids": torch.tensor([ids])}):
        assert {score for score, values in scores.items() if np.isfinite(values).all()} == known
        assert all(np.isnan(values).all() for score, values in scores.items() if score not in known)


def test_one_token_alone_looks_at_itself():
    for scores in check("Llama: grouped", {"input_ids": torch.tensor([[5]])}):
        assert (scores["local"] == 1).all() and (scores["entropy"] == 0).all() and (scores["distance"] == 0).all()


@pytest.mark.parametrize("name, nowhere", [("Llama: grouped", 3), ("Mistral: sliding window", 3), ("BERT", 0)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding(name, nowhere, side):
    """Padding before a decoder's text sees nothing: no row of it counts. Elsewhere it looks at the text."""
    mask = torch.ones(1, 23, dtype=torch.long)
    mask[0, slice(0, 3) if side == "left" else slice(20, 23)] = 0
    check(name, {"input_ids": repeating(23), "attention_mask": mask}, nowhere=nowhere if side == "left" else 0)


@pytest.mark.parametrize("tokens", [13, 20, 21, 22, 23, 40])
@pytest.mark.parametrize("kind", ["Llama: grouped", "BERT"])
def test_which_rows_of_a_long_text_are_read(monkeypatch, kind, tokens):
    monkeypatch.setattr(heads, "ROWS_READ", 7)
    monkeypatch.setattr(heads, "ROWS_AT_ONCE", 3)
    step = {13: 2, 20: 3, 21: 3, 22: 4, 23: 4, 40: 6}[tokens]
    ids = repeating(tokens)
    cap = capture(ARCHITECTURES[kind].model(), input_ids=ids)
    own = eager_weights(ARCHITECTURES[kind].model(), input_ids=ids)[""]
    for scores, weights in zip(head_scores(cap), own, strict=True):
        assert_scores(scores, by_hand(weights, ids[0].tolist(), range(0, tokens, step)))


def test_a_text_of_more_than_512_tokens(small):
    ids = torch.randint(5, 45, (1, 1025), generator=torch.Generator().manual_seed(5))
    cap = capture(small.model, input_ids=ids)
    layer = cap.layers[2]
    own = eager_twin(small.model)
    with torch.no_grad():
        weights = own(input_ids=ids, output_attentions=True).attentions[2][0].double().numpy()
    expected = by_hand(weights, ids[0].tolist(), range(0, 1025, 3))
    assert_scores(head_scores(replace(cap, layers=[layer]))[0], expected)


# ── the control ─────────────────────────────────────────────────────────────────────────────────────────────────────


def words_tokenizer(frame: str, words: int = 90, **special: str) -> tf.PreTrainedTokenizerFast:
    """One token a word; frame: what stands around a text, such as "<s> $A"."""
    names = list(dict.fromkeys(special.values()))
    vocabulary = {word: n for n, word in enumerate([*names, *(f"w{n}" for n in range(words))])}
    backend = Tokenizer(token_models.WordLevel(vocabulary, unk_token=special["unk_token"]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    around = [(name, vocabulary[name]) for name in names]
    backend.post_processor = processors.TemplateProcessing(single=frame, special_tokens=around)
    return tf.PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def tiny_llama(tokenizer: tf.PreTrainedTokenizerFast | None = None, **sizes: int) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA | sizes)).eval(), tokenizer)


SENTENCE_END = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>"}
SENTENCE = SENTENCE_END | {"bos_token": "<s>"}
BERTS = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
FRAMES = {
    "nothing": ("$A", SENTENCE, [], []),
    "T5 and Marian": ("$A </s>", SENTENCE_END, [], ["</s>"]),
    "Llama": ("<s> $A", SENTENCE, ["<s>"], []),
    "BART": ("<s> $A </s>", SENTENCE, ["<s>"], ["</s>"]),
    "BERT": ("[CLS] $A [SEP]", BERTS, ["[CLS]"], ["[SEP]"]),
}


@pytest.mark.parametrize("frame, special, before, after", FRAMES.values(), ids=FRAMES)
def test_the_control_is_two_copies_in_the_tokenizers_frame(frame, special, before, after):
    tokenizer = words_tokenizer(frame, **special)
    lm = tiny_llama(tokenizer)
    ids = control_ids(lm, 0)
    assert ids.shape == (1, len(before) + 80 + len(after)) and ids.dtype == torch.long
    names = tokenizer.convert_ids_to_tokens(ids[0].tolist())
    inside = names[len(before) : len(before) + 80]
    assert names == before + inside + after and inside[:40] == inside[40:]
    assert len(set(inside[:40])) > 20, "drawn, not repeated"
    framed = tokenizer(" ".join(inside))["input_ids"]
    assert framed == ids[0].tolist(), "the frame that the tokenizer puts around these words"


def test_every_ordinary_token_is_drawn_and_no_other():
    tokenizer = words_tokenizer("<s> $A", words=60, **SENTENCE)  # fewer than the model has rows
    lm = tiny_llama(tokenizer)
    drawn = {i for seed in range(60) for i in control_ids(lm, seed)[0, 1:].tolist()}
    assert drawn == set(range(len(tokenizer))) - set(tokenizer.all_special_ids)


def test_without_a_tokenizer_every_id_but_the_models_own_special_ones():
    lm = tiny_llama()
    assert {i for seed in range(90) for i in control_ids(lm, seed)[0].tolist()} == set(range(3, VOCABULARY))
    assert control_ids(lm, 0).shape == (1, 80)


@pytest.mark.parametrize("words", [1, 3, 7])
def test_a_small_vocabulary_repeats_itself(words):
    lm = tiny_llama(words_tokenizer("<s> $A", words=words, **SENTENCE))
    ids = control_ids(lm, 1)[0].tolist()
    assert len(ids) == 81 and ids[1:41] == ids[41:] and len(set(ids[1:])) == words
    for scores in control_scores(lm):
        assert all(np.isfinite(values).all() for values in scores.values())


def test_draws_differ_and_come_again(small):
    drawn = [control_ids(small, seed) for seed in range(4)]
    assert all(not torch.equal(a, b) for n, a in enumerate(drawn) for b in drawn[:n])
    assert all(torch.equal(ids, control_ids(small, seed)) for seed, ids in enumerate(drawn))
    assert all(ids.shape == (1, 80) for ids in drawn), "the small model has no frame"


def test_a_context_shorter_than_the_control():
    lm = tiny_llama(words_tokenizer("<s> $A", words=90, **SENTENCE), max_position_embeddings=33)
    measured = control_scores(lm)
    assert [len(scores["previous"]) for scores in measured] == [6, 6, 6]
    assert all(np.isfinite(scores["previous"]).all() for scores in measured)


def test_control_scores_are_the_mean_of_four_draws():
    lm = LanguageModel(ARCHITECTURES["T5: relative positions"].model(), words_tokenizer("$A </s>", **SENTENCE_END))
    draws = [control_ids(lm, seed) for seed in range(4)]
    own = [
        eager_weights(ARCHITECTURES["T5: relative positions"].model(), input_ids=ids, decoder_input_ids=ids)
        for ids in draws
    ]
    at = {"encoder": 0, "decoder": 0, "cross": 0}
    for (kind, _), scores in zip(ARCHITECTURES["T5: relative positions"].order, control_scores(lm), strict=True):
        each = [
            by_hand(weights[kind][at[kind]], None if kind == "cross" else ids[0].tolist())
            for weights, ids in zip(own, draws, strict=True)
        ]
        assert_scores(scores, {name: np.mean([one[name] for one in each], axis=0) for name in SCORES})
        at[kind] += 1


def kinds(control: dict[str, np.ndarray]) -> list[tuple[str, float] | None]:
    return [kind_of(control, head) for head in range(len(control["previous"]))]


def test_a_head_is_called_after_its_highest_score_from_0_4_on():
    nan, unknown = math.nan, np.full(7, math.nan)
    control = {
        "previous": np.array([0.39, 0.40, 0.10, 0.50, nan, 0.1, 0.1]),
        "same": np.array([0.10, 0.10, 0.41, 0.60, nan, 0.1, 0.1]),
        "first": np.array([0.10, 0.10, 0.10, 0.70, nan, nan, 0.1]),
        "induction": np.array([0.10, 0.10, 0.10, 0.80, nan, 0.9, 0.1]),
        "duplicate": np.array([0.10, 0.10, 0.10, 0.10, nan, 0.1, 0.6]),
        "local": np.full(7, 0.99),
        "entropy": np.full(7, 5.0),
        "distance": np.full(7, 9.0),
    }
    assert kinds(control) == [
        *(None, ("previous", 0.40), ("same", 0.41), ("induction", 0.80)),
        *(None, ("induction", 0.9), ("duplicate", 0.6)),
    ]
    crossing = control | dict.fromkeys(OF_ONE_TEXT, unknown) | {"first": np.array([0.3, 0.5, *unknown[:5]])}
    assert kinds(crossing) == [None, ("first", 0.5), None, None, None, None, None]


def eager_twin(model: tf.PreTrainedModel) -> tf.PreTrainedModel:
    """The same weights, with transformers' eager attention."""
    twin = type(model)(copy.deepcopy(model.config)).eval()
    twin.load_state_dict(model.state_dict())
    twin.set_attn_implementation("eager")
    return twin


def eager_control(lm: LanguageModel, layers: list[int]) -> dict[int, dict[str, np.ndarray]]:
    """The oracle's scores of these layers on the four draws of the control."""
    twin, draws = eager_twin(lm.model), {layer: [] for layer in layers}
    for seed in range(4):
        ids = control_ids(lm, seed)
        with torch.no_grad():
            weights = twin(input_ids=ids, output_attentions=True).attentions
        for layer in layers:
            draws[layer].append(by_hand(weights[layer][0].double().numpy(), ids[0].tolist()))
    return {layer: {name: np.mean([d[name] for d in each], axis=0) for name in SCORES} for layer, each in draws.items()}


def test_the_small_models_heads_are_those_on_its_card(small):
    control, expected = control_scores(small), eager_control(small, [0, 1, 2, 3])
    card = json.loads((models.ASSETS / "small" / "measurements.json").read_text())["heads"]
    assert len(card) == 16 and sum(head["kind"] is not None for head in card) == 5
    for layer, scores in enumerate(control):
        assert_scores(scores, expected[layer])
    for head in card:
        found = kind_of(control[head["layer"]], head["head"])
        if head["kind"] is None:
            assert found is None, head
            continue
        assert found is not None and SCORES[found[0]].title == head["kind"], head
        assert found[1] == pytest.approx(head[found[0]], abs=0.05)


@needs_smollm2
def test_the_known_heads_of_smollm2():
    lm = load_model("smollm2-135m")
    control, expected = control_scores(lm), eager_control(lm, [16, 18])
    for layer in (16, 18):
        for name in SCORES:
            np.testing.assert_allclose(control[layer][name], expected[layer][name], rtol=1e-3, atol=1e-3)
    for layer, head, kind in ((18, 6, "induction"), (16, 0, "previous")):
        found = kind_of(control[layer], head)
        assert found is not None and found[0] == kind
        assert abs(found[1] - expected[layer][kind][head]) < 0.05 and found[1] > 0.7


# ── weight by distance ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("queries, keys", [(5, 7), (7, 7), (3, 5), (1, 1), (1, 5)])
@pytest.mark.parametrize("gaps", ["none", "ahead", "many"])
def test_by_distance_against_loops(queries, keys, gaps):
    """The last query is the last key, as where a cache holds the first ones."""
    random = np.random.default_rng(queries * 10 + keys)
    weights = random.random((queries, keys)).astype(np.float32)
    first = keys - queries
    for q in range(queries):
        for k in range(keys):
            if (gaps == "ahead" and k > q + first) or (gaps == "many" and random.random() < 0.6):
                weights[q, k] = np.nan
    at: dict[int, list[float]] = {}
    for q in range(queries):
        for k in range(keys):
            if not math.isnan(weights[q, k]):
                at.setdefault(q + first - k, []).append(float(weights[q, k]))
    distances, means = by_distance(weights)
    assert distances.tolist() == sorted(at)
    np.testing.assert_allclose(means, [np.mean(at[d]) for d in sorted(at)], rtol=1e-6)
    assert means.dtype == np.float32


def test_nothing_seen_has_no_distance():
    distances, means = by_distance(np.full((3, 5), np.nan, dtype=np.float32))
    assert len(distances) == len(means) == 0


def curves_by_hand(weights: np.ndarray, rows: range) -> np.ndarray:
    """weights (heads, q, k) float64, 0 where a query may not look."""
    heads, queries, keys = weights.shape
    longest = max(queries, keys)
    bins = min(32, longest)
    sums, pairs = np.zeros((heads, bins)), np.zeros(bins)
    for q in rows:
        for k in range(keys):
            if weights[:, q, k].any():
                place = int(abs(q - k) * bins / longest)
                pairs[place] += 1
                sums[:, place] += weights[:, q, k]
    means = np.divide(sums, pairs, out=np.zeros_like(sums), where=pairs > 0)
    return means / means.max(axis=1, keepdims=True)


@pytest.mark.parametrize(
    "name, tokens",
    [
        ("Llama: grouped", 1),
        ("Llama: grouped", 7),
        ("Llama: grouped", 45),
        ("Mistral: sliding window", 33),
        ("BERT", 37),
        ("gpt-oss: learned sinks", 23),
    ],
)
@pytest.mark.parametrize("padded", [False, True])
def test_curves_against_loops(monkeypatch, name, tokens, padded):
    monkeypatch.setattr(heads, "ROWS_READ", 7)
    monkeypatch.setattr(heads, "ROWS_AT_ONCE", 3)
    inputs = {"input_ids": repeating(tokens)}
    padding = 3 if padded and tokens > 5 else 0
    if padding:
        inputs["attention_mask"] = (torch.arange(tokens) >= padding).long()[None]
    cap = capture(ARCHITECTURES[name].model(), **inputs)
    own = eager_weights(ARCHITECTURES[name].model(), **inputs)[""]
    for layer, weights in zip(cap.layers, own, strict=True):
        if name != "BERT":
            weights[:, :padding] = 0
        curves = distance_curves(layer)
        assert curves.dtype == np.float32
        np.testing.assert_allclose(curves, curves_by_hand(weights, range(0, tokens, -(-tokens // 7))), atol=1e-5)


def test_curves_of_an_encoder_decoder():
    inputs = {"input_ids": repeating(41), "decoder_input_ids": repeating(11, seed=4)}
    cap = capture(ARCHITECTURES["BART"].model(), **inputs)
    own = eager_weights(ARCHITECTURES["BART"].model(), **inputs)
    calls = {kind: iter(weights) for kind, weights in own.items()}
    for layer in cap.layers:
        weights = next(calls[layer.kind])
        np.testing.assert_allclose(distance_curves(layer), curves_by_hand(weights, range(weights.shape[1])), atol=1e-5)
