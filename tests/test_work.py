"""What a step costs, against torch's own counter of operations in the model's eager passes, and against the places
where the model's own weights are not 0; the equations in words are computed again."""

import re
from dataclasses import replace
from functools import cache

import pytest
import torch
import transformers as tf
from torch.utils.flop_counter import FlopCounterMode

from attention_core import HeadlightError, LanguageModel
from attention_core.generation import decode
from attention_core.recording import accepted_inputs
from attention_core.run import Run
from attention_core.work import Cost, StepWork, run_work, step_work
from tests.architectures import ARCHITECTURES, some_ids, with_eager
from tests.sizes import LLAMA
from tests.test_cache_size import gemma4
from tests.test_generation import bloom

PROMPT, NEW = 11, 6
DEEPSEEK = "DeepSeek-V3: latent, values of another size"
COUNTED = [
    "Llama: grouped",
    "GPT-2: learned positions",
    "GPT-BigCode: multi-query",
    "Mistral: sliding window",
    "Gemma 3: local and global layers",
    DEEPSEEK,
    "DiffLlama: attention twice in a layer",
    "Mixtral: mixture of experts",
    "T5: relative positions",
    "BART",
    "T5Gemma: soft cap on both sides",
]


def llama4() -> tf.PreTrainedModel:
    """Three of its four layers read in chunks of five tokens."""
    experts = {"num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 56}
    sizes = LLAMA | experts | {"num_hidden_layers": 4}
    return tf.Llama4ForCausalLM(tf.Llama4TextConfig(**sizes, attention_chunk_size=5)).eval()


BUILT = {"Bloom": bloom, "Gemma 4": gemma4, "Llama 4": llama4}


@cache
def run_of(name: str) -> tuple[LanguageModel, Run]:
    torch.manual_seed(0)
    model = BUILT[name]() if name in BUILT else ARCHITECTURES[name].model()
    model.generation_config.eos_token_id = None
    lm = LanguageModel(model.eval(), name=name)
    return lm, Run.of(decode(lm, some_ids(PROMPT), NEW, uncached=False))


class Passes:
    """The model's own eager passes: of step k with transformers' cache, and over all its tokens without one."""

    def __init__(self, lm: LanguageModel, run: Run, k: int):
        self.model = with_eager(lm.model)
        self.model.config._attn_implementation = "eager"
        if lm.name.startswith(("Mixtral", "DeepSeek")):
            self.model.set_experts_implementation("eager")
        self.pair = self.model.config.is_encoder_decoder
        self.written = torch.tensor([[*run.facts.prompt, *run.tokens[:k]]])
        with torch.no_grad():
            self.given = {"encoder_outputs": self.model.get_encoder()(some_ids(PROMPT))} if self.pair else {}
        last_only = "logits_to_keep" in accepted_inputs(self.model)
        self.given |= {"logits_to_keep": 1} if last_only else {}
        self.heads_more = 0 if last_only else self.written.shape[1] - 1  # positions whose scores nobody asked for

    def read(self, ids: torch.Tensor, **more: object) -> object:
        ids = {"decoder_input_ids" if self.pair else "input_ids": ids}
        with torch.no_grad():
            return self.model(**ids, **self.given, **more)

    def cached(self) -> int:
        cache = self.read(self.written[:, :-1], use_cache=True).past_key_values
        with FlopCounterMode(display=False) as counter:
            self.read(self.written[:, -1:], past_key_values=cache, use_cache=True)
        return counter.get_total_flops()

    def uncached(self) -> int:
        with FlopCounterMode(display=False) as counter:
            self.read(self.written, use_cache=False)
        return counter.get_total_flops()

    def vectors(self) -> int:
        """Weights of norms and biases, which are no matrix product."""
        part = self.model.get_decoder() if self.pair else self.model
        return sum(weight.numel() for weight in part.parameters() if weight.ndim == 1)

    def maps(self) -> list[torch.Tensor]:
        out = self.read(self.written, use_cache=False, output_attentions=True)
        found = [*out.decoder_attentions, *out.cross_attentions] if self.pair else out.attentions
        return [weights[0] for weights in found]  # (heads, queries, keys)


def pair_operations(name: str, place: int) -> int:
    """Of one pair of a query and a key in the place-th map: 2 (d_k + d_v), from the sizes written down by hand."""
    architecture = ARCHITECTURES[name]
    kinds = [kind for kind, _ in architecture.order if kind != "encoder"]
    kind = sorted(kinds, key=lambda kind: kind == "cross")[place]  # maps: the decoder's, then the cross-attention's
    sizes = architecture.sizes[kind]
    return 2 * (sizes[2] + sizes[3])


@pytest.mark.parametrize("name", COUNTED)
def test_the_operations_are_those_that_torch_counts(name):
    """A step with the cache exactly; a pass without one multiplies the masked half of every map as well."""
    lm, run = run_of(name)
    work, passes = run_work(run), Passes(lm, run, NEW - 1)
    step, vectors, maps = work.steps[NEW - 1], passes.vectors(), passes.maps()
    assert step.cached.total - 2 * vectors == passes.cached()
    head = lm.model.get_output_embeddings().weight.numel()
    calls = 2 if name.startswith("DiffLlama") else 1  # it returns one map of two calls
    hidden = sum(calls * pair_operations(name, n) * int((weights == 0).sum()) for n, weights in enumerate(maps))
    expected = step.uncached.total + hidden - 2 * vectors * passes.written.shape[1]
    assert expected + 2 * head * passes.heads_more == passes.uncached()


@pytest.mark.parametrize("name", [*COUNTED, "Gemma 2: soft cap", "gpt-oss: learned sinks"])
def test_dot_products_are_the_places_where_the_models_weights_are_not_zero(name):
    lm, run = run_of(name)
    for k in (0, 1, NEW - 1):
        step, maps = run_work(run).steps[k], Passes(lm, run, k).maps()
        calls = 2 if name.startswith("DiffLlama") else 1
        seen = [(pair_operations(name, n), weights > 0) for n, weights in enumerate(maps)]
        assert step.uncached.dots == sum(calls * each * int(where.sum()) for each, where in seen)
        rows = slice(-1, None) if k else slice(None)
        assert step.cached.dots == sum(calls * each * int(where[:, rows].sum()) for each, where in seen)


@pytest.mark.parametrize(("name", "widths"), [("Bloom", {0: 16}), ("Gemma 4", {0: 20, 1: 24}), ("Llama 4", {0: 20})])
def test_weights_alone_shared_rows_and_chunks(name, widths):
    """The d_k + d_v of layers, by layer modulo 2: Gemma 4's global layers have wider heads than its windows."""
    lm, run = run_of(name)
    step, maps = run_work(run).steps[-1], Passes(lm, run, NEW - 1).maps()
    expected = sum(2 * widths[n % len(widths)] * int((weights > 0).sum()) for n, weights in enumerate(maps))
    assert step.uncached.dots == expected


def test_the_small_model_step_by_step(small):
    run = Run.of(decode(small, "The old dog slept by the door, and", 5, uncached=False))
    work = run_work(run)
    assert work.steps[0].cached == work.steps[0].uncached and work.steps[0].times == 1
    for k, step in enumerate(work.steps[1:], 1):
        passes = Passes(small, run, k)
        vectors = passes.vectors()
        hidden = sum(int((weights == 0).sum()) for weights in passes.maps()) * 2 * (32 + 32)
        assert step.cached.total - 2 * vectors == passes.cached()
        assert step.uncached.total + hidden - 2 * vectors * run.steps[k].read == passes.uncached()
        assert step.cached.rows == 1 and step.uncached.rows == run.steps[k].read and step == step_work(run.steps[k])


def test_key_and_value_rows_alone():
    """By the weights' own names."""
    for name, parts, of_source in (
        ("Llama: grouped", ("k_proj", "v_proj"), ()),
        (DEEPSEEK, ("kv_a_proj_with_mqa", "kv_b_proj"), ()),
        (
            "T5: relative positions",
            ("SelfAttention.k.", "SelfAttention.v."),
            ("EncDecAttention.k.", "EncDecAttention.v."),
        ),
        ("T5Gemma: soft cap on both sides", ("self_attn.k_", "self_attn.v_"), ("cross_attn.k_", "cross_attn.v_")),
    ):
        lm, run = run_of(name)
        own = list((lm.model.get_decoder() if run.facts.source else lm.model).named_parameters())
        token, source = (
            sum(weight.numel() for path, weight in own if weight.ndim == 2 and any(part in path for part in names))
            for names in (parts, of_source)
        )
        first, step = run_work(run).steps[0], run_work(run).steps[3]
        assert step.cached.keys_values == 2 * token
        assert step.uncached.keys_values == 2 * (token * run.steps[3].read + source * len(run.facts.source))
        assert first.cached.keys_values == 2 * (token * run.steps[0].read + source * len(run.facts.source))


def test_compressed_rows_are_unpacked_at_every_step():
    """DeepSeek-V3 in transformers: kv_b_proj is applied to every row that the cache gives back."""
    lm, run = run_of(DEEPSEEK)
    weights = sum(weight.numel() for path, weight in lm.model.named_parameters() if "kv_b_proj" in path)
    costs = [step.cached.unpacked for step in run_work(run).steps]
    assert costs == [0, *(2 * weights * (PROMPT + k - 1) for k in range(1, NEW))]
    assert all(step.uncached.unpacked == 0 for step in run_work(run).steps)


def test_sums_are_of_all_steps_so_far():
    work = run_work(run_of("Llama: grouped")[1])
    sums = work.sums()
    assert [pair[0].total for pair in sums] == [sum(s.cached.total for s in work.steps[: k + 1]) for k in range(NEW)]
    assert sums[-1] == (work.cached, work.uncached)
    assert work.uncached.rows == sum(range(PROMPT, PROMPT + NEW)) and work.cached.rows == PROMPT + NEW - 1
    assert Cost(1, 2, 3, 4, 5) + Cost(10, 20, 30, 40, 50) == Cost(11, 22, 33, 44, 55)
    assert Cost(1, 2, 30, 400, 5000).total == 5430


def computed(line: str) -> int:
    """The left side, computed; it must be the right one."""
    left, right = (re.sub(r"[A-Za-z-]+", "", side) for side in line.split(": ", 1)[1].replace(",", "").rsplit("=", 1))
    value = eval(left.replace("×", "*"), {"__builtins__": {}})
    assert value == int(right), line
    return value


@pytest.mark.parametrize("name", ["Llama: grouped", DEEPSEEK, "Gemma 3: local and global layers", "BART"])
def test_the_equations_give_the_numbers(name):
    def numbers(step: StepWork) -> list[int]:
        return [step.cached.dots, step.cached.total, step.uncached.dots, step.uncached.total]

    for step in run_work(run_of(name)[1]).steps:
        assert [computed(line) for line in step.equations] == numbers(step)


def test_a_run_whose_models_sizes_are_not_known():
    step = run_of("Llama: grouped")[1].steps[2]
    with pytest.raises(HeadlightError, match="let the model write the text again"):
        step_work(replace(step, facts=replace(step.facts, config=None)))
