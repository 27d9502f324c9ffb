"""Who runs the models: worker lanes on this machine, behind one protocol.

A page asks for a Capture and gets a Job at once; the work happens in a lane's own thread (one for short and one for
long texts, one that loads models), so that a hundred sessions never run a hundred forward passes at the same time.
Equal requests are computed once; finished Captures are kept, bounded by bytes. A job that nobody waits for stops.
Knows nothing about pages.
"""

import gc
import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from .errors import HeadlightError, Stopped
from .language import LanguageModel
from .models import load_model
from .record import Capture

log = logging.getLogger(__name__)


class Job:
    """One capture in the making. Whoever asked for it waits, reads the progress, takes the result or leaves."""

    def __init__(self, model: str, text: str):
        self.key = (model, text)
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


class Engine(Protocol):
    """What pages need of whoever runs the models."""

    def request(self, model: str, text: str) -> Job:
        """Ask for a capture; the same request by others is the same job. Every request is ended by leave()."""
        ...

    def leave(self, job: Job) -> None:
        """Stop waiting. A job that nobody waits for any more stops at its next layer."""
        ...

    def model(self, name: str) -> LanguageModel | None:
        """The model, if it is loaded."""
        ...

    def thumbnails(self, capture: Capture, size: int) -> list[Tensor]:
        """capture.thumbnails(size), computed once."""
        ...


class CaptureStore:
    """Finished Captures, the least recently used dropped first when they hold more than `limit` bytes."""

    def __init__(self, limit: int):
        self.limit, self.held = limit, 0
        self._captures: OrderedDict[tuple[str, str], Capture] = OrderedDict()

    def get(self, key: tuple[str, str]) -> Capture | None:
        if key in self._captures:
            self._captures.move_to_end(key)
        return self._captures.get(key)

    def put(self, key: tuple[str, str], capture: Capture) -> None:
        old = self._captures.pop(key, None)
        self.held += capture.nbytes - (old.nbytes if old else 0)
        self._captures[key] = capture
        while self.held > self.limit and len(self._captures) > 1:
            _, dropped = self._captures.popitem(last=False)
            self.held -= dropped.nbytes

    def __len__(self) -> int:
        return len(self._captures)


class LocalEngine:
    """An Engine in this process. store_bytes: for finished captures; long_tokens: from here on a text is long."""

    def __init__(
        self,
        store_bytes: int = 1 << 30,
        long_tokens: int = 256,
        load: Callable[[str, Callable[[str], None]], LanguageModel] = load_model,
    ):
        self.store, self.long_tokens, self._load = CaptureStore(store_bytes), long_tokens, load
        self._lock = threading.Lock()
        self._jobs: dict[tuple[str, str], Job] = {}
        self._models: dict[str, LanguageModel] = {}
        self._waiting: dict[str, list[Job]] = {}  # jobs whose model is being loaded
        self._thumbnails: weakref.WeakKeyDictionary[Capture, dict[int, list[Tensor]]] = weakref.WeakKeyDictionary()
        self._lanes = {  # the number of threads is set in each lane's own thread: two on a busy machine are far slower
            name: ThreadPoolExecutor(1, f"headlight-{name}", torch.set_num_threads, (1,))
            for name in ("load", "short", "long")
        }

    def request(self, model: str, text: str) -> Job:
        key = (model, text)
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                job = Job(model, text)
                ready = self.store.get(key)
                if ready is not None:
                    job.finish(ready)
                    return job
                self._jobs[key] = job
                job.watchers = 1  # before a lane can see it
                if model in self._models:
                    self._lanes["short"].submit(self._enter_lane, job)
                elif model in self._waiting:
                    self._waiting[model].append(job)
                else:
                    self._waiting[model] = [job]
                    self._lanes["load"].submit(self._load_model, model)
                return job
            job.watchers += 1
            return job

    def leave(self, job: Job) -> None:
        with self._lock:
            job.watchers -= 1
            if job.watchers <= 0 and not job.finished and self._jobs.get(job.key) is job:
                del self._jobs[job.key]  # whoever asks again starts anew

    def model(self, name: str) -> LanguageModel | None:
        return self._models.get(name)

    def thumbnails(self, capture: Capture, size: int) -> list[Tensor]:
        known = self._thumbnails.setdefault(capture, {})
        if size not in known:
            known[size] = capture.thumbnails(size)
        return known[size]

    def _load_model(self, name: str) -> None:
        def say(stage: str) -> None:
            with self._lock:
                for job in self._waiting[name]:
                    job.stage = stage

        model, error = None, None
        try:
            model = self._load(name, say)
        except HeadlightError as problem:
            error = problem
        except Exception as problem:  # whatever a foreign loader raises becomes a sentence on the page
            log.exception("loading %s", name)
            error = HeadlightError(f"{name} could not be loaded: {problem}")
        gc.collect()
        gc.freeze()  # a model's thousands of objects live long: no need to walk them at every collection
        with self._lock:
            waiting = self._waiting.pop(name)
            if model is not None:
                self._models[name] = model
        for job in waiting:
            if error is not None:
                self._end(job, error=error)
            else:
                self._lanes["short"].submit(self._enter_lane, job)

    def _enter_lane(self, job: Job) -> None:
        """Count the tokens and run a short text here, or send a long one to its lane."""
        if self._stopped(job):
            return
        try:
            count = self._models[job.key[0]].encode(job.key[1]).inputs["input_ids"].shape[1]
        except HeadlightError as error:
            self._end(job, error=error)
            return
        except Exception as problem:  # a foreign tokenizer's too: a job that never ends would be waited for for ever
            self._failed(job, problem)
            return
        if count >= self.long_tokens:
            job.stage = "Waiting for a longer text to be read"
            self._lanes["long"].submit(self._run, job)
        else:
            self._run(job)

    def _run(self, job: Job) -> None:
        if self._stopped(job):
            return
        model = self._models[job.key[0]]
        job.stage, job.total = "Reading the text", model.check.calls

        def on_layer(done: int) -> None:
            job.done = done
            if job.watchers <= 0:
                raise Stopped("Stopped.")

        try:
            capture = model.capture(job.key[1], on_layer=on_layer)
        except HeadlightError as error:
            self._end(job, error=error)
        except Exception as problem:  # whatever a foreign model raises becomes a sentence on the page
            self._failed(job, problem)
        else:
            self._end(job, capture)

    def _failed(self, job: Job, problem: Exception) -> None:
        log.error("capture with %s", job.key[0], exc_info=problem)
        self._end(job, error=HeadlightError(f"{job.key[0]} could not read this text: {problem}"))

    def _stopped(self, job: Job) -> bool:
        if job.watchers > 0:
            return False
        self._end(job, error=Stopped("Stopped."))
        return True

    def _end(self, job: Job, capture: Capture | None = None, error: HeadlightError | None = None) -> None:
        with self._lock:
            if capture is not None:
                self.store.put(job.key, capture)
            if self._jobs.get(job.key) is job:
                del self._jobs[job.key]
        job.finish(capture, error)
