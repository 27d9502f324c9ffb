"""The player by itself, which scrubs through the steps of a run: in a bare page whose clock the test turns."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page

from .growth_parts import growth_page, mounting, names


@pytest.fixture
def sheet(browser) -> Iterator[Page]:
    with growth_page(browser) as page:
        yield page


@pytest.fixture
def show(sheet: Page, monkeypatch) -> Callable[..., Locator]:
    return mounting(sheet, monkeypatch)


@pytest.fixture
def play(sheet: Page, show) -> Callable[..., Locator]:
    """The player in a page whose clock stands still; `answer` is what the page says to the last question."""
    sheet.clock.install(time=1_000_000_000)
    sheet.clock.pause_at(1_000_001_000)

    def run(count: int = 12, at: int = 0, answer: bool = False, **options) -> Locator:
        asked = sheet.evaluate("window.chosen?.at(-1)") if answer else None
        at, answered = (asked["step"], asked["sent"]) if asked else (at, 0)
        return show("player", count, at, names=names(count), answered=answered, **options)

    return run


def shown(section: Locator) -> int:
    return int(section.locator(".player").get_attribute("data-step"))


def asked(sheet: Page) -> list[int]:
    return [one["step"] for one in sheet.evaluate("window.chosen")]


def test_the_player_moves_by_button_slider_and_page_arrows(sheet: Page, play):
    section = play(at=5)
    slider = section.get_by_role("slider", name="Decode step")
    assert slider.get_attribute("aria-valuetext") == "step 5: read “t5”, chose “t6”"
    assert " ".join(section.locator(".status").inner_text().split()) == "Step 5 of 11 read “t5”, chose “t6”"
    section.get_by_role("button", name="Next").click()
    play(answer=True)
    section.get_by_role("button", name="Back").click()
    play(answer=True)
    sheet.evaluate("document.activeElement.blur()")
    sheet.keyboard.press("ArrowRight")
    play(answer=True)
    sheet.keyboard.press("ArrowLeft")
    play(answer=True)
    sheet.keyboard.press("Shift+ArrowLeft")
    assert asked(sheet) == [6, 5, 6, 5]
    slider.focus()
    for key, step in (("End", 11), ("Home", 0), ("ArrowRight", 1)):
        sheet.keyboard.press(key)
        assert shown(section) == step and slider.input_value() == str(step)
        play(answer=True)
    assert asked(sheet)[4:] == [11, 0, 1]
    play(at=0)
    assert section.get_by_role("button", name="Back").is_disabled()
    section = play(count=1)
    assert slider.is_disabled() and section.get_by_role("button", name="Play").is_disabled()


def test_fast_presses_are_not_lost_and_ask_for_one_step_at_a_time(sheet: Page, play):
    section = play()
    for step in range(1, 5):
        sheet.keyboard.press("ArrowRight")
        assert shown(section) == step  # at once
    assert asked(sheet) == [1]
    play(at=0)  # a run that answers something else
    assert shown(section) == 4 and asked(sheet) == [1]
    play(answer=True)
    assert shown(section) == 4 and asked(sheet) == [1, 4]
    sheet.keyboard.press("ArrowRight")
    sheet.keyboard.press("ArrowLeft")
    play(answer=True)
    assert shown(section) == 4 and asked(sheet) == [1, 4]
    play(at=2)  # the page has moved by itself
    assert shown(section) == 2
    sheet.keyboard.press("ArrowRight")  # and an answer that never comes is not waited for
    sheet.keyboard.press("ArrowRight")
    sheet.clock.run_for(6000)
    assert asked(sheet) == [1, 4, 3, 4] and shown(section) == 4


def test_play_goes_on_to_the_end_when_the_page_has_answered(sheet: Page, play):
    section = play(count=4, at=2)
    button = section.locator(".play")
    button.click()
    sheet.clock.run_for(10)
    assert asked(sheet) == [3] and shown(section) == 3 and button.inner_text() == "Pause"
    play(count=4, answer=True)
    sheet.clock.run_for(2000)
    assert button.inner_text() == "Play" and asked(sheet) == [3]
    button.click()  # from the last step to the first
    assert asked(sheet) == [3, 0] and button.inner_text() == "Pause"
    sheet.clock.run_for(3000)  # a slow page
    assert asked(sheet) == [3, 0]
    play(count=4, answer=True)
    sheet.clock.run_for(300)
    assert asked(sheet) == [3, 0]
    sheet.clock.run_for(100)
    assert asked(sheet) == [3, 0, 1]
    play(count=4, answer=True)
    sheet.clock.run_for(800)
    assert asked(sheet) == [3, 0, 1]
    sheet.clock.run_for(110)
    assert asked(sheet) == [3, 0, 1, 2]
    play(count=4, answer=True)
    button.click()
    sheet.clock.run_for(3000)
    assert asked(sheet) == [3, 0, 1, 2] and button.inner_text() == "Play"
    button.click()
    section.get_by_role("button", name="Back").click()  # a move by hand ends it
    assert button.inner_text() == "Play" and shown(section) == 1


def test_play_waits_for_steps_that_are_still_written(sheet: Page, play):
    hint = "the model is still writing"
    section = play(count=2, at=1, writing=True, playing_hint=hint)
    slider = section.get_by_role("slider")
    section.locator(".play").click()
    sheet.clock.run_for(3000)
    assert asked(sheet) == [] and section.locator(".play").inner_text() == "Pause"
    assert section.locator(".hint").inner_text() == hint
    play(count=3, at=1, writing=True)
    assert slider.get_attribute("max") == "2"
    sheet.clock.run_for(950)
    assert asked(sheet) == [2]
    play(count=3, answer=True, writing=True)
    sheet.clock.run_for(2000)
    assert section.locator(".play").inner_text() == "Pause"
    play(count=3, at=2, writing=False)  # there was no other
    assert section.locator(".play").inner_text() == "Play" and section.locator(".hint").inner_text() == ""
