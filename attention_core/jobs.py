"""What can be asked of whoever runs the models, and what is waited for: Request, Inside, Writing, Trial, About,
Relevance, Ordered, Apart, Hunt, Job, Engine; and where what is finished is kept. Knows nothing about how it is done.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from torch import Tensor

from .attribution import Explanation, Settings
from .credibility import Curves
from .direct import Direct
from .errors import HeadlightError
from .keeping import Policy
from .lab import LabRun
from .language import LanguageModel
from .lens import Lens
from .needle import Hunted
from .record import Capture
from .run import Run
from .sampling import GREEDY, Sampling
from .scorer import Aim
from .worksheet import Worksheet

RECORDING = "recording:"  # the model of a capture that was opened from a file


@dataclass(frozen=True)
class Request:
    """What is to be read, and by which model."""

    model: str  # a catalogue name, a folder, a .gguf file, a Hub id, or a recording
    text: str
    dtype: str = "float32"
    target: str = ""  # of an encoder-decoder; "": its own greedy output
    second: str = ""  # the second text of a pair


@dataclass(frozen=True)
class Inside:
    """A row of a head in a text that was read, to be followed from inside the model."""

    of: Request
    what: str  # "worksheet", or "lens": what would be written after each layer
    entry: int  # of capture.layers
    head: int
    token: int


@dataclass(frozen=True)
class Writing:
    """What is to be written behind a text, and how."""

    of: Request
    new: int = 12  # tokens
    sampling: Sampling = GREEDY
    uncached: bool | None = None  # whether each step is computed without a cache too; None: while they are few
    forced: tuple[tuple[int, int], ...] = ()  # (step, token) set by the user, in the order in which that was done


@dataclass(frozen=True)
class Trial:
    """A run once more, on a cache that keeps less."""

    of: Writing
    policy: Policy


@dataclass(frozen=True)
class About:
    """What is asked about a text: why this token, at this place."""

    of: Request
    token: int  # the row at which it is asked
    target: str = ""  # as it was typed; "": the model's own; of an encoder a second text
    contrast: str = ""
    score: str = "log_probability"


@dataclass(frozen=True)
class Relevance:
    """Which tokens mattered for that, by one method."""

    of: About
    method: str
    settings: Settings = Settings()


@dataclass(frozen=True)
class Ordered:
    """What becomes of the target when tokens go in a method's order; without a method in random ones."""

    of: Relevance | About
    baseline: str = "mean"


@dataclass(frozen=True)
class Apart:
    """Which head and which layer wrote the target."""

    of: About


@dataclass(frozen=True)
class Hunt:
    """Whether the model finds a needle, the text of the request, farther and farther back in plain sentences."""

    of: Request


Explaining = About | Relevance | Ordered | Apart | Hunt
Asked = Request | Inside | Writing | Trial | Explaining
PATIENT = Writing | Trial | Relevance | Ordered | Apart | Hunt  # a page that is drawn again comes back for these
Result = TypeVar("Result")


class Job(Generic[Result]):
    """Something in the making. Whoever asked for it waits, reads the progress, takes the result or leaves."""

    def __init__(self, asked: Asked, given: Capture | Run | Explanation | None = None):
        """given: what is looked into, or tried again."""
        self.asked, self.given = asked, given
        self.model: Loaded | None = None
        self.stage = "Waiting for the model"
        self.done, self.total = 0, 0  # attention layers, or parts
        self.parts: list[Any] = []  # of what is made part by part: the steps of a run, as they come
        self.watchers, self.left_at = 0, 0.0
        self._news = threading.Condition()
        self._finished = threading.Event()
        self._result: Result | None = None
        self._error: HeadlightError | None = None

    @property
    def request(self) -> Request:
        """The text and the model that it is all about."""
        asked = self.asked
        while not isinstance(asked, Request):
            asked = asked.of
        return asked

    @property
    def abandoned(self) -> bool:
        """Nobody waits any more. A page that is drawn again comes back: what is made in parts goes on for so long."""
        patience = 3.0 if isinstance(self.asked, PATIENT) else 0.0  # seconds
        return self.watchers <= 0 and time.monotonic() - self.left_at >= patience

    @property
    def share(self) -> float:
        """How much is done, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def finished(self) -> bool:
        return self._finished.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it is finished, at the latest after so many seconds."""
        return self._finished.wait(seconds)

    def add(self, part: Any) -> None:
        """One more of its parts is there."""
        with self._news:
            self.parts.append(part)
            self._news.notify_all()

    def wait_for_more(self, than: int, seconds: float) -> bool:
        """Whether it has more parts than that, or is finished, at the latest after so many seconds."""
        with self._news:
            return self._news.wait_for(lambda: len(self.parts) > than or self.finished, seconds)

    def result(self) -> Result:
        """What was asked for, once it is there; raises the HeadlightError that ended the job."""
        self._finished.wait()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def finish(self, result: Result | None = None, error: HeadlightError | None = None) -> None:
        self._result, self._error = result, error
        with self._news:
            self._finished.set()
            self._news.notify_all()


