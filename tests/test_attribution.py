"""The methods that ask for slopes and leave tokens out: against Captum and autograd on a forward written here."""

import captum.attr as captum
import pytest
import torch
import transformers as tf
from torch import Tensor
from torch.nn import functional as F

from attention_core import HeadlightError, LanguageModel, explain, relevance
from attention_core.aim import aim_at
from attention_core.attribution import METHODS, Settings, explaining, read_again, word_groups
from attention_core.direct import direct
from attention_core.perturbed import TOKENS_AT_ONCE
from tests.architectures import ARCHITECTURES, make, some_ids
from tests.tiny import letters
from tests.weights_only_models import WEIGHTS_ONLY

KING = "The old king met the"
TEXT, OTHER = "why so long", "because"
GRADIENTS, REMOVING = ("gradient_x_input", "integrated_gradients"), ("occlusion", "shapley")


class Case:
    """A model, what is asked of explain(), and the same number as a function of vectors."""

    def __init__(self, lm: LanguageModel, text: str, target: int = 0, rows: Tensor | None = None):
        self.lm, self.text, self.target, self.rows = lm, text, target, rows
        self.ids = lm.encode(text).inputs["input_ids"]
        self.table = lm.model.get_input_embeddings().weight.detach()
        self.vectors = self.table[self.ids]
        self.asked = {"target": OTHER if not lm.predicts else target, "decoder": "" if rows is None else "abc"}
        with torch.no_grad():
            self.goal = None if lm.predicts else lm.model(lm.encode(OTHER).inputs["input_ids"])[0][0].mean(dim=0)

    def __call__(self, vectors: Tensor) -> Tensor:
        if self.goal is not None:
            return F.cosine_similarity(self.lm.model(inputs_embeds=vectors)[0].mean(dim=1), self.goal[None])
        more = {} if self.rows is None else {"decoder_input_ids": self.rows.expand(len(vectors), -1)}
        return self.lm.model(inputs_embeds=vectors, **more).logits[:, -1, self.target]

    def baseline(self, kind: str) -> Tensor:
        rows = {"mean": self.table.double().mean(0).float(), "zero": torch.zeros_like(self.table[0])}
        return rows[kind].expand_as(self.vectors)

    def ask(self, method: str, **more) -> Tensor:
        return relevance(self.lm, self.text, method, **self.asked, **more)


@pytest.fixture(params=["small", "GPT-2: learned positions", "T5: relative positions", "BERT"])
def case(request, small) -> Case:
    if request.param == "small":
        return Case(small, KING, 980)
    lm = LanguageModel(make(request.param), letters())
    return Case(lm, TEXT, 71, torch.tensor([[0, 67, 68, 69]]) if lm.has_target else None)


def mask_of(vectors: Tensor) -> Tensor:
    return torch.arange(vectors.shape[1])[None, :, None].expand_as(vectors).contiguous()


def near(ours: Tensor, theirs: Tensor, within: float = 2e-5) -> None:
    assert ours.dtype == torch.float32 and ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= within * max(1.0, float(theirs.abs().max()))


# ── Captum's own, on that function ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("baseline, steps", [("mean", 32), ("zero", 7)])
def test_integrated_gradients_are_captums(case, baseline, steps):
    method = captum.IntegratedGradients(case)
    theirs, delta = method.attribute(
        case.vectors, case.baseline(baseline), n_steps=steps, return_convergence_delta=True
    )
    found = explain(case.lm, case.text, "integrated_gradients", **case.asked, baseline=baseline, steps=steps)
    near(found.scores, theirs[0].sum(dim=-1).float())
    with torch.no_grad():
        whole, without = (float(case(vectors)) for vectors in (case.vectors, case.baseline(baseline)))
    assert found.aim.value == pytest.approx(whole, abs=1e-5) and found.without == pytest.approx(without, abs=1e-5)
    by_hand = abs(float(theirs.double().sum()) - (whole - without)) / abs(whole - without)
    assert found.error == pytest.approx(by_hand, abs=1e-4)
    assert found.error * abs(whole - without) == pytest.approx(abs(float(delta)), abs=2e-5)
    assert found.converged == (by_hand <= 0.05)


