"""decode() and branch(), against generate(), the model's own cache, its eager attention and passes without a cache."""

import gc
import threading
import weakref
from dataclasses import replace
from functools import cache

import pytest
import torch
import transformers as tf

from attention_core import HeadlightError, LanguageModel, load_model
from attention_core.generation import branch, decode
from attention_core.run import Run
from attention_core.sampling import Sampling
from tests.architectures import ARCHITECTURES, VOCABULARY, some_ids, with_eager
from tests.saved import same_bits
from tests.sizes import IDS, LLAMA
from tests.tiny import letters, needs_smollm2, tiny

PROMPT, NEW = 11, 12
GEMMA, GPT_OSS, DEEPSEEK = (
    "Gemma 3: local and global layers",
    "gpt-oss: learned sinks",
    "DeepSeek-V3: latent, values of another size",
)
DECODERS = [
    "GPT-2: learned positions",
    "Llama: grouped",
    "GPT-BigCode: multi-query",
    "Mistral: sliding window",
    "Gemma 2: soft cap",
    GEMMA,
    GPT_OSS,
    DEEPSEEK,
    "DiffLlama: attention twice in a layer",
    "MiniMax: linear attention between",
]
PAIRS = ["T5", "BART", "T5Gemma: soft cap on both sides"]
WINDOWED = {"Mistral: sliding window": 7, "Gemma 2: soft cap": 7, GEMMA: 6, GPT_OSS: 7}


@cache
def model_of(name: str) -> LanguageModel:
    """A random model without an end token, so that it writes as much as is asked for."""
    made = {"Bloom": bloom, "T5": t5}.get(name, lambda: ARCHITECTURES[name].model())()
    made.generation_config.eos_token_id = None
    return LanguageModel(made, name=name)


def bloom() -> tf.PreTrainedModel:
    """One that hands out its weights alone."""
    torch.manual_seed(0)
    return tf.BloomForCausalLM(tf.BloomConfig(**IDS, hidden_size=40, n_layer=2, n_head=5)).eval()


def t5() -> tf.PreTrainedModel:
    """With as many layers in its encoder as in its decoder: the cache of generate() has no place for more."""
    sizes = {"d_model": 40, "d_kv": 6, "d_ff": 56, "num_layers": 3, "num_decoder_layers": 3, "num_heads": 5}
    config = tf.T5Config(**IDS | sizes, decoder_start_token_id=0)
    return replace(ARCHITECTURES["T5: relative positions"], build=lambda: tf.T5ForConditionalGeneration(config)).model()


def tolerance(name: str) -> float:
    """Of logits, which reach 9. MiniMax's linear attention sums whole blocks where there is no cache."""
    return 5e-4 if name.startswith("MiniMax") else 1e-4


@cache
def run_of(name: str) -> Run:
    return Run.of(decode(model_of(name), some_ids(PROMPT), NEW))


@pytest.fixture(scope="module")
def smollm2() -> LanguageModel:
    return load_model("smollm2-135m")


def generated(lm: LanguageModel, ids: torch.Tensor, new: int, **how) -> list[int]:
    how = {"do_sample": False, "num_beams": 1, "attention_mask": torch.ones_like(ids)} | how
    return lm.model.generate(input_ids=ids, max_new_tokens=new, **how)[0, -new:].tolist()


# ── the tokens, and the scores without a cache ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [*DECODERS, *PAIRS, "Bloom"])
def test_greedy_tokens_are_those_of_generate_and_the_cache_changes_nothing(name):
    run = run_of(name)
    assert run.tokens == generated(model_of(name), some_ids(PROMPT), NEW)
    assert [step.number for step in run.steps] == list(range(NEW))
    assert len(run.steps[0].input_tokens) == (1 if name in PAIRS else PROMPT)
    for before, step in zip(run.steps, run.steps[1:], strict=False):
        assert step.input_tokens == (before.token,) and step.input_token == before.token
        assert step.computed == range(before.read, before.read + 1)
    for step in run.steps:
        assert step.max_logit_difference < tolerance(name) and step.same_token
        assert step.seconds > 0 and step.seconds_uncached > 0
        assert step.logits.shape == (VOCABULARY,) and step.token == int(step.logits.argmax())
        assert step.untouched and not step.forced


