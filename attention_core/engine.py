"""Who runs the models: worker lanes on this machine, behind one protocol.

A page asks for a Capture and gets a Job at once; the work happens in a lane's own thread (one for short and one for
long texts, one for runs of generation, one that loads models), so that a hundred sessions never run a hundred forward
passes at the same time. What is made part by part takes turns: each job makes one part and queues again. Equal requests
are computed once; what is finished is kept, bounded by bytes. A job that nobody waits for stops. Knows nothing about
pages.
"""

import hashlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .attribution import Explanation
from .credibility import Curves
from .direct import Direct
from .errors import HeadlightError, Stopped
from .generation import branch, decode
from .heads import control_scores, distance_curves, head_scores
from .inside import Insides
from .jobs import (
    RECORDING,
    About,
    Apart,
    Asked,
    Explaining,
    Hunt,
    Inside,
    Job,
    Ordered,
    Relevance,
    Request,
    Store,
    Trial,
    Writing,
)
from .keeping import Policy
from .lab import LabRun, lab
from .language import LanguageModel
from .lens import Lens
from .models import load_model
from .needle import Hunted
from .record import Capture
from .relevances import Relevances, stage_of
from .run import Run
from .run_file import open_run
from .scorer import Aim
from .shelf import Shelf
from .worksheet import Worksheet

log = logging.getLogger(__name__)


