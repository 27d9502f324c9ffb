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
PLAIN = str.maketrans("−⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "--0123456789")
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
    open_page.goto(f"{open_server}/?model={quote(str(folders / name))}&text={quote(TEXT)}&target_text={quote(TARGET)}")
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
    expect(page.locator(".notice").first).to_contain_text("this server opens no others", timeout=60_000)
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


def test_two_caches_of_an_encoder_decoder(open_page: Page, open_server: str, folders):
    """What the decoder keeps of its own tokens grows; what it keeps of the source does not."""
    open_page.goto(f"{open_server}/cache?model={quote(str(folders / 't5'))}&text={quote(TEXT)}&new=4&at=3&sampled=1")
    said = open_page.locator(".st-key-said p")
    expect(said).to_contain_text("Step 3.", timeout=60_000)
    status = open_page.locator(".st-key-growth .status")
    expect(status).to_contain_text("4 rows: 3 reused, 1 computed")
    open_page.get_by_text("Cross", exact=True).click()
    expect(open_page.locator(".st-key-source [role=option]")).to_have_count(len(TEXT.split()) + 1)
    expect(status).to_contain_text("7 rows: 7 reused, 0 computed")
    open_page.get_by_role("button", name="Back").click()
    expect(said).to_contain_text("Step 2.")
    expect(status).to_contain_text("7 rows: 7 reused, 0 computed")


@pytest.mark.parametrize("name", ["t5", "marian"])
def test_relevance_of_a_source(open_page: Page, open_server: str, folders, tokenizer, name: str):
    """Which tokens of the source mattered for a token of the target: by hand, one left out after the other."""
    model = tf.AutoModelForSeq2SeqLM.from_pretrained(folders / name, attn_implementation="eager")
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    labels = torch.tensor([tokenizer(TARGET)["input_ids"]])
    reads = model.prepare_decoder_input_ids_from_labels(torch.cat([labels, torch.zeros_like(labels[:, :1])], dim=1))
    embedding = model.get_input_embeddings()
    vectors = embedding(ids).detach()
    scale = vectors / embedding.weight[ids].detach()
    mean = embedding.weight.detach().mean(dim=0) * scale[0, 0, 0]

    def chances(given: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model(inputs_embeds=given, decoder_input_ids=reads).logits[0, -1].log_softmax(dim=-1)

    whole = chances(vectors)
    lost = []
    for place in range(ids.shape[1]):
        without = vectors.clone()
        without[0, place] = mean
        lost.append(float(whole.max() - chances(without)[whole.argmax()]))
    folder, text, target = (quote(part) for part in (str(folders / name), TEXT, TARGET))
    open_page.goto(f"{open_server}/relevance?model={folder}&text={text}&target_text={target}")
    rows = open_page.locator(".st-key-relevance [role=option]")
    expect(rows.first).to_have_attribute("aria-label", re.compile("Leave one out: [+−]"), timeout=60_000)
    for place, row in enumerate(rows.all()):
        said = re.search(r"Leave one out: (.*?),", row.get_attribute("aria-label"))[1]
        number = float(said.translate(PLAIN).replace(" × 10", "e"))
        assert number == pytest.approx(lost[place], abs=max(2e-4, 2e-4 * abs(lost[place])))
    expect(open_page.locator(".st-key-verdicts")).to_contain_text("Leave one out")
    assert open_page.locator(".st-key-chips [role=option]").count() == reads.shape[1]
    open_page.locator(".st-key-chips [role=option]").nth(1).click()
    expect(open_page.locator(".st-key-said")).to_contain_text("In the text")


def test_relevance_of_a_model_that_gives_its_weights_alone(open_page: Page, open_server: str, folders):
    folder = quote(str(folders / "bloom"))
    methods = "attention,value_weighted,gradient_x_input,rollout"
    open_page.goto(f"{open_server}/relevance?model={folder}&text={quote(TEXT)}&method={methods}")
    said = open_page.locator(".st-key-in_words")
    expect(said).to_contain_text("Value-weighted attention does not apply", timeout=60_000)
    expect(said).to_contain_text("Gradient × input: ")
    open_page.get_by_role("radio", name="Layers and heads").click()
    expect(open_page.locator(".st-key-below-layers")).to_contain_text("All parts sum to")
