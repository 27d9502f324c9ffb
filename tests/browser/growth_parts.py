"""What the component tests of the tab "Growth" share: its components, mounted in a bare page."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page

from pages.shared import growth_view as module

from .bare import bare_page
from .test_components import LIGHT, MOUNT, _plain

ASSETS = Path(__file__).parents[2] / "assets" / "components"
BEFORE = {"growth": ("blocks", "rows"), "player": ("stepping",), "stack": ()}
WRAPPERS = {"growth": module.growth_view, "player": module.player, "stack": module.stack_view}


@contextmanager
def growth_page(browser: Browser) -> Iterator[Page]:
    style = "h1 { height: 40px; margin: 0 }"  # pixels: a mouse event knows no others
    with bare_page(browser, "Growth", style, reduced_motion="reduce") as page:
        yield page


def mounting(sheet: Page, monkeypatch) -> Callable[..., Locator]:
    """(name, what its Python function takes …) → the mounted component."""

    def run(name: str, *args, theme: dict = LIGHT, answered: int | None = None, **options) -> Locator:
        caught: dict = {}
        monkeypatch.setattr(module, f"_{name}", lambda data, key, **callbacks: caught.update(data))
        WRAPPERS[name](*args, key="k", on_choose=lambda *chosen: None, **options)
        if answered is not None:
            caught["answered"] = answered
        if not sheet.locator(f"#{name}").count():
            html, css = ((ASSETS / f"{name}.{part}").read_text(encoding="utf-8") for part in ("html", "css"))
            css = (ASSETS / "common.css").read_text(encoding="utf-8") + css
            parts = [(ASSETS / f"{part}.js").read_text(encoding="utf-8") for part in ("common", *BEFORE[name], name)]
            mount = MOUNT.replace("setTriggerValue:", "setStateValue: (_, value) => window.chosen.push(value), $&", 1)
            mount = mount.replace("$&", "setTriggerValue:")
            sheet.evaluate(mount, {"name": name, "theme": theme, "html": html, "css": css, "js": "\n".join(parts)})
        sheet.evaluate(f"data => window.run_{name}(data)", {part: _plain(value) for part, value in caught.items()})
        return sheet.locator(f"#{name}")

    return run


def names(count: int) -> list[str]:
    return [f"read “t{i}”, chose “t{i + 1}”" for i in range(count)]
