"""The browser component with a card for each station of the road: what it says, and what it looks at for it.

The drawing is in assets/components/road.js; nothing here knows about the URL.
"""

from collections.abc import Callable, Mapping

import numpy as np

from attention_core.figures.road_cells import Cell, can_look, head_name
from attention_core.figures.road_words import NOTHING
from attention_core.seq2seq.saying import Alignment, Saying
from attention_core.seq2seq.sounds import IPA, ipa
from attention_core.seq2seq.stations import STATIONS

from .components import chosen_in, column_of_numbers, register

GAP = -1.0  # as in common.js: a letter outside of the window

_road = register("road")


def _card(saying: Saying, alignment: Alignment | None) -> dict:
    station = STATIONS[saying.station]
    heads = [head_name(one) for one in saying.alignments if one.head is not None]
    return {
        "station": station.name,
        "title": station.title,
        "year": station.year,
        "ipa": ipa(saying.said),
        "sounds": [[sound, IPA.get(sound, "")] for sound in saying.sounds],
        "rows": 0 if alignment is None else len(alignment.weights),
        "centres": None if alignment is None or alignment.centres is None else alignment.centres.tolist(),
        "bell": alignment is not None and alignment.before is not None,
        "empty": NOTHING,
        "head": "" if alignment is None else head_name(alignment),
        "heads": [[head, head] for head in heads],
    }


def road_view(
    sayings: Mapping[str, Saying],
    alignments: Mapping[str, Alignment | None],
    station: str,
    cell: Cell | None,
    key: str,
    on_choose: Callable[[str, int | None, int | None], None],
    on_head: Callable[[str], None],
) -> None:
    """Cards in the order of `sayings`, each with the alignment of the same name, or an empty place where it is None.

    station, cell  what is chosen
    on_choose(station, sound, letter) is called with the cell that was chosen, None where the station has none
    on_head(name) is called with the head that was chosen, "2.0" for layer 2, head 0
    """
    parts = [np.where(can_look(one), one.weights, np.nan).reshape(-1) for one in alignments.values() if one is not None]
    data = {
        "z": column_of_numbers(np.concatenate(parts), GAP),
        "letters": next(iter(sayings.values())).letters,
        "cards": [_card(saying, alignments[name]) for name, saying in sayings.items()],
        "chosen": {
            "station": station,
            "sound": None if cell is None else cell.sound,
            "letter": None if cell is None else cell.letter,
        },
    }

    def choose() -> None:
        value = chosen_in(key)
        if "head" in value:
            on_head(str(value["head"]))
        else:
            on_choose(str(value["station"]), _number(value["sound"]), _number(value["letter"]))

    _road(data=data, key=key, on_choose_change=choose)


def _number(value: float | None) -> int | None:
    return None if value is None else int(value)
