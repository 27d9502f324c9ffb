"""From Enter in the word field to eight painted stations: python -m benchmarks.road [--toy]

Starts the app, opens "Road" in headless Chromium and types words that no station has said before. The clock starts at
the key press in the browser and stops in the first frame that shows the word's alignments and its sentence.
"""

import argparse

from playwright.sync_api import Page

from benchmarks.app import in_words, started

WORDS = ["snorvelic", "blenchworthy", "quaspering", "trimbledonian", "ostravigate", "fendelmark", "gribbleton"]
CLOCK = """async (word) => {
    const parts = () => [...(document.querySelector(".st-key-road_cards")?.querySelectorAll("*") ?? [])];
    const picture = () => parts().find(e => e.shadowRoot)?.shadowRoot.querySelector("[data-painted]");
    const said = () => document.querySelector(".st-key-said p")?.innerText;
    const before = said();
    const began = await new Promise(done => addEventListener("keydown", e => e.key === "Enter" && done(e.timeStamp),
                                                            {capture: true}));
    const next = () => new Promise(requestAnimationFrame);
    do await next(); while (said() === before || picture()?.dataset.word !== word);
    return performance.now() - began;
}"""


def typed(page: Page, word: str) -> float:
    """Milliseconds until the word is said."""
    page.get_by_label("Word", exact=True).fill(word)
    page.evaluate("word => { window.clock = (" + CLOCK + ")(word) }", word)
    page.keyboard.press("Enter")
    taken = page.evaluate("() => Promise.race([window.clock, new Promise((_, no) => setTimeout(no, 9000))])")
    page.wait_for_timeout(700)  # until the last answer has arrived, as a hand would
    assert page.locator(".st-key-road_cards .card .ipa").count() == 8
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="two words only")
    args = parser.parse_args()
    with started() as (address, page):
        page.goto(f"{address}/road")
        page.locator(".st-key-road_cards [data-painted]").wait_for(timeout=120_000)
        page.wait_for_timeout(1500)
        print(in_words("a new word", [typed(page, word) for word in WORDS[: 2 if args.toy else None]], "8 stations"))


if __name__ == "__main__":
    main()
