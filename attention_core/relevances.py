"""Which tokens mattered and where a needle is found, on request: what was found is kept by bytes, and so is what it was
asked about.

Knows nothing about who waits for it.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from .aim import aim_at
from .attribution import METHODS, Explanation, explaining
from .credibility import Curves, method_curves, random_curves
from .direct import Direct, direct
from .errors import HeadlightError
from .filling import RECORDED
from .jobs import RECORDING, About, Apart, Explaining, Hunt, Job, Ordered, Relevance, Request, Store
from .language import LanguageModel
from .needle import Hunted, hunting
from .record import Capture
from .scorer import Aim, Scorer

SCORERS_KEPT = 16

Found = Aim | Explanation | Curves | Direct | Hunted


class Relevances:
    """limit: bytes of everything that was found."""

    def __init__(self, limit: int):
        self.found: Store[Found] = Store(limit)
        self._scorers: OrderedDict[About, Scorer] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, asked: Explaining) -> Any:
        if _request(asked).model.startswith(RECORDING):
            raise HeadlightError(RECORDED)
        with self._lock:
            return self.found.get(asked)

    def keep(self, asked: Any, found: Found) -> None:
        with self._lock:
            self.found.put(asked, found)

    def parts(self, job: Job, language: LanguageModel, on_pass: Callable[[int, int], None]) -> Iterator[Found]:
        """What a job asks for, the last part being the whole."""
        asked, given = job.asked, job.given
        assert isinstance(asked, Explaining)
        if isinstance(asked, Hunt):
            yield from hunting(language, asked.of.text, on_pass)
            return
        scorer = self._scorer(_about(asked), language)
        match asked:
            case About():
                yield scorer.aim
            case Relevance():
                assert isinstance(given, Capture)
                yield from explaining(language, scorer, asked.method, asked.settings, given, on_pass)
            case Ordered() if isinstance(asked.of, Relevance):
                assert isinstance(given, Explanation)
                yield method_curves(scorer, given.scores, asked.baseline, on_pass)
            case Ordered():
                yield random_curves(scorer, asked.baseline, on_pass=on_pass)
            case Apart():
                assert isinstance(given, Capture)
                yield direct(scorer, given)

    def _scorer(self, about: About, language: LanguageModel) -> Scorer:
        with self._lock:
            if about in self._scorers:
                self._scorers.move_to_end(about)
                return self._scorers[about]
        scorer = aim_at(
            language,
            about.of.text,
            about.target or None,
            about.contrast or None,
            token=about.token,
            decoder=about.of.target,
            score=about.score,
        )
        with self._lock:
            self._scorers[about] = scorer
            while len(self._scorers) > SCORERS_KEPT:
                self._scorers.popitem(last=False)
        return scorer

    def forget(self, model: tuple[str, str]) -> None:
        """Drop what holds the weights of a model, by its name and dtype."""
        with self._lock:
            for about in [a for a in self._scorers if (a.of.model, a.of.dtype) == model]:
                del self._scorers[about]


def _about(asked: About | Relevance | Ordered | Apart) -> About:
    while not isinstance(asked, About):
        asked = asked.of
    return asked


def _request(asked: Explaining) -> Request:
    return asked.of if isinstance(asked, Hunt) else _about(asked).of


def stage_of(asked: Explaining) -> str:
    """What is being done, for whoever waits."""
    match asked:
        case Hunt():
            return "Looking for the needle"
        case Relevance():
            return METHODS[asked.method].title
        case Ordered() if isinstance(asked.of, Relevance):
            return f"Taking tokens away in the order of “{METHODS[asked.of.method].title}”"
        case Ordered():
            return "Taking tokens away in random orders"
        case Apart():
            return "Taking the score apart"
    return "Reading the text"
