"""Models that are not in the list, in the browser: two texts, weights alone, what cannot be opened, recordings."""

import re
from urllib.parse import quote

import pytest
import torch
import transformers as tf
from playwright.sync_api import Page, expect
from transformers import AutoTokenizer

from attention_core import Capture
from attention_core.models import ASSETS

TEXT, TARGET = "The old king met the queen.", "A young queen smiled"
SIZES = {"pad_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0}
LOOK = re.compile(r"([\d.]+)% at “(.*?)” \(token (\d+)\)")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(ASSETS / "small")


@pytest.fixture(scope="module")
def folders(tokenizer, tmp_path_factory):
    torch.manual_seed(0)
    words, place = len(tokenizer), tmp_path_factory.mktemp("models")
    heads = {"encoder_attention_heads": 5, "decoder_attention_heads": 5}
    marian = {"d_model": 40, "encoder_layers": 2, "decoder_layers": 2, **heads}
    models = {
        "t5": tf.T5ForConditionalGeneration(
            tf.T5Config(vocab_size=words, **SIZES, d_model=40, d_kv=8, d_ff=56, num_layers=2, num_heads=5)
        ),
        "marian": tf.MarianMTModel(tf.MarianConfig(vocab_size=words, bos_token_id=0, **SIZES, **marian)),
        "bloom": tf.BloomForCausalLM(
            tf.BloomConfig(vocab_size=words, hidden_size=40, n_layer=3, n_head=5, pad_token_id=0, eos_token_id=0)
        ),
    }
    for name, model in models.items():
        model.eval().save_pretrained(place / name)
        tokenizer.save_pretrained(place / name)
    return place


def check(page: Page, row: torch.Tensor) -> None:
    looks = LOOK.findall(page.locator(".st-key-finding p").inner_text())
    assert len(looks) == min(3, int((row > 0).sum()))
    for (shown, _, key), weight in zip(looks, row.sort(descending=True).values, strict=False):
        assert float(shown) == pytest.approx(100 * row[int(key)].item(), abs=0.06)
        assert float(shown) == pytest.approx(100 * weight.item(), abs=0.06)


@pytest.mark.parametrize("name", ["t5", "marian"])
def test_cross_attention_by_keyboard(open_page: Page, open_server: str, folders, tokenizer, name: str):
    open_page.goto(f"{open_server}/?model={quote(str(folders / name))}&text={quote(TEXT)}&target={quote(TARGET)}")
    expect(open_page.locator(".st-key-finding p")).to_contain_text("Encoder layer 0", timeout=60_000)
    open_page.locator(".st-key-kind input[type=radio]").first.focus()
    open_page.keyboard.press("ArrowRight")
    expect(open_page.locator(".st-key-finding p")).to_contain_text("Decoder layer 0")
    open_page.locator(".st-key-kind input[type=radio]:checked").focus()
    open_page.keyboard.press("ArrowRight")
    expect(open_page.locator(".st-key-finding p")).to_contain_text("Cross-attention layer 0, head 0")
    open_page.locator(".st-key-overview canvas.picture").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Enter"):
        open_page.keyboard.press(key)
    expect(open_page.locator(".st-key-finding p")).to_contain_text("Cross-attention layer 1, head 2")
    model = tf.AutoModelForSeq2SeqLM.from_pretrained(folders / name, attn_implementation="eager")
    labels = torch.tensor([tokenizer(TARGET)["input_ids"]])
    inputs = {k: torch.tensor([v]) for k, v in tokenizer(TEXT).items() if k in ("input_ids", "attention_mask")}
    reads = model.prepare_decoder_input_ids_from_labels(torch.cat([labels, torch.zeros_like(labels[:, :1])], dim=1))
    with torch.no_grad():
        own = model(**inputs, decoder_input_ids=reads, output_attentions=True).cross_attentions[1][0, 2]
    token = int(re.search(r"\(token (\d+)\) looks", open_page.locator(".st-key-finding p").inner_text())[1])
    assert token == reads.shape[1] - 1
    check(open_page, own[token])


def test_weights_alone(open_page: Page, open_server: str, folders, tokenizer):
    open_page.goto(f"{open_server}/?model={quote(str(folders / 'bloom'))}&text={quote(TEXT)}&layer=1&head=3&token=4")
    expect(open_page.locator(".st-key-finding p")).to_contain_text("Layer 1, head 3", timeout=60_000)
    model = tf.BloomForCausalLM.from_pretrained(folders / "bloom", attn_implementation="eager")
    with torch.no_grad():
        own = model(**tokenizer(TEXT, return_tensors="pt"), output_attentions=True).attentions[1][0, 3]
    check(open_page, own[4, :5])
    open_page.get_by_text("Numbers: queries, keys, values").click()
    expect(open_page.get_by_text("Queries, keys and values are unavailable")).to_be_visible()
    expect(open_page.locator(".stException")).to_have_count(0)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [("nobody/nothing", "Hub cannot be reached"), ("/no/such/folder", "no"), ("gpt9", "gpt9")],
)
def test_what_cannot_be_opened_gets_a_sentence(open_page: Page, open_server: str, model: str, sentence: str):
    open_page.goto(f"{open_server}/?model={quote(model, safe='')}")
    expect(open_page.locator(".notice").first).to_contain_text(sentence, timeout=30_000)
    expect(open_page.locator(".st-key-finding p")).to_contain_text("Layer")  # the first example, all the same
    expect(open_page.locator(".stException")).to_have_count(0)


def test_other_models_stay_closed_where_others_can_reach_the_server(page: Page, server: str, folders):
    page.goto(f"{server}/?model={quote(str(folders / 't5'))}")
    expect(page.locator(".notice").first).to_contain_text("this server opens no others")
    page.goto(f"{server}/?against=model&vs_model={quote(str(folders / 't5'))}")
    expect(page.locator(".notice").first).to_contain_text("this server opens no others")
    expect(page.locator(".st-key-head_view")).to_have_count(1)
    expect(page.locator(".st-key-beside-0")).to_have_count(0)


def test_saved_and_opened_again(page: Page, server: str, tmp_path):
    page.goto(f"{server}/?model=small&text={quote(TEXT)}&layer=2&head=1&token=4")
    expect(page.locator(".st-key-finding p")).to_contain_text("Layer 2, head 1", timeout=60_000)
    said = page.locator(".st-key-finding p").inner_text()
    page.get_by_role("button", name="Save", exact=True).click()
    saved = {}
    for name in ("SVG", "Recording"):
        with page.expect_download() as download:
            page.get_by_role("button", name=name, exact=True).click()
        saved[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(saved[name])
    caption = " ".join(re.sub(r"<[^>]*>", " ", saved["SVG"].read_text(encoding="utf-8")).split())
    for part in ("small", "layer 2, head 1", TEXT):
        assert part in caption
    assert Capture.load(saved["Recording"]).text == TEXT
    page.goto(server)
    expect(page.locator(".st-key-finding p")).to_contain_text("Layer 3, head 1")
    page.get_by_role("button", name="More models").click()
    page.locator("input[type=file]").set_input_files(saved["Recording"])
    page.wait_for_url(re.compile("recording"))
    page.goto(f"{page.url}&layer=2&head=1&token=4")
    expect(page.locator(".st-key-finding p")).to_contain_text("Layer 2, head 1")
    assert page.locator(".st-key-finding p").inner_text() == said
    expect(page.get_by_label("Text", exact=True)).to_have_value(TEXT)
