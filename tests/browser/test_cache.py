"""The page "KV cache" as its users have it: its rows and weights beside the cache's own, its runs, errors and files."""

import re
import time
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect

from attention_core.run_file import open_run
from tests.tiny import needs_minilm, needs_smollm2

TEXT = "The old king gave the key to the queen, and the next day the old"  # the first example
LAYER, HEAD, NEW = 3, 1, 12


@pytest.fixture(scope="module")
def model():
    """The small model with transformers' own eager attention."""
    from attention_core import load_model

    lm = load_model("small")
    lm.model.set_attn_implementation("eager")
    return lm


@pytest.fixture(scope="module")
def written(model):
    """What generate() writes, and what one uncached eager pass over it all makes of it."""
    inputs = model.tokenizer(TEXT, return_tensors="pt")
    ids = model.model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
    with torch.no_grad():
        output = model.model(ids[:, :-1], output_attentions=True, use_cache=True)
    return ids[0].tolist(), inputs["input_ids"].shape[1], output


def labels(model, ids: list[int]) -> list[str]:
    return model.labels(torch.tensor([ids]))


def opened(page: Page, server: str, **query: str) -> Page:
    asked = "&".join(f"{name}={quote(str(value))}" for name, value in query.items())
    page.goto(f"{server}/cache?{asked}")
    return page


def expect_step(page: Page, step: int) -> None:
    expect(page.locator(".st-key-said p")).to_contain_text(re.compile(rf"^Step {step}\."), timeout=60_000)


def expect_rest(page: Page) -> None:
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=60_000)


def expect_ready(page: Page) -> None:
    """Nothing moves any more, and the components of "Growth" are painted and listen."""
    expect_rest(page)
    for key in ("chips", "player", "growth"):
        expect(page.locator(f".st-key-{key} [data-painted]")).to_have_count(1)