def test_hundred_tokens_of_a_random_llama():
    ids = some_ids(30)
    run = Run.of(decode(model_of("Llama: grouped"), ids, 71))
    assert run.steps[-1].read == 100
    assert max(step.max_logit_difference for step in run.steps) < 1e-4
    assert run.tokens == generated(model_of("Llama: grouped"), ids, 71)


def test_the_small_model_writes_what_generate_writes(small):
    text = "The old dog slept by the door, and"
    run = Run.of(decode(small, text, 90))
    ids = small.encode(text).inputs["input_ids"]
    assert run.tokens == generated(small, ids, len(run.tokens))
    assert max(step.max_logit_difference for step in run.steps) < 1e-4
    assert run.facts.prompt == tuple(ids[0].tolist()) and run.facts.text == text
    first = run.steps[0]
    assert first.input_texts == small.labels(ids) and run.texts == small.labels(torch.tensor(run.tokens))
    assert first.text == first.candidate_texts[0] and first.candidates[0].token == first.token
    assert len(first.candidates) == 10
    chances = first.logits.softmax(-1)
    assert [c.before for c in first.candidates] == chances.topk(10).values.tolist()


@needs_smollm2
def test_smollm2_writes_what_generate_writes(smollm2):
    text = "The old dog slept by the door, and the"
    ids = smollm2.encode(text).inputs["input_ids"]
    run = Run.of(decode(smollm2, text, 4))
    assert run.tokens == generated(smollm2, ids, 4)
    assert max(step.max_logit_difference for step in run.steps) < 1e-4
    assert [len(step.cache) for step in run.steps] == 4 * [30]
    assert run.steps[-1].cache_bytes == 30 * 2 * 3 * (ids.shape[1] + 3) * 64 * 4


# ── the rows ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [*DECODERS, *PAIRS, "Bloom"])
def test_rows_are_those_of_the_models_own_cache(name):
    """An independent run: transformers' generate() up to each step, and the cache that it returns."""
    lm, run = model_of(name), run_of(name)
    for step in (run.steps[0], run.steps[4], run.steps[-1]):
        how = {"return_dict_in_generate": True, "max_new_tokens": step.number + 1, "do_sample": False}
        out = lm.model.generate(input_ids=some_ids(PROMPT), attention_mask=torch.ones(1, PROMPT).long(), **how)
        theirs = out.past_key_values
        sides = [(step.cache, getattr(theirs, "self_attention_cache", theirs))]
        if name in PAIRS:
            sides.append((step.cross_cache, theirs.cross_attention_cache))
        else:
            assert step.cross_cache == ()
        measured = 0
        for ours, side in sides:
            for n, pair in enumerate(ours):
                keys, values = side.layers[n].keys, side.layers[n].values
                if pair is None:
                    assert keys is None
                    continue
                for tensor, own in zip(pair, (keys, values), strict=True):
                    assert tensor.shape == own[0].shape and torch.allclose(tensor, own[0], atol=2e-5)
                measured += keys.nbytes + values.nbytes
        assert step.cache_bytes == measured == sum(t.nbytes for side, _ in sides for pair in side if pair for t in pair)


@pytest.mark.parametrize("name", [*DECODERS, *PAIRS])
def test_rows_that_were_there_stay_to_the_bit(name):
    run = run_of(name)
    for before, step in zip(run.steps, run.steps[1:], strict=False):
        for n, (old, new) in enumerate(zip(before.cache, step.cache, strict=True)):
            if old is None:
                assert new is None
                continue
            gone = step.positions[n].start - before.positions[n].start
            for one, other in zip(old, new, strict=True):
                common = one.shape[1] - gone
                assert same_bits(one[:, gone:], other[:, :common]) and other.shape[1] - common == 1
        for old, new in zip(before.cross_cache, step.cross_cache, strict=True):
            assert all(same_bits(*pair) for pair in zip(old, new, strict=True))


