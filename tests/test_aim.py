"""What is asked about: the target, the row, the number itself, each compared with the model called by hand."""

import pytest
import torch
import transformers as tf
from torch import Tensor
from torch.nn import functional as F

from attention_core import HeadlightError, LanguageModel
from attention_core.aim import aim_at, find_token
from attention_core.attribution import explain
from tests.architectures import ARCHITECTURES, Architecture, decoder, make, some_ids
from tests.sizes import IDS
from tests.tiny import letters
from tests.weights_only_models import WEIGHTS_ONLY, fsmt

KING = "The old king met the"
TEXT = "why so"


def read(name: str) -> LanguageModel:
    return LanguageModel(make(name), letters())


def last_logits(model: tf.PreTrainedModel, **inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return model(**inputs).logits[0, -1]


# ── the number ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [*ARCHITECTURES, *WEIGHTS_ONLY])
def test_the_vectors_are_read_as_the_tokens_are(name):
    """Marian multiplies its embedding by √hidden where it is given tokens, and only there."""
    lm = LanguageModel({**ARCHITECTURES, **WEIGHTS_ONLY}[name].model(), letters())
    scorer = aim_at(lm, TEXT, decoder="ab" if lm.has_target else "")
    ids = scorer.ids
    if lm.predicts:
        target = {"decoder_input_ids": torch.tensor([[lm.start, 67, 68]])} if lm.has_target else {}
        own = last_logits(lm.model, input_ids=ids, **target)
        assert scorer.aim.target.id == int(own.argmax())
        assert scorer.aim.value == pytest.approx(float(own.max()), rel=1e-5)
        assert scorer.aim.target.share == pytest.approx(float(own.softmax(dim=-1).max()), rel=1e-4)
    else:
        assert scorer.aim.value == pytest.approx(1, abs=1e-5)
    with torch.no_grad():
        assert float(scorer(scorer.vectors)[0]) == pytest.approx(scorer.aim.value, rel=1e-4)
        both = scorer(torch.cat([scorer.vectors, scorer.baseline()]))
    assert both.shape == (2,) and float(both[0]) == pytest.approx(scorer.aim.value, rel=1e-4)


def test_scores(small):
    logits = last_logits(small.model, **small.tokenizer(KING, return_tensors="pt")).double()
    for score, own in (
        ("logit", logits),
        ("log_probability", logits.log_softmax(-1)),
        ("probability", logits.softmax(-1)),
    ):
        alone = aim_at(small, KING, " queen", score=score)
        against = aim_at(small, KING, " queen", " king", score=score)
        queen, king = alone.aim.target.id, against.aim.contrast.id
        assert alone.aim.value == pytest.approx(float(own[queen]), rel=1e-4)
        assert against.aim.value == pytest.approx(float(own[queen] - own[king]), rel=1e-4, abs=1e-5)
        with torch.no_grad():
            assert float(alone.watched(alone.vectors)) == pytest.approx(float(logits.softmax(-1)[queen]), rel=1e-4)
            pair = logits[[queen, king]].softmax(-1)
            assert float(against.watched(against.vectors)) == pytest.approx(float(pair[0]), rel=1e-4)
    with pytest.raises(HeadlightError, match="There is no score “sum”: choose one of logit"):
        aim_at(small, KING, score="sum")


def test_likely_tokens_and_ranks(small):
    chances = last_logits(small.model, **small.tokenizer(KING, return_tensors="pt")).softmax(-1)
    aim = aim_at(small, KING, 4000).aim
    best = chances.topk(10)
    assert [one.id for one in aim.likely] == best.indices.tolist()
    assert [one.rank for one in aim.likely] == list(range(1, 11))
    assert [one.share for one in aim.likely] == pytest.approx(best.values.tolist(), rel=1e-4)
    assert aim.target.rank == 1 + int((chances > chances[4000]).sum())
    assert aim.likely[0].token == small.labels(best.indices[:1][None])[0]


@pytest.mark.parametrize("baseline", ["mean", "zero", "token"])
def test_baselines(small, baseline):
    weight = small.model.get_input_embeddings().weight.detach()
    vector = {"mean": weight.double().mean(dim=0).float(), "zero": torch.zeros(128), "token": weight[0]}[baseline]
    empty = aim_at(small, KING).baseline(baseline)  # token 0 is the end: the small model knows neither mask nor padding
    assert empty.shape == (1, 5, 128)
    torch.testing.assert_close(empty, vector.expand(1, 5, -1), atol=1e-6, rtol=0)
    with pytest.raises(HeadlightError, match="no baseline “black”: choose one of mean"):
        aim_at(small, KING).baseline("black")


def test_a_baseline_is_scaled_as_the_tokens_are():
    lm = read("Marian: sinusoids")
    mean = lm.model.get_input_embeddings().weight.detach().mean(dim=0) * 60**0.5
    torch.testing.assert_close(aim_at(lm, TEXT).baseline()[0, 0], mean, atol=1e-5, rtol=1e-4)


# ── the target ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("named", ["queen", " queen", "·queen", "#980", 980])
def test_a_token_is_named_by_its_text_or_its_number(small, named):
    assert small.tokenizer.convert_ids_to_tokens(980) == "Ġqueen"
    aim = aim_at(small, KING, named).aim
    assert (aim.target.id, aim.target.token) == (980, "·queen")
    assert aim.notes == (("“queen” is read as “·queen” (· is a space).",) if named == "queen" else ())


@pytest.mark.parametrize("likelier", [5, 6])
def test_the_likelier_reading_is_taken(monkeypatch, likelier):
    """Where “s” is a token that ends a word, and “·s” one that begins one."""
    lm, chances = read("Llama: grouped"), torch.zeros(97)
    monkeypatch.setattr(lm, "encode_behind", lambda text: torch.tensor([[{"s": 5, " s": 6}[text]]]))
    chances[likelier] = 0.3
    assert find_token(lm, "s", chances, []) == likelier
    assert find_token(lm, "·s", chances, []) == 6


def test_of_several_tokens_the_first(small):
    aim = aim_at(small, KING, "antidisestablishment").aim
    assert aim.target.token == "·ant" and aim.target.id == int(small.encode_behind(" antidisestablishment")[0, 0])
    assert aim.notes == ("“antidisestablishment” is 6 tokens of this model: its first, “·ant”, is taken.",)


@pytest.mark.parametrize(
    "asked, sentence",
    [
        ({"target": ""}, "The target is empty: type a word"),
        ({"target": 5120}, "There is no token 5120: they go from 0 to 5119"),
        ({"target": -1}, "There is no token -1: they go"),
        ({"target": "#99999"}, "There is no token 99999"),
        ({"target": 7, "contrast": "#7"}, "same token: choose another"),
        ({"token": 5}, "There is no token 5 here: they count from 0 to 4"),
        ({"token": -1}, "There is no token -1 here"),
        ({"continuation": " word" * 4100}, "Text and continuation are .* reads 4,096: shorten"),
    ],
)
def test_what_cannot_be_is_said(small, asked, sentence):
    with pytest.raises(HeadlightError, match=sentence):
        aim_at(small, KING, **asked)


def test_an_empty_text_and_an_unknown_letter():
    lm = read("Llama: grouped")
    with pytest.raises(HeadlightError, match="The text is empty"):
        aim_at(lm, " ")
    with pytest.raises(HeadlightError, match="“ß” has no token that .* knows: type another word"):
        aim_at(lm, TEXT, "ß")
    assert aim_at(lm, TEXT, "#1").aim.target.id == 1
    with pytest.raises(HeadlightError, match="came without a tokenizer: give the numbers of tokens instead"):
        aim_at(LanguageModel(make("Llama: grouped")), some_ids(5), "q")
    assert aim_at(LanguageModel(make("Llama: grouped")), some_ids(5), "#9").aim.target.token == "9"


# ── the row ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_row_in_the_middle_is_the_end_of_a_shorter_text(small):
    middle, cut = aim_at(small, KING + " queen.", token=4), aim_at(small, KING)
    assert middle.aim.follows.token == "·queen" and cut.aim.follows is None
    assert middle.aim.tokens == cut.aim.tokens and middle.aim.likely == cut.aim.likely
    for method in ("attention", "rollout", "value_weighted", "gradient_x_input", "occlusion", "attention_x_gradient"):
        whole = explain(small, KING + " queen.", method, "queen", token=4, capture=small.capture(KING + " queen."))
        torch.testing.assert_close(whole.scores, explain(small, KING, method, "queen").scores, atol=2e-5, rtol=1e-5)


def test_a_continuation(small):
    scorer = aim_at(small, "The old king", continuation=" met the queen")
    assert scorer.aim.tokens == ("·The", "·old", "·king", "·met", "·the")
    assert scorer.aim.target.token == "·queen" and scorer.aim.token == 4
    assert scorer.aim.value == aim_at(small, KING, "queen").aim.value
    assert (
        aim_at(small, "The old king", continuation=small.encode_behind(" met the queen")).aim.value == scorer.aim.value
    )
    other = aim_at(small, "The old king", "dog", continuation=" met the queen")
    assert other.aim.target.token == "·dog" and other.aim.tokens == scorer.aim.tokens
    with pytest.raises(HeadlightError, match="There are no tokens"):
        aim_at(small, KING, continuation=torch.zeros(1, 0, dtype=torch.long))


# ── two stacks, and none that writes ────────────────────────────────────────────────────────────────────────────────


def test_an_encoder_decoder_reads_a_decoder_text():
    lm = read("T5: relative positions")
    ids, rows = lm.encode(TEXT).inputs["input_ids"], torch.tensor([[0, 67, 68, 69]])
    scorer = aim_at(lm, TEXT, "d", "x", decoder="abc")
    logits = last_logits(lm.model, input_ids=ids, decoder_input_ids=rows)
    assert scorer.aim.value == pytest.approx(float(logits[70] - logits[90]), abs=1e-6)
    assert scorer.aim.token == 3 and len(scorer.aim.tokens) == len(TEXT)
    earlier = aim_at(lm, TEXT, decoder="abc", token=1)
    logits = last_logits(lm.model, input_ids=ids, decoder_input_ids=rows[:, :2])
    assert earlier.aim.value == pytest.approx(float(logits.max()), abs=1e-6) and earlier.aim.follows.token == "b"
    how = {"max_new_tokens": 32, "do_sample": False, "use_cache": False, "decoder_start_token_id": 0}
    written = lm.model.generate(ids, **how)[0].tolist()
    own = aim_at(lm, TEXT).inputs["decoder_input_ids"][0].tolist()
    assert own == written[: len(own)] and set(written[len(own) :]) <= {lm.model.generation_config.eos_token_id}
    with pytest.raises(HeadlightError, match="give it as `decoder`"):
        aim_at(lm, TEXT, continuation="d")


def test_an_encoder_compares_texts():
    lm = read("BERT")

    def hidden(text: str) -> Tensor:
        with torch.no_grad():
            return lm.model(**lm.encode(text).inputs).last_hidden_state[0]

    own, near, far = hidden(TEXT).mean(0), hidden("because").mean(0), hidden("not this").mean(0)
    to_near, to_far = (float(F.cosine_similarity(own, other, dim=0)) for other in (near, far))
    assert aim_at(lm, TEXT, "because").aim.value == pytest.approx(to_near, abs=1e-6)
    scorer = aim_at(lm, TEXT, "because", "not this")
    assert scorer.aim.value == pytest.approx(to_near - to_far, abs=1e-6)
    assert (scorer.aim.kind, scorer.aim.score, scorer.aim.texts) == ("similarity", "cosine", ("because", "not this"))
    left = aim_at(lm, TEXT, token=2)
    assert left.aim.kind == "vector" and left.aim.value == pytest.approx(1, abs=1e-6)
    changed = lm.encode("why me").inputs["input_ids"]
    with torch.no_grad():
        number = left(lm.model.get_input_embeddings()(changed))
    expected = F.cosine_similarity(hidden("why me")[2], hidden(TEXT)[2], dim=0)
    assert float(number) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(
    "asked, sentence",
    [
        ({"target": 5}, "An encoder writes no next token: give a second text"),
        ({"contrast": "no"}, "needs a first one: give a second text as the target"),
        ({"continuation": "no"}, "no continuation: leave it out"),
        ({"token": 6}, "There is no token 6 here"),
    ],
)
def test_what_an_encoder_cannot_be_asked(asked, sentence):
    with pytest.raises(HeadlightError, match=sentence):
        aim_at(read("BERT"), TEXT, **asked)


# ── models whose vectors cannot be given ────────────────────────────────────────────────────────────────────────────


class NumbersOnly(tf.GPT2LMHeadModel):
    """Takes the numbers of tokens alone."""

    def forward(self, input_ids=None, attention_mask=None, **more):
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, **more)