def asked(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def notices(page: Page):
    return page.locator(".notice")


def test_it_opens_with_a_finished_run(page: Page, server: str, model, written):
    ids, prompt, _ = written
    opened(page, server)
    expect_step(page, NEW - 1)
    expect_ready(page)
    chips = page.locator(".st-key-chips [role=option]").all_inner_texts()
    assert chips == labels(model, ids[:-1])
    said = page.locator(".st-key-said p").inner_text()
    assert f"“{labels(model, ids[-1:])[0]}”" in said and "no row yet" in said
    assert f"the {prompt + NEW - 2} rows before are reused, untouched" in said


def test_rows_and_weights_are_the_caches_own(page: Page, server: str, written):
    """Every number that is said on hover, against one eager pass without a cache over the whole text."""
    ids, prompt, output = written
    at = 5
    page.set_viewport_size({"width": 1280, "height": 1800})  # all rows in sight
    opened(page, server, layer=LAYER, head=HEAD, at=at)
    expect_step(page, at)
    expect_ready(page)
    read = prompt + at
    with torch.no_grad():
        layer = output.past_key_values.layers[LAYER]
    key, value = (t[0, HEAD, :read].numpy() for t in (layer.keys, layer.values))
    weights = output.attentions[LAYER][0, HEAD, read - 1, :read].numpy()
    said = page.locator(".st-key-growth").evaluate(SWEEP, [key.shape[0]])
    cells = {}
    for words in said:
        found = re.match(r"([kv])\[(\d+)\] of “.*” \((\d+)\) = (−?[\d.e−+]+)$", words)
        if found:
            side, d, place, number = found.groups()
            cells[side, int(place), int(d)] = float(number.replace("−", "-"))
    for side, rows in (("k", key), ("v", value)):
        seen = {place: d for s, place, d in cells if s == side}
        assert set(seen) == set(range(read))
        for (s, place, d), number in cells.items():
            if s == side:
                assert number == pytest.approx(rows[place, d], rel=2e-5, abs=2e-5)
    looked = {}
    for words in said:
        found = re.search(r"\((\d+)\) gets [\d.]+% \(([\d.]+)\)", words)
        if found:
            looked[int(found[1])] = float(found[2])
    assert set(looked) == set(range(read))
    for place, weight in looked.items():
        assert weight == pytest.approx(weights[place], abs=2e-5)


# Points at the middle of every row, at several places across: what the status line says there.
SWEEP = """(node, [rows]) => {
    const root = [...node.querySelectorAll("*")].map(n => n.shadowRoot).find(Boolean);
    const said = new Set();
    const frame = root.querySelector(".growth");
    const box = frame.getBoundingClientRect();
    for (let y = box.top; y < box.bottom; y += 4) for (let x = box.left + 2; x < box.right; x += 9) {
        const target = root.elementFromPoint(x, y) ?? frame;
        target.dispatchEvent(new MouseEvent("mousemove", { clientX: x, clientY: y, bubbles: true, composed: true }));
        said.add(root.querySelector(".status").textContent);
    }
    return [...said];
}"""


def test_scrub_by_keys_chip_and_link(page: Page, server: str):
    opened(page, server, at=3)
    expect_step(page, 3)
    expect_ready(page)
    page.keyboard.press("ArrowRight")
    expect_step(page, 4)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect_step(page, 2)
    page.locator(".st-key-chips [role=option]").nth(5).click()  # marks its row
    expect(page).to_have_url(re.compile("row=5"))
    expect_rest(page)
    page.go_back()
    expect_step(page, 2)
    expect(page).not_to_have_url(re.compile("row="))
    page.go_forward()
    expect(page).to_have_url(re.compile("row=5"))
    page.reload()
    expect_step(page, 2)


def test_another_candidate_is_a_branch(page: Page, server: str, model):
    opened(page, server, at=2)
    expect_step(page, 2)
    expect_ready(page)
    page.locator(".st-key-candidates [role=option]").nth(1).click()
    expect(page.locator(".st-key-said p")).to_contain_text("was set to")
    step, token = asked(page)["forced"][0].split(":")
    assert step == "2"
    inputs = model.tokenizer(TEXT, return_tensors="pt")
    before = model.model.generate(**inputs, max_new_tokens=2, do_sample=False)
    ids = torch.cat([before, torch.tensor([[int(token)]])], dim=1)
    after = model.model.generate(ids, max_new_tokens=NEW - 3, do_sample=False, attention_mask=torch.ones_like(ids))
    page.get_by_role("slider", name=re.compile("step", re.I)).focus()
    page.keyboard.press("End")
    expect_step(page, NEW - 1)
    expect_rest(page)
    assert page.locator(".st-key-chips [role=option]").all_inner_texts() == labels(model, after[0, :-1].tolist())
    page.get_by_role("button", name="Undo all").click()
    expect(page).not_to_have_url(re.compile("forced"))


def test_a_run_travels_as_a_file(page: Page, server: str, tmp_path, written):
    ids, prompt, output = written
    opened(page, server, at=4)
    expect_step(page, 4)
    page.get_by_role("button", name="Run").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Everything as npz").click()
    file = tmp_path / "run.npz"
    download.value.save_as(file)
    run = open_run(file.read_bytes())
    assert run.tokens == ids[prompt:]
    for n, layer in enumerate(output.past_key_values.layers):
        for mine, own in zip(run.steps[-1].cache[n], (layer.keys[0], layer.values[0]), strict=True):
            assert torch.allclose(mine, own, atol=1e-5)
    with np.load(file) as arrays:
        row = output.attentions[LAYER][0, HEAD, prompt + 3, : prompt + 4].numpy()
        assert arrays[f"attention_{LAYER}_4"][HEAD] == pytest.approx(row, abs=1e-5)
    page.locator("input[type=file]").last.set_input_files(file)
    expect_step(page, NEW - 1)
    assert "run" in asked(page)
    expect(page.locator(".st-key-from_file")).to_contain_text(f"wrote it behind “{TEXT}”")
    expect_rest(page)
    assert page.locator(".st-key-chips [role=option]").count() == len(ids) - 1
    page.locator("input[type=file]").last.set_input_files({"name": "x.npz", "mimeType": "", "buffer": b"no run"})
    expect(notices(page)).to_contain_text("not a run that Headlight saved")


@pytest.mark.parametrize(
    "query, words",
    [
        ({"new": "0"}, "a whole number from 1 to 1,024 is needed"),
        ({"at": "99"}, "There is no step 99 here"),
        ({"forced": "2:999999"}, "outside the vocabulary"),
        ({"run": "0123456789abcdef"}, "open its file again"),
        ({"text": " "}, "type a sentence"),
    ],
)
def test_nonsense_is_answered_in_words(page: Page, server: str, query, words):
    opened(page, server, **query)
    expect(notices(page).first).to_contain_text(words, timeout=60_000)
    if "run" not in query:  # something is shown all the same
        expect(page.locator(".st-key-said p")).to_contain_text("Step")
    assert page.locator("[data-testid=stException]").count() == 0


@needs_minilm
def test_an_encoder_has_no_cache(page: Page, server: str):
    opened(page, server, model="minilm-l6", text="The cat sat on the mat.")
    expect(page.locator(".st-key-encoder")).to_contain_text("reads the whole text at once", timeout=60_000)
    page.get_by_role("button", name="Show it with our small decoder").click()
    expect_step(page, NEW - 1)
    assert asked(page)["text"] == ["The cat sat on the mat."]


@needs_smollm2
def test_a_long_run_streams_and_can_be_stopped(page: Page, server: str):
    opened(page, server, model="smollm2-135m", text="Once upon a time", new="200")
    expect(page.locator(".st-key-progress")).to_contain_text(re.compile(r"Writing: \d+ of 200"), timeout=120_000)
    expect(page.locator(".st-key-growth [data-painted]")).to_have_count(1)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".st-key-said p")).to_contain_text(re.compile(r"It was stopped after \d+ of 200 tokens"))
    expect_rest(page)
    assert 0 < int(asked(page)["until"][0]) < 200 and asked(page)["new"] == ["200"]
    page.get_by_role("button", name="Go on writing").click()
    expect(page.locator(".st-key-progress")).to_contain_text(re.compile(r"Writing: \d+ of 200"), timeout=60_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".st-key-said p")).to_contain_text("It was stopped after")


@pytest.mark.parametrize("name", ["growth", "why", "bytes", "lab"])
def test_axe_and_sideways(page: Page, server: str, name: str):
    from axe_playwright_python.sync_playwright import Axe

    for theme, width in (("light", 1280), ("dark", 1920)):
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 900})
        opened(page, server, tab=name)
        expect(page.locator(f".st-key-tab-{name}")).to_be_visible(timeout=60_000)
        expect_rest(page)
        time.sleep(0.3)  # Streamlit fades in what it has drawn
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= width


def test_the_lab_drops_rows(page: Page, server: str, model):
    opened(page, server, tab="lab", policy="window", window=4)
    said = page.locator(".st-key-trial .finding")
    expect(said).to_contain_text("16,384 of 110,592 bytes", timeout=60_000)  # 4 of 27 rows
    expect_rest(page)
    expect(page.locator(".st-key-stays .number")).to_have_text(["dropped"] * 23 + ["stays"] * 4)
    page.locator(".st-key-stays [role=option]").nth(2).click()
    expect(said).to_contain_text("Every row but that of “·king” (2)")
    assert asked(page)["policy"] == ["row"] and asked(page)["row"] == ["2"]
