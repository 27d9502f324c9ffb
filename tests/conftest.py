"""What all tests share: one thread, no network, the small model read once."""

import os
import socket
import sys
from pathlib import Path

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))
torch.set_num_threads(1)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for a folder of tests. For a file or a few, starting them would take longer than they save."""
    return 2 if any(Path(given).is_dir() for given in config.args) else 0


@pytest.fixture(scope="session")
def small():
    """The small Transformer that travels with the project."""
    from attention_core import load_model

    return load_model("small")


@pytest.fixture
def slow(small):
    """The small model, held at a forward pass when its gate is closed."""
    from tests.slow import Slow

    held = Slow(small)
    yield held
    held.gate.set()
    held.hook.remove()


@pytest.fixture
def engine(slow):
    """One that runs it."""
    from attention_core.engine import LocalEngine

    made = LocalEngine(measure=lambda model: None, load=slow)
    yield made
    slow.gate.set()
    for job in list(made._jobs.values()):  # what a test left behind must not disturb the next one
        job.watchers, job.left_at = 0, 0.0
        assert job.wait(20)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
