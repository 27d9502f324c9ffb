"""Captures of one model in many threads do not disturb each other, nor the model itself."""

import copy
import threading

import pytest
import torch

from attention_core import Capture, LanguageModel, capture
from tests.architectures import make, some_ids, with_eager

REPEATS = 10


def foreign_default(small):
    return make("Llama: grouped")


def foreign_eager(small):
    model = make("Mistral: sliding window")
    model.set_attn_implementation("eager")
    return model


def soft_cap(small):
    return make("Gemma 2: soft cap")


def language_model(small):
    return small.model


@pytest.mark.parametrize("kind", [foreign_default, foreign_eager, soft_cap, language_model])
def test_two_captures_and_a_generate_at_once(kind, small):
    model = kind(small)
    texts = [some_ids(41, seed=1), some_ids(29, seed=2)]
    prompt = some_ids(17, seed=3)
    eager = with_eager(model)
    with torch.no_grad():
        own = [eager(input_ids=ids, output_attentions=True) for ids in texts]
    sampling = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "output_logits": True}
    expected = model.generate(prompt, return_dict_in_generate=True, **sampling)
    for repeat in range(REPEATS):
        # every second time the model is new to capture, so that the self-check races too
        shared = copy.deepcopy(model) if repeat % 2 else model
        before, start = shared.config._attn_implementation, threading.Barrier(3)
        results: dict[str, object] = {}

        def work(name, do, start=start, results=results):
            torch.set_num_threads(1)
            start.wait()
            try:
                results[name] = do()
            except Exception as error:
                results[name] = error

        def write(shared=shared):
            return shared.generate(prompt, return_dict_in_generate=True, **sampling)

        jobs = {"written": write}
        for n, ids in enumerate(texts):
            jobs[f"capture {n}"] = lambda ids=ids, shared=shared: capture(shared, input_ids=ids)
        threads = [threading.Thread(target=work, args=job) for job in jobs.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for n, theirs in enumerate(own):
            cap = results[f"capture {n}"]
            assert isinstance(cap, Capture), cap
            assert len(cap.layers) == len(theirs.attentions)
            for i, weights in enumerate(theirs.attentions):
                for h in range(weights.shape[1]):
                    torch.testing.assert_close(cap.attention(i, h), weights[0, h], atol=1e-5, rtol=0)
            scale = theirs.logits.abs().max().item()
            torch.testing.assert_close(cap.output.logits, theirs.logits, atol=1e-5 * scale, rtol=0)
        written = results["written"]
        assert not isinstance(written, Exception), written
        assert torch.equal(written.sequences, expected.sequences)
        for ours, theirs in zip(written.logits, expected.logits, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5 * theirs.abs().max().item(), rtol=0)
        assert shared.config._attn_implementation == before


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_foreign_model_is_left_as_it_was(implementation):
    model, ids = make("Llama: grouped"), some_ids(19)
    model.set_attn_implementation(implementation)
    config, state = model.config.to_dict(), {name: t.clone() for name, t in model.state_dict().items()}
    with torch.no_grad():
        before = model(input_ids=ids).logits
        capture(model, input_ids=ids)
        assert torch.equal(model(input_ids=ids).logits, before)
        assert model.config._attn_implementation == implementation
        assert all(m.config._attn_implementation == implementation for m in model.modules() if hasattr(m, "config"))
        assert model.config.to_dict() == config and not model.training
        assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())
        model.set_attn_implementation("eager")
        own = model(input_ids=ids, output_attentions=True)
    assert len(own.attentions) == 3 and own.attentions[0].shape == (1, 6, 19, 19)


def test_a_language_model_still_generates_and_gives_its_own_attentions():
    lm = LanguageModel(make("Llama: grouped"))
    ids = some_ids(12)
    plain = make("Llama: grouped")
    settings = {"max_new_tokens": 6, "do_sample": False}
    assert torch.equal(lm.model.generate(ids, **settings), plain.generate(ids, **settings))
    with torch.no_grad():
        assert torch.equal(lm.model(input_ids=ids).logits, plain(input_ids=ids).logits)
        weights = with_eager(lm.model)(input_ids=ids, output_attentions=True).attentions
    torch.testing.assert_close(lm.capture(ids).attention(2, 4), weights[2][0, 4], atol=1e-5, rtol=0)