@pytest.mark.parametrize("baseline", ["mean", "zero"])
def test_occlusion_is_captums_and_a_loop(case, baseline):
    empty = case.baseline(baseline)
    theirs = captum.FeatureAblation(case).attribute(case.vectors, empty, feature_mask=mask_of(case.vectors))
    ours = case.ask("occlusion", baseline=baseline)
    near(ours, theirs[0, :, 0].float())
    loop = []
    for place in range(case.vectors.shape[1]):
        without = case.vectors.clone()
        without[0, place] = empty[0, place]
        with torch.no_grad():
            loop.append(float(case(case.vectors) - case(without)))
    near(ours, torch.tensor(loop))


@pytest.mark.parametrize("samples, seed", [(13, 0), (3, 5)])
def test_shapley_values_are_captums(case, samples, seed):
    torch.manual_seed(seed)
    theirs = captum.ShapleyValueSampling(case).attribute(
        case.vectors,
        case.baseline("mean"),
        feature_mask=mask_of(case.vectors),
        n_samples=samples,
        perturbations_per_eval=4,
    )
    found = explain(case.lm, case.text, "shapley", **case.asked, samples=samples, seed=seed)
    near(found.scores, theirs[0, :, 0])
    assert found.error < 1e-3, "each order sums to the whole"
    assert not torch.allclose(found.scores, case.ask("shapley", samples=samples, seed=seed + 1), atol=1e-3)


def test_shapley_values_come_in_groups_with_their_spread(case):
    parts = list(explaining(case.lm, aim_at(case.lm, case.text, **case.asked), "shapley", Settings(samples=10)))
    assert len(parts) == 5 and parts[0].spread is None
    alone = []
    torch.manual_seed(0)
    for _ in range(5):
        method = captum.ShapleyValueSampling(case)
        made = method.attribute(
            case.vectors,
            case.baseline("mean"),
            feature_mask=mask_of(case.vectors),
            n_samples=2,
            perturbations_per_eval=5,
        )
        alone.append(made[0, :, 0])
    for count in range(1, 6):
        near(parts[count - 1].scores, torch.stack(alone[:count]).mean(dim=0))
    near(parts[-1].spread, torch.stack(alone).std(dim=0) / 5**0.5)


def test_gradient_x_input_is_autograd(case):
    vectors = case.vectors.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(case(vectors).sum(), vectors)
    near(case.ask("gradient_x_input"), (slope * vectors)[0].sum(dim=-1).detach())


# ── sums ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        KING,
        "The old dog slept by the door, and the old",
        "Mr Brown gave the key to Anna, and then Mr",
        "She was not afraid, for the light of the moon was on the",
        "In the beginning God created the heaven and the",
    ],
)
@pytest.mark.parametrize("score", ["logit", "log_probability"])
def test_the_small_model_is_complete_at_the_default_steps(small, text, score):
    found = explain(small, text, score=score)
    assert found.method == "integrated_gradients" and found.error < 0.01 and found.converged
    ids = small.tokenizer(text, return_tensors="pt")["input_ids"]
    table = small.model.get_input_embeddings().weight.detach()
    with torch.no_grad():
        both = torch.cat([table[ids], table.mean(dim=0).expand(1, ids.shape[1], -1)])
        seen = small.model(inputs_embeds=both).logits[:, -1]
        seen = seen if score == "logit" else seen.log_softmax(dim=-1)
    whole = float(seen[0, found.aim.target.id] - seen[1, found.aim.target.id])
    assert float(found.scores.sum()) == pytest.approx(whole, rel=0.01)


def test_what_has_not_converged_says_so(small):
    few, many = (explain(small, KING, steps=steps) for steps in (4, 120))
    assert few.error > 0.05 and not few.converged
    assert many.error < 1e-4 and many.converged
    assert explain(small, KING, "occlusion").error is None and explain(small, KING, "occlusion").converged


# ── contrast and score ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", [*GRADIENTS, *REMOVING])
def test_a_contrast_is_the_difference_of_two(case, method):
    if not case.lm.predicts:
        first, second = "because", "not this"
    else:
        first, second = case.target, case.target + 1
    one, other, both = (
        explain(case.lm, case.text, method, *pair, decoder=case.asked["decoder"], samples=3).scores
        for pair in ((first, None), (second, None), (first, second))
    )
    near(both, one - other, within=1e-4)


def test_a_score_of_probabilities(small):
    ids = small.tokenizer(KING, return_tensors="pt")["input_ids"]
    vectors = small.model.get_input_embeddings()(ids).detach()
    for score, turned in (("log_probability", torch.log_softmax), ("probability", torch.softmax)):
        given = vectors.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(turned(small.model(inputs_embeds=given).logits[0, -1], dim=-1)[980], given)
        ours = relevance(small, KING, "gradient_x_input", "queen", score=score)
        near(ours, (slope * given)[0].sum(dim=-1).detach())


