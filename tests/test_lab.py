"""lab(), against transformers' eager attention in one pass without a cache and with a mask that hides the lost rows."""

import gc
import json
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr

from attention_core import HeadlightError, LanguageModel, load_model
from attention_core.generation import branch, decode
from attention_core.keeping import Policy, rounded_bytes
from attention_core.lab import LabRun, LabStep, divergence, lab
from attention_core.run import Run
from attention_core.run_file import open_run, run_bytes
from attention_core.sampling import Sampling
from tests.architectures import ARCHITECTURES, some_ids, with_eager
from tests.test_generation import bloom, t5
from tests.tiny import letters, needs_smollm2, tiny

PROMPT, NEW = 11, 10
LLAMA, GPT2, OPT = "Llama: grouped", "GPT-2: learned positions", "OPT: positions from an offset"
DEEPSEEK = "DeepSeek-V3: latent, values of another size"
DIFFLLAMA = "DiffLlama: attention twice in a layer"  # its heads blend the values of all key-value heads
MODELS = [LLAMA, GPT2, OPT, DEEPSEEK, "GPT-BigCode: multi-query", DIFFLLAMA]
WINDOW, SINKS, LEAST = Policy("window", window=5), Policy("sinks", first=2, window=3), Policy("least", window=6)
GONE, LATER = Policy("row", row=3), Policy("row", row=PROMPT + 2)  # of the prompt, and of a token that it writes
EIGHT, FOUR = Policy("quantised", bits=8), Policy("quantised", bits=4)
EVERY_POLICY = [Policy(), WINDOW, SINKS, LEAST, GONE, LATER, EIGHT, FOUR]


@cache
def model_of(name: str) -> LanguageModel:
    made = {"Bloom": bloom, "T5": t5}.get(name, lambda: ARCHITECTURES[name].model())()
    made.generation_config.eos_token_id = None
    return LanguageModel(made, name=name)


@cache
def run_of(name: str) -> Run:
    return Run.of(decode(model_of(name), some_ids(PROMPT), NEW, uncached=False))


@cache
def steps_of(name: str, policy: Policy) -> tuple[LabStep, ...]:
    return tuple(lab(model_of(name), run_of(name), policy))


