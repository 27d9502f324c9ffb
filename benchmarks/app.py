"""The app, started, and headless Chromium to use it with."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import QUIET, chromium_path

ROOT = Path(__file__).parents[1]


@contextmanager
def started() -> Iterator[tuple[str, Page]]:
    """The app's address and an empty page, 1280 × 900."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless", "true"]
    server = subprocess.Popen([*command, "--server.port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=2)
                break
            except OSError:
                time.sleep(0.1)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=QUIET)
            yield f"http://localhost:{port}", browser.new_page(viewport={"width": 1280, "height": 900})
            browser.close()
    finally:
        server.terminate()
        server.wait()


def in_words(name: str, taken: list[float], note: str) -> str:
    times = sorted(taken)
    middle = (times[(len(times) - 1) // 2] + times[len(times) // 2]) / 2
    ninth = times[int(0.9 * len(times))]
    return f"{name}: median {middle:.0f} ms, p90 {ninth:.0f} ms, largest {times[-1]:.0f} ms of {len(times)} ({note})"
