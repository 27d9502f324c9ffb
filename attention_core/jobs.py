"""What can be asked of whoever runs the models, and what is waited for: Request, Job, Engine; and where finished
Captures are kept. Knows nothing about how the work is done.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from .errors import HeadlightError
from .language import LanguageModel
from .record import Capture

RECORDING = "recording:"  # the model of a capture that was opened from a file


@dataclass(frozen=True)
class Request:
    """What is to be read, and by which model."""

    model: str  # a catalogue name, a folder, a .gguf file, a Hub id, or a recording
    text: str
    dtype: str = "float32"
    target: str = ""  # of an encoder-decoder; "": its own greedy output
    second: str = ""  # the second text of a pair


class Job:
    """One capture in the making. Whoever asked for it waits, reads the progress, takes the result or leaves."""

    def __init__(self, request: Request):
        self.request = request
        self.model: Loaded | None = None
        self.stage = "Waiting for the model"
        self.done, self.total = 0, 0  # attention layers
        self.watchers = 0
        self._finished = threading.Event()
        self._result: Capture | None = None
        self._error: HeadlightError | None = None

    @property
    def share(self) -> float:
        """How much of the forward pass is done, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def finished(self) -> bool:
        return self._finished.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it is finished, at the latest after so many seconds."""
        return self._finished.wait(seconds)

    def result(self) -> Capture:
        """The Capture, once there is one; raises the HeadlightError that ended the job."""
        self._finished.wait()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def finish(self, result: Capture | None = None, error: HeadlightError | None = None) -> None:
        self._result, self._error = result, error
        self._finished.set()


@dataclass(frozen=True)
class Loaded:
    """A model that is ready, and how its heads score on the control (None: they could not be measured)."""

    language: LanguageModel
    control: list[dict[str, np.ndarray]] | None


class Engine(Protocol):
    """What pages need of whoever runs the models."""

    def request(self, request: Request) -> Job:
        """Ask for a capture; the same request by others is the same job. Every request is ended by leave()."""
        ...

    def leave(self, job: Job) -> None:
        """Stop waiting. A job that nobody waits for any more stops at its next layer."""
        ...

    def open_recording(self, file: bytes) -> Request:
        """What to ask for to see a saved Capture."""
        ...

    def control(self, request: Request) -> list[dict[str, np.ndarray]] | None:
        """How the heads of its model score on random tokens that are repeated, if that is known."""
        ...

    def thumbnails(self, capture: Capture, size: int) -> list[Tensor]:
        """capture.thumbnails(size), computed once."""
        ...

    def scores(self, capture: Capture) -> list[dict[str, np.ndarray]]:
        """head_scores(capture), computed once."""
        ...

    def curves(self, capture: Capture) -> list[np.ndarray]:
        """distance_curves of every entry of capture.layers, computed once."""
        ...


class CaptureStore:
    """Finished Captures, the least recently used dropped first when they hold more than `limit` bytes."""

    def __init__(self, limit: int):
        self.limit, self.held = limit, 0
        self._captures: OrderedDict[Request, Capture] = OrderedDict()

    def get(self, key: Request) -> Capture | None:
        if key in self._captures:
            self._captures.move_to_end(key)
        return self._captures.get(key)

    def put(self, key: Request, capture: Capture) -> None:
        old = self._captures.pop(key, None)
        self.held += capture.nbytes - (old.nbytes if old else 0)
        self._captures[key] = capture
        while self.held > self.limit and len(self._captures) > 1:
            _, dropped = self._captures.popitem(last=False)
            self.held -= dropped.nbytes

    def __len__(self) -> int:
        return len(self._captures)
