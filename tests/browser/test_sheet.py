"""The printable sheet, opened from a file with the network off and printed by Chromium: complete, nothing cut off."""

import io
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from pypdf import PdfReader

from attention_core import capture
from attention_core.figures.sheet import sheet_html
from attention_core.figures.steps import Step, all_steps
from attention_core.filling import fill_worksheet
from tests.architectures import make, some_ids

TEXT = "The old king met the queen, and the old king smiled at the son of the queen."
LONG = "internationalisation" * 15
WIDTHS = (1280, 700)


@pytest.fixture(scope="module")
def steps(small) -> tuple[list[Step], str]:
    """The steps of one row of the small model, and the sheet of them."""
    cap = small.capture(TEXT)
    assert len(cap.tokens) >= 16
    filled = fill_worksheet(cap, 2, 1, 13, small.model)
    made = all_steps(filled, 3, "Layer 2, head 1")
    row = np.where(filled.visible.numpy(), filled.weights.numpy(), np.nan)
    title = f"Layer 2, head 1: “{filled.query_token}” (13)"
    return made, sheet_html(made, title, f"small. Text: “{TEXT}”.", cap.tokens, row, query=13, key=3)


@pytest.fixture(params=["light", "dark"])
def page(request, browser: Browser) -> Iterator[Page]:
    """A page without a network. It may ask for nothing but its own file, and nothing may be refused."""
    context = browser.new_context(offline=True, color_scheme=request.param, viewport={"width": 1280, "height": 900})
    page, failures, requests = context.new_page(), [], []
    page.on("console", lambda message: failures.append(message.text))
    page.on("request", lambda asked: requests.append(asked.url))
    yield page
    assert not failures
    assert len(requests) == 1 and requests[0].startswith("file:"), requests
    context.close()


def opened(page: Page, tmp_path, text: str) -> Page:
    file = tmp_path / "sheet.html"
    file.write_text(text, encoding="utf-8")
    page.goto(file.as_uri())
    return page


def together(text: str) -> str:
    """A text without its spaces, and with its ligatures taken apart: a PDF holds both as it likes."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def sticks_out(page: Page) -> float:
    """How far anything reaches beyond the right edge, in pixels."""
    return page.evaluate(
        """() => {
            const hidden = (node) => node.closest('.unseen, .name, .label');
            const edges = [...document.querySelectorAll('body *')].filter((node) => !hidden(node))
              .map((node) => node.getBoundingClientRect().right);
            const root = document.documentElement;
            return Math.max(root.scrollWidth, ...edges) - root.clientWidth;
        }"""
    )


def test_it_is_calm_and_fits_every_screen(page, tmp_path, steps):
    opened(page, tmp_path, steps[1])
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert sticks_out(page) <= 0
    found = Axe().run(page).response["violations"]
    assert not found, json.dumps(found, indent=1)[:3000]
    expect(page.locator("h2")).to_have_count(len(steps[0]) + 1)
    shade = page.locator(".token bdi").first.evaluate("node => getComputedStyle(node).backgroundColor")
    assert shade != "rgba(0, 0, 0, 0)"  # the policy lets its own style in


@pytest.mark.parametrize(("page", "paper"), [("light", "A4"), ("dark", "Letter")], indirect=["page"])
def test_the_print_is_complete(page, tmp_path, steps, paper):
    made, text = steps
    opened(page, tmp_path, text)
    pages = [one.extract_text() for one in PdfReader(io.BytesIO(page.pdf(format=paper))).pages]
    assert len(pages) < 12 and all(together(one) for one in pages)
    numbers = [f"{number}/{len(pages)}" for number in range(1, len(pages) + 1)]
    printed = [together(one) for one in pages]
    assert all(one.startswith(number) for one, number in zip(printed, numbers, strict=True))
    whole = "".join(printed)
    for number, step in enumerate(made):
        said = together(f"{number} {step.title} {' '.join(step.sentences)}")
        assert sum(said in one for one in printed) == 1, said  # a title is never alone at the end of a page
        assert not any(one.endswith(said) for one in printed if step.blocks or step.table), said
        for table in filter(None, (step.table, step.numbers)):
            for row in table.rows:
                assert sum(together("".join(row)) in one for one in printed) >= 1, row
        for formula in step.formulas:
            assert together(formula.words) in whole
    proof = next(step.table for step in made if step.name == "proof")
    assert len(proof.rows) >= 6


@pytest.mark.parametrize("page", ["dark"], indirect=True)
def test_paper_is_white_in_the_dark(page, tmp_path, steps):
    opened(page, tmp_path, steps[1])
    page.emulate_media(media="print")
    look = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    assert look == ["rgb(255, 255, 255)", "rgb(31, 35, 40)"]


@pytest.mark.parametrize("page", ["light"], indirect=True)
def test_long_tokens_and_large_vectors_fit(page, tmp_path):
    model = make("Gemma 2: soft cap")
    tokens = [LONG, "<b>", "שלום", "$x$", *(f"t{i}" for i in range(4, 14))]
    cap = replace(capture(model, input_ids=some_ids(len(tokens))), tokens=tokens)
    filled = fill_worksheet(cap, 1, 2, 0, model)
    opened(page, tmp_path, sheet_html(all_steps(filled, 0, "Layer 1, head 2"), f"“{LONG}”", LONG, tokens, [0.1] * 14))
    for width in (*WIDTHS, 642):  # the last: A4 between its margins
        page.set_viewport_size({"width": width, "height": 900})
        assert sticks_out(page) <= 0
    page.emulate_media(media="print")
    assert sticks_out(page) <= 0
    assert page.locator("main b").all_inner_texts() == ["q 2"]  # of the groups; no token became markup
