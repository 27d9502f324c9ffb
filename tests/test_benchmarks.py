"""Each benchmark runs once at a toy size; no time is asserted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.conftest import chromium_path

ROOT = Path(__file__).parents[1]


def run(name: str) -> str:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--toy"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_capture():
    assert "| tokens |" in run("capture")


def test_decode():
    assert "generate()" in run("decode")


@pytest.mark.skipif(
    chromium_path() is None and os.environ.get("HEADLIGHT_BROWSER") != "required", reason="no browser is installed"
)
def test_interaction():
    assert "median" in run("interaction")
    assert "all steps: median" in run("steps")
    assert "scrubbing, all layers: median" in run("cache")
    assert "a new word: median" in run("road")
