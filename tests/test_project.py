"""What the README promises, and the checks of style."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_ci_runs_the_readme_command():
    commands = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2 and commands[0].endswith("streamlit run app.py")
    assert commands[1] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_requirements_are_pinned_exactly():
    for name in ("requirements.txt", "requirements-test.txt", "requirements-models.txt"):
        for line in (ROOT / name).read_text().splitlines():
            assert line.startswith("#") or "==" in line, f"{name}: {line}"


def test_style():
    run = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    run = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", "."], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout


def test_types():
    run = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
