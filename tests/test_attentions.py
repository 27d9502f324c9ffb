"""Capture.attentions(): transformers' and BertViz's format."""

import pytest
import torch

from attention_core import HeadlightError, capture
from tests.architectures import make, some_ids, with_eager
from tests.sizes import VOCABULARY


@pytest.mark.parametrize("name", ["Llama: grouped", "BERT", "Gemma 2: soft cap"])
def test_attentions_are_those_of_transformers(name):
    model, ids = make(name), some_ids(17)
    cap = capture(model, input_ids=ids)
    with torch.no_grad():
        own = with_eager(model)(input_ids=ids, output_attentions=True).attentions
    ours = cap.attentions()
    assert isinstance(ours, tuple) and len(ours) == len(own)
    for mine, theirs in zip(ours, own, strict=True):
        assert mine.shape == theirs.shape and mine.dtype == torch.float32 and mine.device.type == "cpu"
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
    assert ours[0].shape[0] == 1


def test_attentions_by_kind():
    model = make("BART")
    inputs = {"input_ids": some_ids(13), "decoder_input_ids": some_ids(7)}
    cap = capture(model, **inputs)
    with torch.no_grad():
        own = with_eager(model)(**inputs, output_attentions=True)
    for kind in ("encoder", "decoder", "cross"):
        ours, theirs = cap.attentions(kind), own[f"{kind}_attentions"]
        assert [t.shape for t in ours] == [t.shape for t in theirs]
        for mine, their in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, their, atol=1e-5, rtol=0)
    assert len(cap.attentions()) == len(cap.layers)
    with pytest.raises(HeadlightError, match="no kind of attention “self”: choose encoder, decoder or cross"):
        cap.attentions("self")


def test_the_new_fields_have_defaults():
    cap = capture(make("BERT"), input_ids=torch.randint(3, VOCABULARY, (1, 4)))
    assert (cap.text, cap.target_text, cap.second_text, cap.revision) == ("", "", "", "")
    assert (cap.likely, cap.predicts) == ([], False)
    assert (cap.words, cap.target_words, cap.segments, cap.special) == (None, None, None, None)
