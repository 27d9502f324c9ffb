"""A model that is held at its next forward pass, and what waits for an engine's jobs."""

import threading
import time


class Slow:
    """The small model, held at a forward pass when the gate is closed; it counts the passes."""

    def __init__(self, model):
        self.gate, self.passes, self.order = threading.Event(), 0, []
        self.gate.set()
        self.model = model

    def __call__(self, name, say, dtype):
        model = self.model.model
        self.hook = model.register_forward_pre_hook(self._enter, with_kwargs=True)
        return self.model

    def _enter(self, module, args, kwargs):
        self.passes += 1
        ids = kwargs.get("input_ids")
        self.order.append(None if ids is None else ids.shape[1])
        assert self.gate.wait(20)


def finished(engine, job):
    try:
        assert job.wait(30)
        return job.result()
    finally:
        engine.leave(job)


def until(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()