@pytest.mark.parametrize("name", WINDOWED)
def test_a_window_forgets_rows_and_the_step_says_which(name):
    window, run = WINDOWED[name], run_of(name)
    local = [n for n, words in enumerate(run.facts.layers) if words.startswith(f"sliding window of {window}")]
    assert local and all(ARCHITECTURES[name].window("decoder", n) == window for n in local)
    for step in run.steps:
        for n, kept in enumerate(step.positions):
            first = max(0, step.read - window + 1) if n in local else 0
            assert kept == range(first, step.read) and step.dropped[n] == range(0, first)
            assert step.cache[n][0].shape[1] == len(kept)


def test_a_text_shorter_than_the_window_loses_nothing():
    steps = list(decode(model_of("Mistral: sliding window"), some_ids(3), 6))
    assert [[len(d) for d in step.dropped] for step in steps] == [[0] * 3] * 4 + [[1] * 3, [2] * 3]


def test_layers_without_keys_are_none_and_named():
    run = run_of("MiniMax: linear attention between")
    assert [pair is None for pair in run.steps[-1].cache] == [True, False, True, False]
    assert run.facts.layers[0] == "linear attention: keeps a state of fixed size and no rows"
    assert run.facts.layers[1] == "keeps every row"
    assert run.steps[0].state_bytes == run.steps[-1].state_bytes == 2 * 6 * 10 * 10 * 4
    assert [layer.layer for layer in run.steps[3].layers] == [1, 3]


@pytest.mark.parametrize("name", PAIRS)
def test_the_self_cache_grows_and_the_cross_cache_does_not(name):
    run = run_of(name)
    for step in run.steps:
        assert {pair[0].shape[1] for pair in step.cross_cache} == {PROMPT}
        full = [p for p, d in zip(step.positions, step.dropped, strict=True) if not d]
        assert full and all(p == range(step.number + 1) for p in full)
    start = model_of(name).model.generation_config.decoder_start_token_id
    assert run.steps[0].input_tokens == (model_of(name).start if start is None else start,)
    assert run.facts.source == tuple(some_ids(PROMPT)[0].tolist()) and run.facts.seconds_encoder > 0


def test_rows_are_held_once():
    run = Run.of(decode(model_of("Llama: grouped"), some_ids(40), 64, uncached=False))
    last = run.steps[-1]
    rows = 3 * 2 * 2 * 103 * 10 * 4  # layers, key and value, heads, rows, head_dim, bytes
    assert last.cache_bytes == rows == sum(held.nbytes for held in run.rows) and len(run.rows) == 3
    logits, queries = 64 * VOCABULARY * 4, 64 * 3 * 6 * 10 * 4
    assert run.nbytes == rows + logits + queries
    assert sum(step.cache_bytes for step in run.steps) > 40 * rows  # what copies at every step would have held
    pointers = {step.cache[1][0].untyped_storage().data_ptr() for step in run.steps}
    assert len(pointers) == 1


def test_rows_of_a_window_are_held_once_too():
    run = Run.of(decode(model_of("Mistral: sliding window"), some_ids(40), 30, uncached=False))
    one = 2 * 2 * 10 * 4  # of a layer and token
    assert len(run.rows) == 3  # from the first that the last token of the prompt could see
    assert sum(held.nbytes for held in run.rows) == 3 * (7 + 29) * one


