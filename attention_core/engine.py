"""Who runs the models: worker lanes on this machine, behind one protocol.

A page asks for a Capture and gets a Job at once; the work happens in a lane's own thread (one for short and one for
long texts, one that loads models), so that a hundred sessions never run a hundred forward passes at the same time.
Equal requests are computed once; finished Captures are kept, bounded by bytes. A job that nobody waits for stops.
Knows nothing about pages.
"""

import gc
import hashlib
import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import HeadlightError, Stopped
from .heads import control_scores, distance_curves, head_scores
from .jobs import RECORDING, CaptureStore, Job, Loaded, Request
from .language import LanguageModel
from .models import load_model
from .record import Capture

log = logging.getLogger(__name__)


class LocalEngine:
    """An Engine in this process. store_bytes: for finished captures, and as many for opened recordings; long_tokens:
    from here on a text is long; models_kept: loaded models, the least recently used dropped first."""

    def __init__(
        self,
        store_bytes: int = 1 << 30,
        long_tokens: int = 256,
        models_kept: int = 4,
        load: Callable[..., LanguageModel] = load_model,
        measure: Callable[[LanguageModel], list[dict[str, np.ndarray]]] = control_scores,
    ):
        self.store, self.recordings = CaptureStore(store_bytes), CaptureStore(store_bytes)
        self.long_tokens, self.models_kept, self._load, self._measure = long_tokens, models_kept, load, measure
        self._lock = threading.Lock()
        self._jobs: dict[Request, Job] = {}
        self._models: OrderedDict[tuple[str, str], Loaded] = OrderedDict()  # by name and dtype
        self._waiting: dict[tuple[str, str], list[Job]] = {}  # jobs whose model is being loaded
        self._derived: weakref.WeakKeyDictionary[Capture, dict[Any, Any]] = weakref.WeakKeyDictionary()
        self._lanes = {  # the number of threads is set in each lane's own thread: two on a busy machine are far slower
            name: ThreadPoolExecutor(1, f"headlight-{name}", torch.set_num_threads, (1,))
            for name in ("load", "short", "long")
        }

    def request(self, request: Request) -> Job:
        with self._lock:
            job = self._jobs.get(request)
            if job is not None:
                job.watchers += 1
                return job
            job = Job(request)
            recorded = request.model.startswith(RECORDING)
            ready = (self.recordings if recorded else self.store).get(request)
            if ready is not None:
                job.finish(ready)
            elif recorded:
                job.finish(error=HeadlightError("This recording is not open on this server: open its file again."))
            if job.finished:
                return job
            self._jobs[request] = job
            job.watchers = 1  # before a lane can see it
            wanted = (request.model, request.dtype)
            if wanted in self._models:
                self._models.move_to_end(wanted)
                job.model = self._models[wanted]
                self._lanes["short"].submit(self._enter_lane, job)
            elif wanted in self._waiting:
                self._waiting[wanted].append(job)
            else:
                self._waiting[wanted] = [job]
                self._lanes["load"].submit(self._load_model, wanted)
            return job

    def leave(self, job: Job) -> None:
        with self._lock:
            job.watchers -= 1
            if job.watchers <= 0 and not job.finished and self._jobs.get(job.request) is job:
                del self._jobs[job.request]  # whoever asks again starts anew

    def open_recording(self, file: bytes) -> Request:
        capture = Capture.from_bytes(file)
        request = Request(RECORDING + hashlib.sha256(file).hexdigest()[:16], "")
        with self._lock:
            self.recordings.put(request, capture)
        return request

    def control(self, request: Request) -> list[dict[str, np.ndarray]] | None:
        loaded = self._models.get((request.model, request.dtype))
        return loaded.control if loaded else None

    def thumbnails(self, capture: Capture, size: int) -> list[Tensor]:
        return self._once(capture, ("thumbnails", size), lambda: capture.thumbnails(size))

    def scores(self, capture: Capture) -> list[dict[str, np.ndarray]]:
        return self._once(capture, "scores", lambda: head_scores(capture))

    def curves(self, capture: Capture) -> list[np.ndarray]:
        return self._once(capture, "curves", lambda: [distance_curves(layer) for layer in capture.layers])

    def _once(self, capture: Capture, what: Any, compute: Callable[[], Any]) -> Any:
        known = self._derived.setdefault(capture, {})
        if what not in known:
            known[what] = compute()
        return known[what]

    def _load_model(self, wanted: tuple[str, str]) -> None:
        name, dtype = wanted

        def say(stage: str) -> None:
            with self._lock:
                for job in self._waiting[wanted]:
                    job.stage = stage

        loaded, error = None, None
        try:
            language = self._load(name, say, dtype=dtype)
            say("Measuring what kind of head each one is")
            loaded = Loaded(language, self._control(language))
        except HeadlightError as problem:
            error = problem
        except Exception as problem:  # whatever a foreign loader raises becomes a sentence on the page
            log.exception("loading %s", name)
            error = HeadlightError(f"{name} could not be loaded: {str(problem)[:300]}")
        with self._lock:
            waiting = self._waiting.pop(wanted)
            if loaded is not None:
                self._models[wanted] = loaded
            dropped = len(self._models) > self.models_kept
            while len(self._models) > self.models_kept:
                self._models.popitem(last=False)
        if dropped:
            gc.unfreeze()
        gc.collect()
        gc.freeze()  # a model's thousands of objects live long: no need to walk them at every collection
        for job in waiting:
            if error is not None:
                self._end(job, error=error)
            else:
                job.model = loaded
                self._lanes["short"].submit(self._enter_lane, job)

    def _control(self, language: LanguageModel) -> list[dict[str, np.ndarray]] | None:
        try:
            return self._measure(language)
        except Exception:  # the heads of a foreign model then have no names: no reason not to show them
            log.warning("the heads of %s could not be measured", language.name, exc_info=True)
            return None

    def _enter_lane(self, job: Job) -> None:
        """Count the tokens and run a short text here, or send a long one to its lane."""
        if self._stopped(job):
            return
        asked, model = job.request, job.model
        assert model is not None
        try:
            count = model.language.encode(asked.text, asked.second).inputs["input_ids"].shape[1]
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
        asked, loaded = job.request, job.model
        assert loaded is not None
        model = loaded.language
        job.stage, job.total = "Reading the text", model.check.calls

        def on_layer(done: int) -> None:
            job.done = done
            if job.watchers <= 0:
                raise Stopped("Stopped.")

        try:
            capture = model.capture(asked.text, target=asked.target, second=asked.second, on_layer=on_layer)
        except HeadlightError as error:
            self._end(job, error=error)
        except Exception as problem:  # whatever a foreign model raises becomes a sentence on the page
            self._failed(job, problem)
        else:
            self._end(job, capture)

    def _failed(self, job: Job, problem: Exception) -> None:
        log.error("capture with %s", job.request.model, exc_info=problem)
        self._end(job, error=HeadlightError(f"{job.request.model} could not read this text: {str(problem)[:300]}"))

    def _stopped(self, job: Job) -> bool:
        if job.watchers > 0:
            return False
        self._end(job, error=Stopped("Stopped."))
        return True

    def _end(self, job: Job, capture: Capture | None = None, error: HeadlightError | None = None) -> None:
        with self._lock:
            if capture is not None:
                self.store.put(job.request, capture)
            if self._jobs.get(job.request) is job:
                del self._jobs[job.request]
        job.finish(capture, error)