@dataclass(frozen=True)
class Loaded:
    """A model that is ready, and how its heads score on the control (None: they could not be measured)."""

    language: LanguageModel
    control: list[dict[str, np.ndarray]] | None


class Engine(Protocol):
    """What pages need of whoever runs the models."""

    def request(self, request: Request) -> Job[Capture]:
        """Ask for a capture; the same request by others is the same job. Every request is ended by leave()."""
        ...

    def worksheet(self, of: Request, capture: Capture, entry: int, head: int, token: int) -> Job[Worksheet]:
        """Ask for one row of a head, every number of it; ended by leave() too. A recording's is without its model."""
        ...

    def lens(self, of: Request, capture: Capture, entry: int, token: int) -> Job[Lens]:
        """Ask what would be written after each layer; ended by leave() too."""
        ...

    def write(self, writing: Writing) -> Job[Run]:
        """Ask for a run of generation, its steps one by one; ended by leave() too."""
        ...

    def stop_writing(self, job: Job[Run]) -> Writing | None:
        """Keep the steps that are there → what to ask for to see them; None: there is none yet."""
        ...

    def trial(self, of: Writing, run: Run, policy: Policy) -> Job[LabRun]:
        """Ask for the same run on a cache that keeps less; ended by leave() too."""
        ...

    def aim(self, about: About) -> Job[Aim]:
        """Ask what can be asked about: the target and what else may come next; ended by leave() too."""
        ...

    def relevance(self, asked: Relevance, capture: Capture) -> Job[Explanation]:
        """Ask which tokens mattered, by one method; of one that draws samples, part by part. Ended by leave() too."""
        ...

    def ordered(self, asked: Ordered, explanation: Explanation | None) -> Job[Curves]:
        """Ask what becomes of the target in that order; ended by leave() too."""
        ...

    def apart(self, asked: Apart, capture: Capture) -> Job[Direct]:
        """Ask which head and which layer wrote the target; ended by leave() too."""
        ...

    def hunt(self, asked: Hunt) -> Job[Hunted]:
        """Ask whether a needle is found, distance by distance; ended by leave() too."""
        ...

    def leave(self, job: Job) -> None:
        """Stop waiting. A job that nobody waits for any more stops at its next layer, a run after a few seconds."""
        ...

    def keep_run(self, file: bytes) -> str:
        """Open a saved run → the name under which opened_run() finds it."""
        ...

    def opened_run(self, name: str) -> Run:
        """A run that keep_run() opened; raises HeadlightError where this server has no such."""
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


class Held(Protocol):
    @property
    def nbytes(self) -> int: ...


Value = TypeVar("Value", bound=Held)


class Store(Generic[Value]):
    """What is finished, the least recently used dropped first when all together holds more than `limit` bytes."""

    def __init__(self, limit: int):
        self.limit, self.held = limit, 0
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable) -> Value | None:
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: Hashable, value: Value) -> None:
        self.drop(lambda other: other == key)
        self.held += value.nbytes
        self._values[key] = value
        while self.held > self.limit and len(self._values) > 1:
            _, dropped = self._values.popitem(last=False)
            self.held -= dropped.nbytes

    def drop(self, which: Callable[[Any], bool]) -> None:
        """Forget what has such a key."""
        for key in [key for key in self._values if which(key)]:
            self.held -= self._values.pop(key).nbytes

    def __len__(self) -> int:
        return len(self._values)