# ── the attention ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [*DECODERS, *PAIRS, "Bloom"])
def test_the_strip_is_the_last_row_of_eager_attention(name):
    lm, run = model_of(name), run_of(name)
    eager = with_eager(lm.model)
    eager.config._attn_implementation = "eager"
    for step in (run.steps[0], run.steps[1], run.steps[-1]):
        written = torch.tensor([[*run.facts.prompt, *run.tokens[: step.number]]])
        ids = {"input_ids": some_ids(PROMPT), "decoder_input_ids": written} if name in PAIRS else {"input_ids": written}
        with torch.no_grad():
            out = eager(**ids, output_attentions=True, use_cache=False)
        maps = {
            "decoder": [w for w in (out.decoder_attentions if name in PAIRS else out.attentions)],
            "cross": out.cross_attentions if name in PAIRS else [],
        }
        if name.startswith("MiniMax"):
            maps["decoder"] = [maps["decoder"][1], maps["decoder"][3]]
        for kind, own in maps.items():
            calls = [n for n, layer in enumerate(step.layers) if layer.kind == kind]
            calls = calls[::2] if name.startswith("DiffLlama") else calls
            assert len(calls) == len(own)
            for n, weights in zip(calls, own, strict=True):
                layer, row = step.layers[n], weights[0, :, -1]  # (heads, keys)
                for head in range(layer.heads):
                    strip = step.attention(n, head)
                    assert strip.shape == (1, len(layer.key_positions))
                    whole = torch.zeros(row.shape[1])
                    whole[layer.key_positions] = strip[0]
                    assert (whole - row[head]).abs().max() < 1e-5


def test_the_strip_stands_on_the_rows_of_the_cache():
    """Llama: weights from the step's own query and rows by hand, in float64."""
    step = run_of("Llama: grouped").steps[5]
    for n, (key, value) in enumerate(step.cache):
        layer = step.layers[n]
        assert same_bits(layer.key, key) and same_bits(layer.value, value)
        assert layer.query.shape == (6, 1, 10) and key.shape == (2, PROMPT + 5, 10)
        for head in range(6):
            scores = (key[head // 3].double() @ layer.query[head, 0].double()) * 10**-0.5
            assert torch.allclose(scores.softmax(0), step.attention(n, head)[0].double(), atol=1e-6)


# ── choosing ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", [{}, {"temperature": 0.7}, {"top_k": 9}, {"temperature": 1.4, "top_p": 0.8}])
def test_sampled_tokens_are_those_of_generate_with_the_seed(how):
    lm, ids = model_of("Llama: grouped"), some_ids(PROMPT)
    torch.manual_seed(7)
    theirs = generated(lm, ids, 20, do_sample=True, **{"top_k": 0, "top_p": 1.0, "temperature": 1.0} | how)
    sampling = Sampling(do_sample=True, seed=7, **how)
    assert [s.token for s in decode(lm, ids, 20, sampling=sampling, uncached=False)] == theirs
    other = Sampling(do_sample=True, seed=8, **how)
    assert [s.token for s in decode(lm, ids, 20, sampling=other, uncached=False)] != theirs


def test_a_forced_token_is_read_next():
    lm, plain = model_of("Llama: grouped"), run_of("Llama: grouped")
    token = plain.steps[3].candidates[4].token
    run = Run.of(decode(lm, some_ids(PROMPT), NEW, forced={3: token}))
    assert run.tokens[:4] == [*plain.tokens[:3], token] and run.steps[4].input_token == token
    assert [step.forced for step in run.steps] == [n == 3 for n in range(NEW)]
    assert torch.equal(run.steps[3].logits, plain.steps[3].logits)
    ids = torch.tensor([[*plain.facts.prompt, *run.tokens[:4]]])
    assert run.tokens[4:] == generated(lm, ids, NEW - 4)


@pytest.mark.parametrize("name", ["Llama: grouped", DEEPSEEK, GEMMA, "MiniMax: linear attention between", *PAIRS])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(do_sample=True, seed=3)], ids=["greedy", "sampled"])
def test_a_branch_is_the_run_that_the_forced_token_makes(name, sampling):
    lm = model_of(name)
    run = Run.of(decode(lm, some_ids(PROMPT), 9, sampling=sampling))
    token = (run.tokens[4] + 5) % 90 + 3
    whole = Run.of(decode(lm, some_ids(PROMPT), 9, sampling=sampling, forced={4: token}))
    calls = []
    new = Run.of(branch(lm, run, 4, token, on_layer=calls.append))
    assert new.tokens == whole.tokens and new.facts.branched_at == 4
    assert all(one.kept is other.kept for one, other in zip(run.steps[:5], new.steps[:5], strict=True))
    again = name in (GEMMA, "MiniMax: linear attention between")
    assert bool(new.facts.read_again) == again
    assert calls.count(1) == 4 + again  # passes: nothing before the branch was computed again
    for one, other in zip(whole.steps, new.steps, strict=True):
        assert max((one.logits - other.logits).abs().max(), other.max_logit_difference) < tolerance(name)
        for pair, same in zip(one.cache, other.cache, strict=True):
            assert (pair is None) == (same is None)
            assert pair is None or torch.allclose(pair[0], same[0], atol=1e-4)
    assert run.tokens == [step.token for step in run.steps] and run.facts.branched_at is None


