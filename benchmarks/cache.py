"""The page "KV cache" in a browser: python -m benchmarks.cache [--model small] [--toy]

Lets the model write 64 tokens and measures (1) from the link to the first step on the screen, beside the seconds of the
prefill itself, and (2) from an arrow key to the painted step, in the finished run: the clock starts at the key press in
the browser and stops in the first frame that shows the new step's sentence and its rows. Without and with all layers.
"""

import argparse
import re
import time
from urllib.parse import urlencode

from playwright.sync_api import Page, expect

from benchmarks.app import in_words, started
from benchmarks.interaction import TEXT

CLOCK = """async () => {
    const key = {capture: true, once: true};
    const began = await new Promise(done => addEventListener("keydown", event => done(event.timeStamp), key));
    const said = () => document.querySelector(".st-key-said p")?.innerText;
    const roots = node => [...node.querySelectorAll("*")].map(e => e.shadowRoot).filter(Boolean);
    const picture = () => roots(document.querySelector(".st-key-rows"))[0]?.querySelector("[data-painted]");
    const rows = () => picture()?.dataset.painted;
    const before = [said(), rows()];
    const next = () => new Promise(requestAnimationFrame);
    do await next(); while (said() === before[0] || rows() === before[1]);
    return performance.now() - began;
}"""


def scrub(page: Page, key: str, steps: int) -> list[float]:
    """Milliseconds of each press of an arrow key."""
    taken = []
    for _ in range(steps):
        page.evaluate("() => { window.clock = (" + CLOCK + ")() }")
        page.keyboard.press(key)
        taken.append(page.evaluate("() => Promise.race([window.clock, new Promise((_, no) => setTimeout(no, 9000))])"))
        page.wait_for_timeout(400)  # until the last answer has arrived, as a hand would
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="a short run of the small model")
    parser.add_argument("--model", default="smollm2-135m")
    args = parser.parse_args()
    model, new, presses = ("small", 8, 3) if args.toy else (args.model, 64, 20)
    with started() as (address, page):
        said = page.locator(".st-key-said p")
        page.goto(f"{address}/cache?{urlencode({'model': model, 'text': 'Warm.', 'new': 2})}")
        expect(said).to_contain_text("Step 1.", timeout=180_000)  # the model is loaded
        query = {"model": model, "text": TEXT, "new": new, "layer": 1, "head": 1}
        began = time.perf_counter()
        page.goto(f"{address}/cache?{urlencode(query)}")
        expect(said).to_contain_text(re.compile(r"Step \d+\."), timeout=180_000)
        shown, first = time.perf_counter() - began, said.inner_text()[:8]
        print(f"from the link to the first step that is shown: {shown:.2f} s, page load included ({first}, {model})")
        expect(said).to_contain_text(f"Step {new - 1}.", timeout=300_000)
        print(f"from the link to the last of {new} steps: {time.perf_counter() - began:.1f} s, comparison included")
        for stack in ("0", "1"):
            page.goto(f"{address}/cache?{urlencode(query | {'stack': stack, 'at': new - 1})}")
            expect(said).to_contain_text(f"Step {new - 1}.", timeout=60_000)
            page.wait_for_timeout(2500)
            taken = scrub(page, "ArrowLeft", presses) + scrub(page, "ArrowRight", presses)
            what = "all layers" if stack == "1" else "one head"
            print(in_words(f"scrubbing, {what}", taken, f"{new} steps, {model}"))


if __name__ == "__main__":
    main()
