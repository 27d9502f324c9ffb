"""All stations together, each loaded once, and what they made of the words that were asked for last."""

import threading
from collections import OrderedDict

from .saying import Saying, say
from .sounds import spelled
from .stations import STATIONS, load_station

KEPT = 64  # words; a word takes about a megabyte


class Road:
    """One for all readers: words are said one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models = {name: load_station(name) for name in STATIONS}
        self._said: OrderedDict[str, dict[str, Saying]] = OrderedDict()

    def say(self, word: str) -> dict[str, Saying]:
        """Every station's Saying by its name, in the order of the road; raises HeadlightError for what is no word."""
        word = spelled(word)
        with self._lock:
            if word not in self._said:
                self._said[word] = {name: say(model, word, name) for name, model in self._models.items()}
                while len(self._said) > KEPT:
                    self._said.popitem(last=False)
            self._said.move_to_end(word)
            return self._said[word]