def test_a_decoder_deeper_than_its_encoder_has_room_in_its_cache():
    lm = model_of("T5: relative positions")
    run = run_of("T5: relative positions")
    assert run.tokens == generated(lm, some_ids(PROMPT), NEW, use_cache=False)
    assert len(run.steps[0].cache) == len(run.steps[0].cross_cache) == 3 and None not in run.steps[0].cache
    assert max(step.max_logit_difference for step in run.steps) < 1e-4
    assert not list(branch(lm, run, 3, 50))[-1].facts.read_again


def test_a_branch_may_be_longer_and_may_end_at_once():
    lm, run = model_of("Llama: grouped"), run_of("Llama: grouped")
    assert len(list(branch(lm, run, 2, 50, 20))) == 20
    last = list(branch(lm, run, NEW - 1, 50))
    assert len(last) == NEW and last[-1].token == 50 and last[-1].ends


# ── where it ends ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_ends_at_any_of_several_end_tokens_as_generate_does():
    made = tiny()
    free = generated(LanguageModel(made), some_ids(PROMPT), 20, eos_token_id=None)
    end = next(token for n, token in enumerate(free) if n >= 3 and token not in free[:n])
    made.generation_config.eos_token_id = [96 if end != 96 else 95, end]
    lm = LanguageModel(made)
    run = Run.of(decode(lm, some_ids(PROMPT), 20))
    written = lm.model.generate(some_ids(PROMPT), max_new_tokens=20, do_sample=False)[0, PROMPT:].tolist()
    assert run.tokens == written and run.tokens[-1] == end and len(written) < 20
    assert run.ends == f"It wrote its end token, {end}." and not any(step.ends for step in run.steps[:-1])
    made.generation_config.eos_token_id = end
    assert [step.token for step in decode(lm, some_ids(PROMPT), 20)] == written


def test_it_ends_at_a_stop_word_as_generate_does():
    made = tiny()
    made.generation_config.eos_token_id = None
    lm = LanguageModel(made, letters())
    ids = lm.encode("abc").inputs["input_ids"]
    free = lm.tokenizer.decode(generated(lm, ids, 12))
    word = free[4:6]
    run = Run.of(decode(lm, "abc", 12, sampling=Sampling(stop=(word, "never there"))))
    theirs = lm.model.generate(
        ids, max_new_tokens=12, do_sample=False, stop_strings=[word], tokenizer=lm.tokenizer, eos_token_id=None
    )
    assert run.tokens == theirs[0, 3:].tolist() and lm.tokenizer.decode(run.tokens).endswith(word)
    assert word in run.ends


def test_it_ends_when_the_context_is_full():
    made = tiny(context=40)
    made.generation_config.eos_token_id = None
    lm = LanguageModel(made, name="Tiny")
    run = Run.of(decode(lm, some_ids(33), None))
    assert len(run.steps) == 8 and run.steps[-1].read == 40
    assert run.ends == "The context is full: Tiny reads at most 40 tokens."
    assert len(list(decode(lm, some_ids(40), 1))) == 1
    assert Run.of(decode(lm, some_ids(33), 8)).tokens == run.tokens


def test_the_comparison_stops_by_itself_where_it_becomes_slow():
    lm = model_of("Llama: grouped")
    steps = list(decode(lm, some_ids(254), 5))
    assert [step.seconds_uncached is None for step in steps] == [False] * 3 + [True] * 2
    assert steps[4].max_logit_difference is None and steps[4].same_token is None
    assert all(step.max_logit_difference < 1e-4 for step in decode(lm, some_ids(257), 2, uncached=True))
    assert [step.seconds_uncached for step in decode(lm, some_ids(5), 2, uncached=False)] == [None, None]