# ── every model, every method ───────────────────────────────────────────────────────────────────────────────────────


def test_a_vector_has_no_slope_where_it_is():
    lm = LanguageModel(make("BERT"), letters())
    for method in ("gradient_x_input", "attention_x_gradient"):
        with pytest.raises(HeadlightError, match="its slope is 0. Give a second text, or choose"):
            explain(lm, TEXT, method)
    assert explain(lm, TEXT, "integrated_gradients", token=3).converged


@pytest.mark.parametrize(
    "name, text",
    [(name, TEXT) for name in (*ARCHITECTURES, *WEIGHTS_ONLY)]
    + [(name, "y") for name in ("GPT-2: learned positions", "BERT", "T5: relative positions", "GPT-J")],
)
def test_every_model_gives_numbers_or_a_reason(name, text):
    lm = LanguageModel({**ARCHITECTURES, **WEIGHTS_ONLY}[name].model(), letters())
    asked = {"decoder": "ab"} if lm.has_target else {"target": OTHER} if not lm.predicts else {}
    scorer = aim_at(lm, text, **asked)
    refused = set()
    for method in METHODS:
        try:
            found = list(explaining(lm, scorer, method, Settings(steps=2, samples=1)))[-1]
        except HeadlightError as error:
            assert "does not apply" in str(error) and str(error).count(". ") >= 1 and str(error).endswith(".")
            refused.add(method)
            continue
        assert found.scores.shape == (len(text),) and found.scores.dtype == torch.float32
        assert found.scores.isfinite().all()
        assert METHODS[method].signed or (found.scores >= 0).all()
        if method in ("attention", "rollout", "value_weighted") and "sinks" not in name:
            assert float(found.scores.sum()) == pytest.approx(1, abs=1e-4)
    expected = set()
    if name in WEIGHTS_ONLY or name.startswith("DiffLlama"):
        expected |= {"value_weighted"}
    if lm.has_target or name.startswith("MiniMax"):
        expected |= {"rollout", "attention_x_gradient"}
    if name == "XLNet":
        expected |= {"attention_x_gradient"}
    assert refused == expected
    if lm.predicts and name != "XLNet":
        found = direct(scorer, read_again(lm, scorer))
        assert found.logit == pytest.approx(scorer.aim.value, rel=1e-4)


@pytest.mark.parametrize(
    "name, dtype",
    [("Llama: grouped", torch.bfloat16), ("GPT-2: learned positions", torch.float16), ("BERT", torch.bfloat16)],
)
def test_16_bits(name, dtype):
    lm, exact = (LanguageModel(model, letters()) for model in (make(name).to(dtype), make(name)))
    asked = (OTHER,) if not lm.predicts else (71,)
    for method in METHODS:
        try:
            ours = explain(lm, TEXT, method, *asked, samples=2, steps=8).scores
        except HeadlightError as error:
            assert "overflow" in str(error)
            continue
        theirs = explain(exact, TEXT, method, *asked, samples=2, steps=8).scores
        assert ours.dtype == torch.float32 and ours.isfinite().all()
        if method not in GRADIENTS:  # the slopes of random models are far too steep for 16 bits
            assert float(torch.corrcoef(torch.stack([ours, theirs]))[0, 1]) > 0.9


def test_int8():
    quantization = pytest.importorskip("torchao.quantization")
    model, exact = make("Llama: grouped"), LanguageModel(make("Llama: grouped"), letters())
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    lm = LanguageModel(model, letters())
    for method in METHODS:
        ours, theirs = (explain(one, TEXT, method, 71, samples=2, steps=4).scores for one in (lm, exact))
        assert ours.isfinite().all()
        if method not in GRADIENTS:
            assert float(torch.corrcoef(torch.stack([ours, theirs]))[0, 1]) > 0.9


