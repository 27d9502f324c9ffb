"""Looking inside layers: rows of heads followed step by step, the layers that were opened for it kept by bytes.

Knows nothing about who waits for it.
"""

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from .errors import HeadlightError
from .filling import RECORDED, fill_worksheet
from .jobs import RECORDING, Inside, Request, Store
from .language import LanguageModel
from .lens import Lens, logit_lens
from .record import Capture
from .tracing import Trace, trace
from .worksheet import Worksheet


@dataclass(frozen=True, eq=False)
class Opened:
    """A layer that was looked into, and the rows that were filled in since."""

    capture: Capture
    seen: Trace | None
    worksheets: dict[tuple[int, int], Worksheet] = field(default_factory=dict)  # by head and token

    @property
    def nbytes(self) -> int:
        return self.seen.nbytes if self.seen is not None else 0


class Insides:
    """limit: bytes of all opened layers."""

    def __init__(self, limit: int):
        self.opened: Store[Opened] = Store(limit)
        self._lenses: weakref.WeakKeyDictionary[Capture, dict[tuple[str, int], Lens]] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def known_sheet(self, asked: Inside, capture: Capture) -> Worksheet | None:
        if asked.of.model.startswith(RECORDING):
            return fill_worksheet(capture, asked.entry, asked.head, asked.token)
        with self._lock:
            opened = self.opened.get((asked.of, asked.entry))
        if opened is None or opened.capture is not capture:
            return None
        return opened.worksheets.get((asked.head, asked.token))

    def known_lens(self, asked: Inside, capture: Capture) -> Lens | None:
        if asked.of.model.startswith(RECORDING):
            raise HeadlightError(RECORDED)
        return self._lenses.setdefault(capture, {}).get((capture.layers[asked.entry].kind, asked.token))

    def look(
        self, asked: Inside, capture: Capture, language: LanguageModel, on_layer: Callable[[int], None]
    ) -> Worksheet | Lens:
        layer = capture.layers[asked.entry]
        if asked.what == "lens":
            lens = logit_lens(language.model, capture.inputs, layer.module, asked.token)
            lens = replace(lens, tokens=tuple(language.labels(lens.ids) or map(str, lens.ids.flatten().tolist())))
            self._lenses.setdefault(capture, {})[layer.kind, asked.token] = lens
            return lens
        with self._lock:
            opened = self.opened.get((asked.of, asked.entry))
        if opened is None or opened.capture is not capture:
            seen = None
            if layer.has_vectors:
                seen = trace(language.model, capture.inputs, asked.entry, layer.module, on_layer)
            opened = Opened(capture, seen)
            with self._lock:
                self.opened.put((asked.of, asked.entry), opened)
        sheet = fill_worksheet(capture, asked.entry, asked.head, asked.token, language.model, opened.seen)
        _ = sheet.proof  # here, in the lane, rather than while somebody's page waits
        opened.worksheets[asked.head, asked.token] = sheet
        return sheet

    def forget(self, model: tuple[str, str]) -> None:
        """Drop the layers of a model, by its name and dtype: they hold its weights."""

        def of_model(key: tuple[Request, int]) -> bool:
            return (key[0].model, key[0].dtype) == model

        with self._lock:
            self.opened.drop(of_model)