def test_a_target_is_what_the_decoder_has_written_already():
    lm = LanguageModel(ARCHITECTURES["BART"].model(), letters())
    lm.model.generation_config.eos_token_id = None
    begun = lm.encode_target("ab").inputs["decoder_input_ids"]
    run = Run.of(decode(lm, "xyz", 5, target="ab"))
    assert run.facts.prompt == tuple(begun[0].tolist()) and len(run.facts.prompt) == 3
    ids = lm.encode("xyz").inputs["input_ids"]
    assert run.tokens == generated(lm, ids, 5, decoder_input_ids=begun, use_cache=False)


# ── leaving nothing behind ──────────────────────────────────────────────────────────────────────────────────────────


def test_two_runs_at_once_do_not_disturb_each_other():
    names = ["Llama: grouped", "Llama: grouped", GEMMA, "BART"]
    found: dict[int, list[int]] = {}

    def work(n: int) -> None:
        torch.set_num_threads(1)
        found[n] = [step.token for step in decode(model_of(names[n]), some_ids(PROMPT), NEW)]

    expected = [run_of(name).tokens for name in names]
    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(len(names))] == expected


def test_two_runs_may_take_turns_in_one_thread_and_a_capture_between():
    lm = model_of("Llama: grouped")
    one, other = decode(lm, some_ids(PROMPT), NEW), decode(lm, some_ids(PROMPT, seed=1), NEW)
    tokens: list[tuple[int, int]] = []
    for a, b in zip(one, other, strict=True):
        lm.capture(some_ids(5))
        tokens.append((a.token, b.token))
    assert [a for a, _ in tokens] == run_of("Llama: grouped").tokens
    assert [b for _, b in tokens] == generated(lm, some_ids(PROMPT, seed=1), NEW)


def test_nothing_is_left_changed_or_held_when_a_run_is_closed_early():
    name = "Mistral: sliding window"
    lm = model_of(name)
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules())
    before = lm.model.config._attn_implementation
    steps = decode(lm, some_ids(PROMPT), 50)
    step = next(steps)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    next(steps)
    rows = step.kept[0].rows
    assert rows.nbytes > 50 * 2 * 2 * 10 * 4  # room for the rows to come
    steps.close()
    assert rows.nbytes == (7 + 1) * 2 * 2 * 10 * 4 and step.cache[0][0].shape[1] == 6
    held = weakref.ref(rows)
    del rows, step, steps
    gc.collect()
    assert held() is None
    assert lm.model.config._attn_implementation == before
    assert hooks == sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules())
    assert next(decode(lm, some_ids(PROMPT), 1)).token == run_of(name).tokens[0]


def test_a_cache_that_changes_rows_it_had_is_found_out(monkeypatch):
    """The steps before keep the rows as they were, and the step that found others says so."""
    lm = model_of("Llama: grouped")
    update, calls = tf.cache_utils.DynamicLayer.update, []

    def meddling(self, *args, **kwargs):
        calls.append(self)
        if len(calls) == 3 * 3 + 2:  # step 3, layer 1
            self.keys = self.keys.clone()
            self.keys[0, 1, 4, 2] += 1
        return update(self, *args, **kwargs)

    monkeypatch.setattr(tf.cache_utils.DynamicLayer, "update", meddling)
    steps = list(decode(lm, some_ids(PROMPT), 6, uncached=False))
    assert [step.untouched for step in steps] == [True, True, True, False, True, True]
    difference = steps[4].cache[1][0][:, : PROMPT + 2] - steps[2].cache[1][0]
    assert difference.nonzero().tolist() == [[1, 4, 2]] and abs(difference[1, 4, 2] - 1) < 1e-6
    assert len(Run.of(steps).rows) == 4