class LocalEngine:
    """An Engine in this process. store_bytes: for finished captures, as many for opened recordings, and half as many
    for runs; long_tokens: from here on a text is long; models_kept: loaded models, the least recently used dropped
    first."""

    def __init__(
        self,
        store_bytes: int = 1 << 30,
        inside_bytes: int = 1 << 28,
        long_tokens: int = 256,
        models_kept: int = 4,
        load: Callable[..., LanguageModel] = load_model,
        measure: Callable[[LanguageModel], list[dict[str, np.ndarray]]] = control_scores,
    ):
        self.store: Store[Capture] = Store(store_bytes)
        self.recordings: Store[Capture] = Store(store_bytes)
        self.runs: Store[Run] = Store(store_bytes // 2)
        self.opened_runs: Store[Run] = Store(store_bytes // 2)
        self.trials: Store[LabRun] = Store(store_bytes // 4)
        self.insides = Insides(inside_bytes)
        self.relevances = Relevances(inside_bytes // 4)
        self.long_tokens = long_tokens
        self._lock = threading.Lock()
        self._jobs: dict[Asked, Job[Any]] = {}
        self._coming: dict[int, Iterator[Any]] = {}  # by id of the job, the parts still to be made
        self._derived: weakref.WeakKeyDictionary[Capture, dict[Any, Any]] = weakref.WeakKeyDictionary()
        self._shelf = Shelf(models_kept, load, measure, self._forget_model)
        self._lanes = {  # the number of threads is set in each lane's own thread: two on a busy machine are far slower
            name: ThreadPoolExecutor(1, f"headlight-{name}", torch.set_num_threads, (1,))
            for name in ("short", "long", "write", "explain")
        }

    # ── what can be asked ───────────────────────────────────────────────────────────────────────────────────────────

    def request(self, request: Request) -> Job[Capture]:
        recorded = request.model.startswith(RECORDING)

        def ready() -> Capture | None:
            found = (self.recordings if recorded else self.store).get(request)
            if found is None and recorded:
                raise HeadlightError("This recording is not open on this server: open its file again.")
            return found

        return self._ask(request, ready)

    def worksheet(self, of: Request, capture: Capture, entry: int, head: int, token: int) -> Job[Worksheet]:
        asked = Inside(of, "worksheet", entry, head, token)
        return self._ask(asked, lambda: self.insides.known_sheet(asked, capture), capture)

    def lens(self, of: Request, capture: Capture, entry: int, token: int) -> Job[Lens]:
        asked = Inside(of, "lens", entry, 0, token)
        return self._ask(asked, lambda: self.insides.known_lens(asked, capture), capture)

    def write(self, writing: Writing) -> Job[Run]:
        return self._ask(writing, lambda: self.runs.get(writing))

    def stop_writing(self, job: Job[Run]) -> Writing | None:
        steps, asked = list(job.parts), job.asked
        if not steps:
            return None
        assert isinstance(asked, Writing)
        kept = replace(asked, new=len(steps))
        if not steps[-1].ends:
            steps[-1] = replace(steps[-1], ends=f"It was stopped after {len(steps):,} of {asked.new:,} tokens.")
        with self._lock:
            self.runs.put(kept, Run.of(steps))
        return kept

    def trial(self, of: Writing, run: Run, policy: Policy) -> Job[LabRun]:
        asked = Trial(of, policy)
        return self._ask(asked, lambda: self.trials.get(asked), run)

    def aim(self, about: About) -> Job[Aim]:
        return self._ask(about, lambda: self.relevances.known(about))

    def relevance(self, asked: Relevance, capture: Capture) -> Job[Explanation]:
        return self._ask(asked, lambda: self.relevances.known(asked), capture)

    def ordered(self, asked: Ordered, explanation: Explanation | None) -> Job[Curves]:
        return self._ask(asked, lambda: self.relevances.known(asked), explanation)

    def apart(self, asked: Apart, capture: Capture) -> Job[Direct]:
        return self._ask(asked, lambda: self.relevances.known(asked), capture)

    def hunt(self, asked: Hunt) -> Job[Hunted]:
        return self._ask(asked, lambda: self.relevances.known(asked))

    def leave(self, job: Job) -> None:
        with self._lock:
            job.watchers -= 1
            job.left_at = time.monotonic()
            if job.abandoned and not job.finished:
                self._forget(job)  # whoever asks again starts anew

    def open_recording(self, file: bytes) -> Request:
        capture = Capture.from_bytes(file)
        request = Request(RECORDING + _name_of(file), "")
        with self._lock:
            self.recordings.put(request, capture)
        return request

    def keep_run(self, file: bytes) -> str:
        run, name = open_run(file), _name_of(file)
        with self._lock:
            self.opened_runs.put(name, run)
        return name

    def opened_run(self, name: str) -> Run:
        with self._lock:
            run = self.opened_runs.get(name)
        if run is None:
            raise HeadlightError("This run is not open on this server: open its file again.")
        return run

    def control(self, request: Request) -> list[dict[str, np.ndarray]] | None:
        loaded = self._shelf.peek((request.model, request.dtype))
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

    # ── how it is done ──────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(
        self, asked: Asked, ready: Callable[[], Any], given: Capture | Run | Explanation | None = None
    ) -> Job[Any]:
        """The job of what is asked: one that others wait for already, a finished one, or a new one."""
        with self._lock:
            job = self._jobs.get(asked)
            if job is not None:
                job.watchers += 1
                return job
            job = Job(asked, given)
            try:
                found = ready()
                if found is not None:
                    job.finish(found)
            except HeadlightError as error:
                job.finish(error=error)
            if job.finished:
                return job
            self._jobs[asked] = job
            job.watchers = 1  # before a lane can see it
            self._shelf.bring(job, self._has_model)
            return job

    def _has_model(self, job: Job, problem: HeadlightError | None) -> None:
        if problem is not None:
            self._end(job, error=problem)
        else:
            self._lanes["short"].submit(self._enter_lane, job)

    def _enter_lane(self, job: Job) -> None:
        """Count the tokens and run a short text here, or send it to its lane."""
        if self._stopped(job):
            return
        asked, given, model = job.request, job.given, job.model
        assert model is not None
        try:
            if isinstance(given, Capture) and isinstance(job.asked, Inside):
                count = max(given.layers[job.asked.entry].shape[1:])
            else:
                count = model.language.encode(asked.text, asked.second).inputs["input_ids"].shape[1]
        except HeadlightError as error:
            self._end(job, error=error)
            return
        except Exception as problem:  # a foreign tokenizer's too: a job that never ends would be waited for for ever
            self._failed(job, problem)
            return
        if count >= self.long_tokens:
            job.stage = "Waiting for a longer text to be read"
        if isinstance(job.asked, Explaining):
            self._take_turn(job, "explain")
        elif isinstance(job.asked, Writing | Trial):
            self._take_turn(job, "long" if count >= self.long_tokens else "write")
        elif count >= self.long_tokens:
            self._lanes["long"].submit(self._run, job)
        else:
            self._run(job)

    def _run(self, job: Job) -> None:
        if self._stopped(job):
            return
        asked, loaded = job.asked, job.model
        assert loaded is not None
        model = loaded.language
        job.stage, job.total = "Reading the text", model.check.calls

        def on_layer(done: int) -> None:
            job.done = done
            if job.abandoned:
                raise Stopped("Stopped.")

        try:
            if isinstance(asked, Request):
                result: Any = model.capture(asked.text, target=asked.target, second=asked.second, on_layer=on_layer)
            else:
                assert isinstance(asked, Inside) and isinstance(job.given, Capture)
                result = self.insides.look(asked, job.given, model, on_layer)
        except HeadlightError as error:
            self._end(job, error=error)
        except Exception as problem:  # whatever a foreign model raises becomes a sentence on the page
            self._failed(job, problem)
        else:
            self._end(job, result)

    def _take_turn(self, job: Job, lane: str) -> None:
        self._lanes[lane].submit(self._make_part, job, lane)

    def _make_part(self, job: Job, lane: str) -> None:
        """One part of what is made part by part; the next one when it is this job's turn again."""
        if self._stopped(job):
            return
        try:
            if id(job) not in self._coming:
                self._coming[id(job)] = self._parts(job)
            part = next(self._coming[id(job)], None)
            if part is None:
                self._end(job, self._whole(job))
                return
        except HeadlightError as error:
            self._end(job, error=error)
        except Exception as problem:  # whatever a foreign model raises becomes a sentence on the page
            self._failed(job, problem)
        else:
            job.add(part)
            if isinstance(job.asked, Writing | Trial):
                job.done = len(job.parts)
            self._take_turn(job, lane)

    def _parts(self, job: Job) -> Iterator[Any]:
        asked, loaded = job.asked, job.model
        assert loaded is not None

        def on_layer(done: int) -> None:
            if job.abandoned:
                raise Stopped("Stopped.")

        def on_pass(done: int, total: int) -> None:
            job.done, job.total = done, total
            on_layer(done)

        if isinstance(asked, Explaining):
            job.stage = stage_of(asked)
            return self.relevances.parts(job, loaded.language, on_pass)
        if isinstance(asked, Trial):
            assert isinstance(job.given, Run)
            job.stage, job.total = "Writing with a smaller cache", len(job.given.steps)
            return lab(loaded.language, job.given, asked.policy, on_layer=on_layer)
        assert isinstance(asked, Writing)
        job.stage, job.total = "Writing", asked.new
        if asked.forced:
            with self._lock:
                before = self.runs.get(replace(asked, forced=asked.forced[:-1]))
            step, token = asked.forced[-1]
            if before is not None and step < len(before.steps):
                return branch(loaded.language, before, step, token, uncached=asked.uncached, on_layer=on_layer)
        return decode(
            loaded.language,
            asked.of.text,
            asked.new,
            sampling=asked.sampling,
            uncached=asked.uncached,
            target=asked.of.target,
            forced=dict(asked.forced),
            on_layer=on_layer,
        )

    @staticmethod
    def _whole(job: Job) -> Any:
        if isinstance(job.asked, Explaining):
            return job.parts[-1]
        if not isinstance(job.asked, Trial):
            return Run.of(job.parts)
        assert job.model is not None
        return LabRun.of(job.model.language, job.asked.policy, job.parts)

    def _forget_model(self, model: tuple[str, str]) -> None:
        self.insides.forget(model)
        self.relevances.forget(model)

    def _failed(self, job: Job, problem: Exception) -> None:
        log.error("%s with %s", type(job.asked).__name__, job.request.model, exc_info=problem)
        self._end(job, error=HeadlightError(f"{job.request.model} could not read this text: {str(problem)[:300]}"))

    def _stopped(self, job: Job) -> bool:
        with self._lock:
            if not job.abandoned:
                return False
            self._forget(job)  # before anybody else can join it
        self._end(job, error=Stopped("Stopped."))
        return True

    def _forget(self, job: Job) -> None:
        if self._jobs.get(job.asked) is job:
            del self._jobs[job.asked]

    def _end(self, job: Job[Any], result: Any = None, error: HeadlightError | None = None) -> None:
        self._coming.pop(id(job), None)
        with self._lock:
            if isinstance(result, Capture):
                self.store.put(job.request, result)
            elif isinstance(result, Run):
                self.runs.put(job.asked, result)
            elif isinstance(result, LabRun):
                self.trials.put(job.asked, result)
            elif isinstance(job.asked, Explaining) and result is not None:
                self.relevances.keep(job.asked, result)
            self._forget(job)
        job.finish(result, error)


def _name_of(file: bytes) -> str:
    return hashlib.sha256(file).hexdigest()[:16]
