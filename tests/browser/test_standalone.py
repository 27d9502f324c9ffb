"""The stand-alone page, opened from a file with the network off: its numbers are the model's own."""

import re

import pytest
import torch
from playwright.sync_api import expect

from attention_core.figures.standalone import standalone_html
from tests.architectures import with_eager

TEXT = "The <b>old</b> king met </script> the queen, and the old king smiled."


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_shows_the_same_numbers_offline(browser, small, tmp_path, theme):
    file = tmp_path / "head.html"
    file.write_text(standalone_html(small.capture(TEXT), entry=1, head=2, token=6), encoding="utf-8")
    with torch.no_grad():
        inputs = small.encode(TEXT).inputs
        own = with_eager(small.model)(**inputs, output_attentions=True).attentions[1][0, 2]
    context = browser.new_context(offline=True, color_scheme=theme, viewport={"width": 1280, "height": 900})
    page, failures, requests = context.new_page(), [], []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    picture = page.locator(".head canvas.picture")
    expect(picture).to_be_visible()
    box, seen = picture.bounding_box(), set()
    for step in range(1, 60):
        page.mouse.move(box["x"] + box["width"] * step / 60, box["y"] + box["height"] * 0.72)
        seen |= set(re.findall(r"\((0\.\d{5})\)", page.locator(".head .status").inner_text()))
    assert len(seen) > 3
    assert all(float((own - float(value)).abs().min()) < 1.1e-5 for value in seen)
    assert not failures
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)
    context.close()