def test_a_run_can_be_stopped_within_a_pass():
    lm = model_of("Llama: grouped")

    def stop(done: int) -> None:
        if done == 2:
            raise HeadlightError("Stopped.")

    with pytest.raises(HeadlightError, match="Stopped"):
        next(decode(lm, some_ids(PROMPT), 3, on_layer=stop))
    assert [step.token for step in decode(lm, some_ids(PROMPT), NEW)] == run_of("Llama: grouped").tokens


def test_a_model_that_was_switched_since_is_read_through_a_copy():
    made = ARCHITECTURES["Llama: grouped"].model()
    made.generation_config.eos_token_id = None
    lm = LanguageModel(made)
    made.set_attn_implementation("eager")
    run = Run.of(decode(lm, some_ids(PROMPT), NEW))
    assert run.tokens == run_of("Llama: grouped").tokens and len(run.steps[0].layers) == 3
    assert made.config._attn_implementation == "eager"


def test_sixteen_bits_are_kept_as_they_are():
    made = tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA)).to(torch.bfloat16).eval()
    step = list(decode(LanguageModel(made), some_ids(PROMPT), 3, sampling=Sampling()))[-1]
    assert step.cache[0][0].dtype == torch.bfloat16 and step.logits.dtype == torch.float32
    assert step.cache_bytes == 3 * 2 * 2 * step.read * 10 * 2


# ── what cannot be decoded ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "ask, says",
    [
        (lambda lm: decode(lm, some_ids(5), 0), "at least 1"),
        (lambda lm: decode(lm, some_ids(5), -2), "at least 1"),
        (lambda lm: decode(lm, some_ids(5), 2.5), "at least 1"),
        (lambda lm: decode(lm, "  ", 3), "type a sentence"),
        (lambda lm: decode(lm, [], 3), "at least one id"),
        (lambda lm: decode(lm, [5, VOCABULARY], 3), "outside the vocabulary"),
        (lambda lm: decode(lm, [-1], 3), "outside the vocabulary"),
        (lambda lm: decode(lm, some_ids(41), 3), "shorten it by at least 1"),
        (lambda lm: decode(lm, some_ids(33), 9), "Ask for at most 8"),
        (lambda lm: decode(lm, some_ids(5), 3, forced={1: VOCABULARY}), "choose 0 to 96"),
        (lambda lm: decode(lm, some_ids(5), 3, target="b"), "one text"),
        (lambda lm: branch(lm, Run.of(decode(lm, some_ids(5), 3)), 3, 5), "choose 0 to 2"),
        (lambda lm: branch(lm, Run.of(decode(lm, some_ids(5), 3)), 1, -5), "choose 0 to 96"),
        (lambda lm: branch(lm, Run.of(decode(lm, some_ids(5), 3)), 2, 5, 2), "at least 3"),
        (lambda lm: branch(lm, run_of("Llama: grouped"), 1, 5), "open Llama: grouped"),
        (lambda lm: Run.of([]), "at least one token"),
        (lambda lm: next(decode(lm, some_ids(5), 1)).attention(3, 0), "choose 0 to 2"),
        (lambda lm: next(decode(lm, some_ids(5), 1)).attention(0, 6), "choose 0 to 5"),
    ],
)
def test_an_error_says_what_to_do_before_anything_is_computed(ask, says):
    made = tiny(context=40)
    made.generation_config.eos_token_id = None
    with pytest.raises(HeadlightError, match=says):
        ask(LanguageModel(made, letters(), name="Tiny"))


def test_stop_words_need_a_tokenizer():
    with pytest.raises(HeadlightError, match="tokenizer"):
        decode(model_of("Llama: grouped"), some_ids(5), 3, sampling=Sampling(stop=("a",)))


@pytest.mark.parametrize("name", ["BERT", "RoBERTa"])
def test_an_encoder_has_no_cache_and_says_why(name):
    lm = LanguageModel(ARCHITECTURES[name].model(), name=name)
    with pytest.raises(HeadlightError, match=f"^{name} reads a whole text at once .* no KV cache. Choose a decoder"):
        decode(lm, some_ids(5), 3)
