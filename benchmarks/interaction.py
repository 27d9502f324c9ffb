"""From a key press or click to the painted page: python -m benchmarks.interaction [--model smollm2-135m] [--toy]

Starts the app, opens a 30-token text in headless Chromium, changes the head by keyboard, then uses the other controls.
The clock starts at the event in the browser and stops in the first frame that shows the new picture and sentence.
What it times is checked first: the sentence names the head that was asked for, and no interaction runs the model again.
"""

import argparse
import re
import time
from urllib.parse import urlencode

from playwright.sync_api import Locator, Page

from benchmarks.app import in_words, started

TEXT = (
    "The old king met the queen by the river, and the queen gave the old king a small key. "
    "Then the king smiled at her and left."
)

CLOCK = """async ([head, finding]) => {
    const began = await new Promise(done => addEventListener("keydown", e => e.key === "Enter" && done(e.timeStamp),
                                                            {capture: true}));
    const before = [head.dataset.painted, finding.innerText];
    const next = () => new Promise(requestAnimationFrame);
    const words = () => document.querySelector(".st-key-finding").innerText;
    while (head.dataset.painted === before[0] || words() === before[1]) await next();
    return performance.now() - began;
}"""


# Every picture on the page, with how often it was painted; it changes when any is painted anew, comes or goes.
CLICK_CLOCK = """async (words) => {
    const pictures = root => [...root.querySelectorAll("*")].flatMap(e => [
        ...(e.dataset?.painted ? [`${e.className} ${e.dataset.painted} ${e.offsetHeight > 0}`] : []),
        ...(e.shadowRoot ? pictures(e.shadowRoot) : [])]);
    const finding = () => document.querySelector(".st-key-finding").innerText;
    const state = () => words ? finding() : pictures(document.querySelector(".block-container")).join();
    const before = state();
    const began = await new Promise(done => addEventListener("click", e => done(e.timeStamp), {capture: true}));
    const next = () => new Promise(requestAnimationFrame);
    do await next(); while (state() === before);
    return performance.now() - began;
}"""


def measure(page: Page, keys: list[str], times: int) -> list[float]:
    """Milliseconds of each change of head, by turns with the given keys."""
    canvas = page.locator(".st-key-overview canvas.picture")
    milliseconds = []
    for turn in range(times):
        head = page.locator(".st-key-head_view .head").element_handle()
        finding = page.locator(".st-key-finding").element_handle()
        canvas.focus()
        page.keyboard.press(keys[turn % len(keys)])
        before = finding.inner_text()
        page.evaluate("args => { window.clock = (" + CLOCK + ")(args) }", [head, finding])
        page.keyboard.press("Enter")
        milliseconds.append(
            page.evaluate("() => Promise.race([window.clock, new Promise((_, no) => setTimeout(no, 9000))])")
        )
        after = finding.inner_text()
        assert re.match(r"Layer \d, head \d", after) and after != before, after
        page.wait_for_timeout(500)  # until the last answer has arrived, as a hand would
    return milliseconds


def clicks(
    page: Page, targets: list[Locator], times: int, words: bool = False, box: Locator | None = None
) -> list[float]:
    """Milliseconds of each click, by turns on the targets, until a picture is painted anew, or until the finding has
    other words. box: a select box that is opened first, off the clock."""
    milliseconds = []
    for turn in range(times):
        if box is not None:
            box.click()
            targets[turn % len(targets)].wait_for()
        page.evaluate("words => { window.clock = (" + CLICK_CLOCK + ")(words) }", words)
        address = page.url
        targets[turn % len(targets)].click()
        milliseconds.append(
            page.evaluate("() => Promise.race([window.clock, new Promise((_, no) => setTimeout(no, 9000))])")
        )
        page.wait_for_timeout(600)
        assert page.url != address, "the click chose nothing"
    return milliseconds


def other_controls(page: Page, times: int) -> dict[str, list[float]]:
    chips, views = page.locator(".st-key-chips [role=option]"), page.locator(".st-key-view")
    found = {
        "token": clicks(page, [chips.nth(9), chips.nth(12)], times, words=True),
        "lines and heat map": clicks(page, [views.get_by_text("Lines"), views.get_by_text("Heat map")], times),
    }
    page.get_by_role("button", name="Display", exact=True).click()
    page.get_by_text("Whole words").wait_for()
    page.wait_for_timeout(1000)
    scale = page.locator(".st-key-log")
    found["colour scale"] = clicks(page, [scale.get_by_text("log", exact=True), scale.get_by_text("linear")], times)
    found["whole words"] = clicks(page, [page.get_by_text("Whole words")], times)
    for name, key, choices in (
        ("sort all heads", "sort", ("induction", "previous token")),
        ("side by side", "against", ("another head", "nothing")),
    ):
        options = [page.get_by_role("option", name=choice, exact=True) for choice in choices]
        found[name] = clicks(page, options, times, box=page.locator(f".st-key-{key}").get_by_role("combobox"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="four changes only")
    parser.add_argument("--model", default="small")
    args = parser.parse_args()
    began = time.perf_counter()
    with started() as (address, page):
        query = urlencode({"model": args.model, "text": TEXT, "layer": 1, "head": 1, "token": 20})
        page.goto(f"{address}/?{query}")
        page.locator(".st-key-finding p").wait_for(timeout=120_000)
        page.locator(".st-key-overview canvas.picture").wait_for()
        print(f"server start to the first finding: {time.perf_counter() - began:.1f} s")
        page.wait_for_timeout(1500)
        tokens = page.locator(".st-key-chips [role=option]").count()
        measure(page, ["ArrowRight", "ArrowLeft"], 4)  # warm
        count = 4 if args.toy else 40
        found = {"head": measure(page, ["ArrowRight", "ArrowLeft"], count)} | other_controls(page, count // 2)
        for control, taken in found.items():
            print(in_words(control, taken, f"{tokens} tokens, {args.model}"))


if __name__ == "__main__":
    main()
