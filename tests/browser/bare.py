"""A page with nothing but a component in it."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page


@contextmanager
def bare_page(browser: Browser, title: str, style: str = "", width: int = 1280, **options) -> Iterator[Page]:
    """The keys that the page hears stand in window.heard; an error in it is a failure."""
    page = browser.new_page(viewport={"width": width, "height": 900}, **options)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.set_content(
        f'<html lang="en"><title>{title}</title><style>{style}</style><main><h1>{title}</h1></main></html>'
    )
    page.evaluate("() => { window.heard = []; document.addEventListener('keydown', (e) => window.heard.push(e.key)); }")
    yield page
    page.close()
    assert not failures, failures