# ── what is asked wrongly, progress and stop ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "asked, sentence",
    [
        ({"method": "lime"}, "There is no method “lime”: choose one of attention"),
        ({"method": "occlusion", "layer": 0}, "Leave one out is about the whole model: leave out layer and head"),
        ({"method": "attention", "head": 0}, "named by its layer too: give both"),
        ({"method": "attention", "layer": 4}, "There is no layer 4 here: they count from 0 to 3"),
        ({"method": "value_weighted", "layer": 0, "head": 4}, "There is no head 4 here"),
        ({"method": "occlusion", "baseline": "grey"}, "no baseline “grey”"),
        ({"method": "integrated_gradients", "steps": 0}, "from 1 to 1,000 steps"),
        ({"method": "shapley", "samples": 1001}, "from 1 to 1,000 samples"),
    ],
)
def test_what_cannot_be_is_said(small, asked, sentence):
    with pytest.raises(HeadlightError, match=sentence):
        explain(small, KING, **asked)


@pytest.mark.parametrize("method", METHODS)
def test_progress_grows_and_can_stop(small, method):
    text, seen = "so they went and " * 9, []
    passes = {"occlusion": len(small.tokenizer(text)["input_ids"]) + 1, "integrated_gradients": Settings.steps}
    explain(small, text, method, samples=6, on_pass=lambda done, total: seen.append((done, total)))
    total = seen[0][1]
    assert total == passes.get(method, total) and {t for _, t in seen} == {total} and seen[0][0] == 0
    assert [done for done, _ in seen] == sorted({done for done, _ in seen}) and seen[-1][0] < total
    if method in ("occlusion", "integrated_gradients", "shapley"):
        batch = TOKENS_AT_ONCE // len(small.tokenizer(text)["input_ids"])
        assert len(seen) > 3 and total - seen[-1][0] <= batch

    class Enough(Exception):
        pass

    calls = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == min(2, len(seen)):
            raise Enough

    forwards = []
    scorer = aim_at(small, text)
    hook = small.model.model.register_forward_hook(lambda *given: forwards.append(1))
    try:
        with pytest.raises(Enough):
            list(explaining(small, scorer, method, capture=small.capture(text), on_pass=stop))
    finally:
        hook.remove()
    assert len(calls) == min(2, len(seen)) and len(forwards) <= 1 + len(calls)


# ── words, records ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_words_are_sums_of_their_tokens(small):
    found = explain(small, "The old dog slept by", "occlusion")
    assert found.tokens == ("·The", "·old", "·dog", "·sle", "pt", "·by")
    words, groups = found.by_words(), [[0], [1], [2], [3, 4], [5]]
    assert words.tokens == ("·The", "·old", "·dog", "·slept", "·by") and word_groups(found.aim) == groups
    assert words.scores.tolist() == pytest.approx([float(found.scores[group].sum()) for group in groups])
    assert words.by_words().tokens == words.tokens and words.spread is None
    drawn = explain(small, "The old dog slept by", "shapley", samples=5)
    assert drawn.by_words().spread[3] == pytest.approx(float(drawn.spread[3:5].square().sum().sqrt()))
    with pytest.raises(HeadlightError, match="does not say which tokens make up a word: look at single tokens"):
        word_groups(aim_at(small, some_ids(3)).aim)


@pytest.mark.parametrize("method", METHODS)
def test_settings_that_are_not_read_change_nothing(small, method):
    plain, other = Settings(), Settings(None, None, "zero", 3, 2, 9)
    kept = other.read_by(method)
    assert kept.read_by(method) == kept and plain.read_by(method) == plain
    reads = {name for name in vars(plain) if getattr(kept, name) != getattr(plain, name)}
    assert reads == set(METHODS[method].reads) - {"layer", "head"}
    assert Settings(layer=1).read_by(method) == (Settings(layer=1) if "layer" in METHODS[method].reads else plain)


def test_relevance_is_the_scores_of_explain(small):
    found = explain(small, KING, "attention", "queen", layer=2, head=1)
    assert torch.equal(found.scores, relevance(small, KING, "attention", "queen", layer=2, head=1))
    assert (found.target, found.error, found.spread, found.settings) == ("·queen", None, None, Settings(2, 1))
    assert found.nbytes == 4 * len(found.tokens) and found.seconds > 0 and found.scores.device.type == "cpu"


def test_the_model_is_left_alone(small):
    before = [p.requires_grad for p in small.model.parameters()]
    for method in METHODS:
        explain(small, KING, method, samples=1)
    assert [p.requires_grad for p in small.model.parameters()] == before
    assert all(p.grad is None for p in small.model.parameters()), "slopes of the weights are not asked for"
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in small.model.modules())
    assert isinstance(small.model, tf.PreTrainedModel) and small.model.config._attn_implementation == "headlight"
