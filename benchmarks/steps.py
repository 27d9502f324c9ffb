"""From an arrow key to the painted step: python -m benchmarks.steps [--model small] [--toy]

Starts the app, opens "Step by step" on a 30-token text in headless Chromium and walks through all steps by the arrow
keys, there and back. The clock starts at the key press in the browser and stops in the first frame that shows the new
step's sentences and its picture (the proof has none). The first walk is told apart: the last step then asks the model.
"""

import argparse
from urllib.parse import urlencode

from playwright.sync_api import Page

from benchmarks.app import in_words, started
from benchmarks.interaction import TEXT

CLOCK = """async () => {
    const key = {capture: true, once: true};
    const began = await new Promise(done => addEventListener("keydown", event => done(event.timeStamp), key));
    const said = () => document.querySelector(".st-key-said p")?.innerText;
    const pictures = node => [...(node?.querySelectorAll("*") ?? [])].filter(e => e.shadowRoot);
    const picture = () => document.querySelector(".st-key-picture");
    const painted = () => pictures(picture())[0]?.shadowRoot.querySelector(".steps")?.dataset.painted;
    const before = [said(), painted()];
    const next = () => new Promise(requestAnimationFrame);
    do await next(); while (said() === before[0] || (picture() && painted() === before[1]));
    return performance.now() - began;
}"""


def walk(page: Page, key: str, steps: int) -> list[float]:
    """Milliseconds of each press of an arrow key."""
    taken = []
    for _ in range(steps):
        before = page.locator(".st-key-said p").inner_text()
        page.evaluate("() => { window.clock = (" + CLOCK + ")() }")
        page.keyboard.press(key)
        taken.append(page.evaluate("() => Promise.race([window.clock, new Promise((_, no) => setTimeout(no, 9000))])"))
        page.wait_for_timeout(500)  # until the last answer has arrived, as a hand would
        assert page.locator(".st-key-said p").inner_text() != before
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="one walk only")
    parser.add_argument("--model", default="smollm2-135m")
    args = parser.parse_args()
    model = "small" if args.toy else args.model
    with started() as (address, page):
        page.goto(f"{address}/steps?{urlencode({'model': model, 'text': TEXT, 'layer': 1, 'head': 1, 'token': 20})}")
        page.locator(".st-key-said p").wait_for(timeout=120_000)
        page.wait_for_timeout(1500)
        tokens = page.locator(".st-key-chips [role=option]").count()
        names = page.locator(".st-key-stepper ol button").all_inner_texts()
        note, last = f"{tokens} tokens, {model}", len(names) - 1
        first = walk(page, "ArrowRight", last)
        print(f"first walk, in ms: {', '.join(f'{name} {ms:.0f}' for name, ms in zip(names[1:], first, strict=True))}")
        there: list[list[float]] = []
        for _ in range(1 if args.toy else 5):
            there.append(walk(page, "ArrowLeft", last)[::-1])
            there.append([*walk(page, "ArrowRight", last)])
        for place in range(last):
            print(in_words(f"{names[place]} – {names[place + 1]}", [ms[place] for ms in there], note))
        print(in_words("all steps", [ms for ways in there for ms in ways], note))


if __name__ == "__main__":
    main()