def test_a_model_of_numbers_alone_is_still_looked_at():
    sizes = tf.GPT2Config(**IDS, n_embd=40, n_layer=2, n_head=5, n_positions=64)
    lm = LanguageModel(Architecture(lambda: NumbersOnly(sizes), decoder(2), {}).model(), letters())
    logits = last_logits(lm.model, input_ids=lm.encode(TEXT).inputs["input_ids"])
    assert explain(lm, TEXT, "attention").aim.value == pytest.approx(float(logits.max()), rel=1e-5)
    for method in ("rollout", "value_weighted"):
        assert explain(lm, TEXT, method).scores.shape == (6,)
    for method in ("gradient_x_input", "integrated_gradients", "occlusion", "shapley", "attention_x_gradient"):
        with pytest.raises(HeadlightError, match="takes the numbers of tokens alone.*Choose “attention”"):
            explain(lm, TEXT, method)


def test_padding_that_moves_positions_is_noticed():
    """RoBERTa numbers its positions by which tokens are padding, and sees none among vectors."""
    lm, ids = read("RoBERTa"), torch.tensor([[9, 0, 11, 12]])
    assert explain(lm, ids, "attention").scores.shape == (4,)
    with pytest.raises(HeadlightError, match="reads this text otherwise when it is given the vectors"):
        explain(lm, ids, "occlusion")
    assert explain(lm, ids + 1, "occlusion").scores.shape == (4,)


def test_vectors_whose_positions_are_lost_are_noticed():
    """FSMT numbers its positions by the tokens, and by the first component of each where it is given vectors."""
    lm = LanguageModel(fsmt(), letters())
    assert explain(lm, TEXT, "attention", decoder="ab").scores.shape == (6,)
    with pytest.raises(HeadlightError, match="reads this text otherwise"):
        explain(lm, TEXT, "occlusion", decoder="ab")