def hidden(steps: list[LabStep] | tuple[LabStep, ...], prompt: int, heads: int) -> torch.Tensor:
    """(layers, query heads, tokens, tokens) bool: what a query saw: the rows that were left, and its own."""
    tokens = prompt + len(steps) - 1
    seen = torch.ones(tokens, tokens).tril().bool().repeat(len(steps[0].kept), heads, 1, 1)
    for query, before in enumerate(steps[:-1], start=prompt):
        for n, kept in enumerate(before.kept):
            seen[n, :, query, :query] = False
            for h in range(heads):
                seen[n, h, query, kept[h * len(kept) // heads].long()] = True
    return seen


def eager_pass(lm: LanguageModel, tokens: list[int], seen: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """One pass without a cache → logits (tokens, vocabulary), and the weights (heads, tokens, tokens) of each layer."""
    model = with_eager(lm.model)
    added = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    turn = iter(range(len(seen)))

    def own_mask(module, args, kwargs):
        return args, kwargs | {"attention_mask": added[next(turn)][None]}

    attentions = [m for name, m in model.named_modules() if name.endswith((".attn", ".self_attn"))]
    assert len(attentions) == len(seen)
    for module in attentions:
        module.register_forward_pre_hook(own_mask, with_kwargs=True)
    ids = torch.tensor([tokens])
    with torch.no_grad():
        places = torch.arange(len(tokens))[None]
        out = model(input_ids=ids, position_ids=places, use_cache=False, output_attentions=True)
    return out.logits[0], [weights[0] for weights in out.attentions]


def read_by(run: Run) -> list[int]:
    return [*run.facts.prompt, *run.tokens[:-1]]


# ── nothing but the missing rows changes ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("policy", [Policy(), WINDOW, SINKS, GONE, LATER, LEAST], ids=lambda p: p.title)
@pytest.mark.parametrize("name", MODELS)
def test_the_scores_are_those_of_a_pass_that_hides_the_lost_rows(name, policy):
    lm, run, steps = model_of(name), run_of(name), steps_of(name, policy)
    assert [step.number for step in steps] == list(range(NEW))
    heads = lm.model.config.num_attention_heads
    logits, weights = eager_pass(lm, read_by(run), hidden(steps, PROMPT, heads))
    expected = logits[PROMPT - 1 :]
    for step, own, theirs in zip(steps, run.steps, expected, strict=True):
        full, less = (log_softmax(t.double().numpy()) for t in (own.logits, theirs))
        assert abs(step.divergence - rel_entr(np.exp(full), np.exp(less)).sum()) < 1e-5
        assert step.token == int(theirs.argmax()) and step.full_token == int(own.logits.argmax())
    if policy.kind == "least":
        heavy_hitters(steps, weights, policy.window)


def heavy_hitters(steps: tuple[LabStep, ...], weights: list[torch.Tensor], count: int) -> None:
    """After every step, by the attention of that pass: the rows that stay got the most a query of those there were."""
    for n, layer in enumerate(weights):
        groups = len(steps[0].kept[n])
        got = layer.double().unflatten(0, (groups, -1)).sum(1).numpy()  # (groups, tokens, tokens)
        for g in range(groups):
            before = list(range(PROMPT - 1))
            for step in steps:
                read = PROMPT + step.number
                there = [*before, read - 1]
                worth = {row: got[g, row:read, row].sum() / (read - row) for row in there}
                before = sorted(sorted(there, key=worth.__getitem__)[-count:])
                assert step.positions(n, g) == before


@pytest.mark.parametrize("policy", EVERY_POLICY, ids=lambda p: p.title)
def test_the_small_model_too(small, policy):
    run = Run.of(decode(small, "The old dog slept by the door, and", 8, uncached=False))
    steps = list(lab(small, run, policy))
    assert len(steps) == len(run.steps) and steps[0].divergence == 0
    if policy.kind == "quantised":
        assert max(step.divergence for step in steps) < {8: 0.01, 4: 1.0}[policy.bits]
        return
    prompt = len(run.facts.prompt)
    seen = hidden(steps, prompt, small.model.config.num_attention_heads)
    logits, _ = eager_pass(small, read_by(run), seen)
    for step, own, theirs in zip(steps, run.steps, logits[prompt - 1 :], strict=True):
        full, less = (log_softmax(t.double().numpy()) for t in (own.logits, theirs))
        assert abs(step.divergence - rel_entr(np.exp(full), np.exp(less)).sum()) < 1e-5


def test_the_logits_themselves_agree(monkeypatch):
    """To 1e-4, as the divergence is flat where it is small."""
    found: list[torch.Tensor] = []
    monkeypatch.setattr("attention_core.lab.divergence", lambda full, logits: found.append(logits) or 0.0)
    for name in MODELS:
        found.clear()
        steps = list(lab(model_of(name), run_of(name), SINKS))
        seen = hidden(steps, PROMPT, model_of(name).model.config.num_attention_heads)
        logits, _ = eager_pass(model_of(name), read_by(run_of(name)), seen)
        assert float((torch.stack(found) - logits[PROMPT - 1 :]).abs().max()) < 1e-4


def test_a_rounded_cache_is_read_as_it_is(monkeypatch):
    """An oracle of our model's own cache: transformers' steps on rows that were rounded here, each once."""
    from transformers import DynamicCache

    lm, run = model_of(LLAMA), run_of(LLAMA)
    rows, found = DynamicCache(config=lm.model.config), []
    ids, done = read_by(run), 0
    for step in run.steps:
        with torch.no_grad():
            out = lm.model(input_ids=torch.tensor([ids[done : step.read]]), past_key_values=rows, use_cache=True)
        found.append(int(out.logits[0, -1].argmax()))
        for layer in rows.layers:
            for tensor in (layer.keys, layer.values):  # in place: heads × rows of what was read now
                for g in range(tensor.shape[1]):
                    for row in range(done, step.read):
                        tensor[0, g, row] = by_hand(tensor[0, g, row].numpy(), 4)
        done = step.read
    steps = steps_of(LLAMA, FOUR)
    assert [step.token for step in steps] == found
    assert steps[-1].divergence > 1e-3 > steps_of(LLAMA, EIGHT)[-1].divergence > 0


def by_hand(row: np.ndarray, bits: int) -> torch.Tensor:
    low, high = min(0.0, float(row.min())), max(0.0, float(row.max()))
    scale = (high - low) / (2**bits - 1)
    zero = round(-low / scale)
    codes = np.clip(np.rint(row.astype(float) / scale) + zero, 0, 2**bits - 1)
    return torch.from_numpy((codes - zero) * scale).float()


# ── what stays, and its bytes ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "policy, stays",
    [
        (Policy(), lambda row, read: True),
        (WINDOW, lambda row, read: row >= read - 5),
        (SINKS, lambda row, read: row < 2 or row >= read - 3),
        (GONE, lambda row, read: row != 3),
        (LATER, lambda row, read: row != PROMPT + 2),
        (FOUR, lambda row, read: True),
    ],
    ids=lambda p: getattr(p, "title", ""),
)
def test_each_step_says_which_rows_are_left(policy, stays):
    for step, own in zip(steps_of(LLAMA, policy), run_of(LLAMA).steps, strict=True):
        expected = [row for row in range(own.read) if stays(row, own.read)]
        assert len(step.kept) == 3 and all(step.positions(layer, 1) == expected for layer in range(3))
        assert step.full_bytes == own.cache_bytes
        if policy.kind != "quantised":
            assert step.cache_bytes == 3 * 2 * 2 * len(expected) * 10 * 4


@pytest.mark.parametrize("name", [LLAMA, DEEPSEEK, DIFFLLAMA])
def test_least_keeps_as_many_rows_everywhere_and_none_comes_back(name):
    steps = steps_of(name, LEAST)
    assert all(rows.shape == (2 if name == LLAMA else 1, 6) for step in steps for rows in step.kept)
    for before, after in pairwise(steps):
        for old, new in zip(before.kept, after.kept, strict=True):
            for one, other in zip(old.tolist(), new.tolist(), strict=True):
                assert set(other) <= {*one, PROMPT + after.number - 1}
    if name == LLAMA:
        assert len({tuple(rows[g].tolist()) for rows in steps[-1].kept for g in range(2)}) > 1
        assert steps[-1].cache_bytes == 3 * 2 * 2 * 6 * 10 * 4


@pytest.mark.parametrize("policy", [EIGHT, FOUR], ids=lambda p: p.title)
def test_rounded_rows_are_counted_with_their_scales(policy):
    for name, own in ((LLAMA, run_of(LLAMA)), (DEEPSEEK, run_of(DEEPSEEK))):
        for step, full in zip(steps_of(name, policy), own.steps, strict=True):
            assert step.cache_bytes == sum(rounded_bytes(t, policy.bits) for pair in full.cache for t in pair)
            assert step.cache_bytes < step.full_bytes


def test_a_cache_may_lose_its_only_row():
    lm = model_of(LLAMA)
    run = Run.of(decode(lm, [7], 4, uncached=False))
    steps = list(lab(lm, run, Policy("row", row=0)))
    assert [step.positions(0) for step in steps] == [[], [1], [1, 2], [1, 2, 3]] and steps[0].cache_bytes == 0
    logits, _ = eager_pass(lm, read_by(run), hidden(steps, 1, 6))
    assert [step.token for step in steps] == logits.argmax(-1).tolist()


def test_a_policy_that_drops_nothing_changes_nothing():
    for policy in (Policy(), Policy("window", window=99), Policy("least", window=99), Policy("row", row=PROMPT + 8)):
        steps = steps_of(LLAMA, policy)
        assert max(step.divergence for step in steps) < 1e-9 and all(step.same for step in steps)
        assert [step.written for step in steps] == run_of(LLAMA).tokens


def test_divergence_is_that_of_scipy():
    one, other = torch.randn(2, 50, generator=torch.Generator().manual_seed(3)) * 4
    p, q = (np.exp(log_softmax(t.double().numpy())) for t in (one, other))
    assert divergence(one, other) == pytest.approx(rel_entr(p, q).sum(), rel=1e-9)
    assert divergence(one, one) == 0
    ruled_out = one.clone()
    ruled_out[7] = -torch.inf
    p = np.exp(log_softmax(ruled_out.double().numpy()))
    assert divergence(ruled_out, other) == pytest.approx(rel_entr(p, q).sum(), rel=1e-9)
    assert divergence(ruled_out, ruled_out) == 0 and divergence(one, ruled_out) == float("inf")


# ── the text that it writes by itself ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("policy", [WINDOW, SINKS, LEAST, GONE, FOUR], ids=lambda p: p.title)
def test_its_own_text_is_the_most_likely_one_on_its_own_tokens(policy):
    """Reading what it wrote leads to the same tokens: a run with these set by hand, on the policy's cache."""
    lm, steps = model_of(LLAMA), steps_of(LLAMA, policy)
    trial = LabRun.of(lm, policy, steps)
    assert trial.parted is not None and trial.written[: trial.parted] == run_of(LLAMA).tokens[: trial.parted]
    own = Run.of(decode(lm, some_ids(PROMPT), NEW, forced=dict(enumerate(trial.written)), uncached=False))
    assert [step.token for step in lab(lm, own, policy)] == trial.written
    assert trial.written_texts == [str(token) for token in trial.written]  # without a tokenizer
    assert trial.text.split() == trial.written_texts and trial.full_text.split() == trial.full_texts


def test_a_sampled_run_is_compared_with_the_same_draws():
    lm, how = model_of(LLAMA), Sampling(do_sample=True, temperature=1.5, seed=5)
    run = Run.of(decode(lm, some_ids(PROMPT), NEW, sampling=how, uncached=False))
    assert run.tokens != run_of(LLAMA).tokens
    assert [step.written for step in lab(lm, run, Policy())] == run.tokens
    rounded = list(lab(lm, run, EIGHT))
    assert rounded[0].written == run.tokens[0] and [step.full_written for step in rounded] == run.tokens


def test_tokens_set_by_the_user_are_set_again():
    lm = model_of(LLAMA)
    run = Run.of(branch(lm, run_of(LLAMA), 4, 50))
    for policy in (Policy(), WINDOW):
        steps = list(lab(lm, run, policy))
        assert steps[4].written == 50 == steps[4].full_written
        assert [step.full_written for step in steps] == run.tokens
    assert [step.written for step in lab(lm, run, Policy())] == run.tokens


def test_its_text_ends_at_an_end_token_and_the_comparison_goes_on():
    made = ARCHITECTURES[LLAMA].model()
    free = LabRun.of(model_of(LLAMA), WINDOW, steps_of(LLAMA, WINDOW))
    end = next(token for token in free.written[free.parted :] if token not in run_of(LLAMA).tokens)
    place = free.written.index(end)
    made.generation_config.eos_token_id = end
    lm = LanguageModel(made, name=LLAMA)
    trial = LabRun.of(lm, WINDOW, lab(lm, Run.of(decode(lm, some_ids(PROMPT), NEW, uncached=False)), WINDOW))
    assert place < NEW - 1 and trial.written == free.written[: place + 1] and len(trial.steps) == NEW
    assert trial.steps[place].written == end and trial.steps[place + 1].written is None
    assert [step.token for step in trial.steps] == [step.token for step in free.steps]


def test_its_text_ends_at_a_stop_word():
    made = tiny()
    made.generation_config.eos_token_id = None
    lm = LanguageModel(made, letters())
    policy = Policy("window", window=1)
    free = LabRun.of(lm, policy, lab(lm, Run.of(decode(lm, "abcdefgh", NEW)), policy))
    word = next(a for a in free.text[free.parted :] if a not in free.full_text)
    run = Run.of(decode(lm, "abcdefgh", NEW, sampling=Sampling(stop=(word,))))
    trial = LabRun.of(lm, policy, lab(lm, run, policy))
    assert len(run.steps) == NEW and trial.text == free.text[: free.text.index(word) + 1]


def test_what_is_there_so_far_is_a_lab_run_too():
    steps = lab(model_of(LLAMA), run_of(LLAMA), WINDOW)
    first = next(steps)
    trial = LabRun.of(model_of(LLAMA), WINDOW, [first])
    assert trial.mean_divergence == 0 and trial.same == 1 and trial.parted is None and len(trial.full_texts) == 1
    whole = LabRun.of(model_of(LLAMA), WINDOW, [first, *steps])
    assert whole.mean_divergence == pytest.approx(np.mean([step.divergence for step in whole.steps[1:]]))
    assert whole.same == sum(
        step.token == own.token for step, own in zip(whole.steps, run_of(LLAMA).steps, strict=True)
    )
    assert whole.steps[2].text == str(whole.steps[2].token)
    with pytest.raises(HeadlightError, match="no step yet"):
        LabRun.of(model_of(LLAMA), WINDOW, [])


# ── leaving nothing behind ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_run_is_left_as_it_was_and_so_is_the_model():
    lm = model_of(LLAMA)
    run = Run.of(decode(lm, some_ids(PROMPT), NEW, uncached=False))
    before = [[(key.clone(), value.clone()) for key, value in step.cache] for step in run.steps]
    for policy in EVERY_POLICY:
        steps = lab(lm, run, policy)
        next(steps)
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        next(steps)
        steps.close()
    for step, rows in zip(run.steps, before, strict=True):
        for (key, value), (old_key, old_value) in zip(step.cache, rows, strict=True):
            assert torch.equal(key, old_key) and torch.equal(value, old_value)
    assert lm.model.config._attn_implementation == lm.check.implementation


def test_two_trials_may_take_turns():
    lm, run = model_of(LLAMA), run_of(LLAMA)
    pairs = list(zip(lab(lm, run, WINDOW), lab(lm, run, LEAST), strict=True))
    for got, policy in zip(zip(*pairs, strict=True), (WINDOW, LEAST), strict=True):
        alone = steps_of(LLAMA, policy)
        assert [(s.token, s.written, s.divergence) for s in got] == [(s.token, s.written, s.divergence) for s in alone]


@pytest.mark.parametrize("policy", [WINDOW, LEAST], ids=lambda p: p.title)
def test_it_can_be_stopped_within_a_pass(policy):
    calls: list[int] = []

    def stop(done: int) -> None:
        calls.append(done)
        if len(calls) == 8:  # a pass is three calls
            raise HeadlightError("Stopped.")

    with pytest.raises(HeadlightError, match="Stopped"):
        list(lab(model_of(LLAMA), run_of(LLAMA), policy, stop))
    assert calls == [1, 2, 3, 1, 2, 3, 1, 2]
    gc.collect()
    assert [s.token for s in lab(model_of(LLAMA), run_of(LLAMA), policy)] == [s.token for s in steps_of(LLAMA, policy)]


# ── what the lab cannot do ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name, says",
    [
        ("Mistral: sliding window", r"layer 0: sliding window of 7: keeps the last 6 rows\). Choose a model"),
        ("Gemma 3: local and global layers", "Not every layer of Gemma 3.* keeps one row a token"),
        ("MiniMax: linear attention between", "layer 0: linear attention: keeps a state"),
        ("T5", "T5 has an encoder"),
        ("BART", "BART has an encoder"),
        ("Bloom", "Bloom hands out its weights alone"),
    ],
)
def test_other_caches_are_refused_in_words_before_anything_is_computed(name, says):
    run = Run.of(decode(model_of(name), some_ids(4), 2, uncached=False))
    with pytest.raises(HeadlightError, match=says):
        lab(model_of(name), run, WINDOW)


def test_a_window_larger_than_the_text_is_refused_too():
    """It would begin to forget by itself."""
    run = Run.of(decode(model_of("Mistral: sliding window"), some_ids(2), 2, uncached=False))
    with pytest.raises(HeadlightError, match="sliding window"):
        lab(model_of("Mistral: sliding window"), run, Policy())


def test_a_model_that_counts_positions_by_its_rows_is_refused(monkeypatch):
    monkeypatch.setattr("attention_core.lab.accepted_inputs", lambda model: {"input_ids", "past_key_values"})
    with pytest.raises(HeadlightError, match="counts positions by the rows"):
        lab(model_of(LLAMA), run_of(LLAMA), WINDOW)


def test_runs_that_do_not_fit():
    lm, run = model_of(LLAMA), run_of(LLAMA)
    with pytest.raises(HeadlightError, match="opened from a file"):
        lab(lm, open_run(run_bytes(run)), WINDOW)
    with pytest.raises(HeadlightError, match="open Llama: grouped to try"):
        lab(model_of(GPT2), run, WINDOW)
    other = replace(run.steps[-1], facts=replace(run.facts, revision="abc"))
    with pytest.raises(HeadlightError, match="This run is of"):
        lab(lm, Run((*run.steps[:-1], other)), WINDOW)
    with pytest.raises(HeadlightError, match="no row 20 in this run: choose 0 to 19"):
        lab(lm, run, Policy("row", row=PROMPT + NEW - 1))


# ── the first tokens matter ─────────────────────────────────────────────────────────────────────────────────────────

EXAMPLE = json.loads((Path(__file__).parents[1] / "assets" / "lab.json").read_text(encoding="utf-8"))


@needs_smollm2
def test_without_the_first_rows_smollm2_falls_apart_and_four_of_them_save_it():
    """StreamingLLM's claim, on as many rows, for the example that the page offers."""
    lm, rows = load_model(EXAMPLE["model"]), EXAMPLE["window"]
    run = Run.of(decode(lm, EXAMPLE["text"], EXAMPLE["new"], uncached=False))
    window, sinks = (
        LabRun.of(lm, policy, lab(lm, run, policy))
        for policy in (Policy(EXAMPLE["policy"], window=rows), Policy("sinks", first=4, window=rows - 4))
    )
    assert window.full_text.startswith(" fifteen apples, sixteen apples, seventeen apples, eighteen apples,")
    assert sinks.text == sinks.full_text and sinks.mean_divergence < 0.1
    assert "sixteen" not in window.text and window.mean_divergence > 3
    assert window.steps[-1].cache_bytes == sinks.steps[-1].cache_bytes == 30 * 2 * 3 * rows * 64 * 4
