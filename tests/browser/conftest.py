"""A running app and a browser to use it with."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=20_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser on a busy machine may come late: a test that fails is tried once more, and the report tells of it."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.flaky(reruns=1))


def chromium_path() -> str | None:
    """The first of the usual names that is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = chromium_path()
    if found is None:
        reason = f"no browser: none of {', '.join(NAMES)} is installed"
        if os.environ.get("HEADLIGHT_BROWSER") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=QUIET)
        yield browser
        browser.close()


@contextmanager
def running(**environment: str) -> Iterator[str]:
    """The address of the app, started as the README says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://localhost:{port}"
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        "app.py",
        "--server.headless",
        "true",
        "--server.port",
        str(port),
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, **quiet)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=2)
                break
            except OSError:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        errors = process.communicate(timeout=90)[1]
    assert "Traceback" not in errors, errors


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with running() as address:
        yield address


@pytest.fixture(scope="module")
def open_server() -> Iterator[str]:
    """One that opens any model."""
    with running(HEADLIGHT_ANY_MODEL="1") as address:
        yield address


@pytest.fixture(scope="session")
def tab(browser: Browser) -> Iterator[Page]:
    """One for all tests of the app, which opens there three times faster than in a new one."""
    context = browser.new_context(accept_downloads=True)
    yield context.new_page()
    context.close()


@contextmanager
def visit(tab: Page, server: str) -> Iterator[Page]:
    """The tab as if it were new. No request may leave it but to its own server."""
    tab.set_viewport_size({"width": 1280, "height": 900})
    tab.emulate_media(color_scheme="light", reduced_motion="no-preference")
    tab.mouse.move(0, 0)
    asked: list[str] = []
    failures: list[str] = []
    listeners = {
        "request": lambda request: asked.append(request.url),
        "websocket": lambda socket: asked.append(socket.url),
        "pageerror": lambda error: failures.append(str(error)),
    }
    for event, listener in listeners.items():
        tab.on(event, listener)
    try:
        yield tab
    finally:
        tab.goto("about:blank")  # its session ends, and what it asked for has been heard of
        for event, listener in listeners.items():
            tab.remove_listener(event, listener)
    mine = (server.replace("http", "ws", 1), server, "data:", "blob:", "about:blank")
    elsewhere = [url for url in asked if not url.startswith(mine)]
    assert not elsewhere, elsewhere
    assert not failures, failures


@pytest.fixture
def page(tab: Page, server: str) -> Iterator[Page]:
    with visit(tab, server) as page:
        yield page


@pytest.fixture
def open_page(tab: Page, open_server: str) -> Iterator[Page]:
    """A page of the server that opens any model."""
    with visit(tab, open_server) as page:
        yield page
