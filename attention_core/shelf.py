"""Loaded models: each is loaded once, in a lane of its own, and the least recently used is dropped first.

Knows nothing about what they are used for.
"""

import gc
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from .errors import HeadlightError
from .jobs import Job, Loaded
from .language import LanguageModel

log = logging.getLogger(__name__)

Wanted = tuple[str, str]  # a model's name and dtype


class Shelf:
    """kept: how many; on_drop: told of each that is dropped."""

    def __init__(
        self,
        kept: int,
        load: Callable[..., LanguageModel],
        measure: Callable[[LanguageModel], list[dict[str, np.ndarray]]],
        on_drop: Callable[[Wanted], None],
    ):
        self._kept, self._load, self._measure, self._on_drop = kept, load, measure, on_drop
        self._lock = threading.Lock()
        self._models: OrderedDict[Wanted, Loaded] = OrderedDict()
        self._waiting: dict[Wanted, list[Job]] = {}
        # the number of threads is set in the lane's own thread: two on a busy machine are far slower
        self._lane = ThreadPoolExecutor(1, "headlight-load", torch.set_num_threads, (1,))

    def peek(self, wanted: Wanted) -> Loaded | None:
        """A model that is there; nothing is loaded for it."""
        return self._models.get(wanted)

    def bring(self, job: Job, then: Callable[[Job, HeadlightError | None], None]) -> None:
        """Give the job its model, at once or when it is loaded; then(job, why it could not be loaded)."""
        wanted = (job.request.model, job.request.dtype)
        with self._lock:
            loaded = self._models.get(wanted)
            if loaded is None:
                self._waiting.setdefault(wanted, []).append(job)
                if len(self._waiting[wanted]) == 1:
                    self._lane.submit(self._load_for, wanted, then)
                return
            self._models.move_to_end(wanted)
        job.model = loaded
        then(job, None)

    def _load_for(self, wanted: Wanted, then: Callable[[Job, HeadlightError | None], None]) -> None:
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
        dropped = []
        with self._lock:
            waiting = self._waiting.pop(wanted)
            if loaded is not None:
                self._models[wanted] = loaded
            while len(self._models) > self._kept:
                dropped.append(self._models.popitem(last=False)[0])
        for other in dropped:
            self._on_drop(other)
        if dropped:
            gc.unfreeze()
        gc.collect()
        gc.freeze()  # a model's thousands of objects live long: no need to walk them at every collection
        for job in waiting:
            job.model = loaded
            then(job, error)

    def _control(self, language: LanguageModel) -> list[dict[str, np.ndarray]] | None:
        try:
            return self._measure(language)
        except Exception:  # the heads of a foreign model then have no names: no reason not to show them
            log.warning("the heads of %s could not be measured", language.name, exc_info=True)
            return None
