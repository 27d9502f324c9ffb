"""The stations of the road, in order: what each is called, where it is from, and how it is loaded and asked."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import HeadlightError
from .additive import Additive
from .bottleneck import Bottleneck
from .local import LocalMonotonic, LocalPredictive
from .luong import Global
from .original import Original
from .speaker import Speaker

ASSETS = Path(__file__).parents[2] / "assets" / "road"
GET_THEM = "get the folder assets/road/ of the project again"
CHO = "Cho et al. and Sutskever et al."
BAHDANAU = "Bahdanau, Cho and Bengio"
LUONG = "Luong, Pham and Manning"


@dataclass(frozen=True)
class Station:
    """One model of the road."""

    name: str
    title: str
    year: int
    authors: str
    paper: str
    make: Callable[[], Speaker]
    said: str  # what it brought, in a sentence
    score: str = ""  # LaTeX: the score of letter s (or j) for a sound, before the softmax


STATIONS = {
    station.name: station
    for station in (
        Station(
            "bottleneck",
            "One fixed vector",
            2014,
            CHO,
            "Learning Phrase Representations using RNN Encoder–Decoder for Statistical Machine Translation; "
            "Sequence to Sequence Learning with Neural Networks",
            Bottleneck,
            "The whole word is squeezed into one vector, and everything is said from it. No sound can look back.",
        ),
        Station(
            "additive",
            "Additive attention",
            2014,
            BAHDANAU,
            "Neural Machine Translation by Jointly Learning to Align and Translate",
            Additive,
            "For every sound the decoder looks back at all letters and blends what it finds there.",
            r"e_{ij} = v^\top \tanh(W s_{i-1} + U h_j)",
        ),
        Station(
            "dot",
            "Global attention, dot",
            2015,
            LUONG,
            "Effective Approaches to Attention-based Neural Machine Translation",
            lambda: Global("dot"),
            "The score is a plain dot product: the decoder’s state and a letter’s state, multiplied and added up.",
            r"\mathrm{score}(h_t, \bar h_s) = h_t^\top \bar h_s",
        ),
        Station(
            "general",
            "Global attention, general",
            2015,
            LUONG,
            "Effective Approaches to Attention-based Neural Machine Translation",
            lambda: Global("general"),
            "A learned matrix stands between the two states, so that they need not speak the same language.",
            r"\mathrm{score}(h_t, \bar h_s) = h_t^\top W_a \bar h_s",
        ),
        Station(
            "concat",
            "Global attention, concat",
            2015,
            LUONG,
            "Effective Approaches to Attention-based Neural Machine Translation",
            lambda: Global("concat"),
            "Both states go through one layer together; it is additive attention with the decoder’s newest state.",
            r"\mathrm{score}(h_t, \bar h_s) = v_a^\top \tanh(W_a [h_t; \bar h_s])",
        ),
        Station(
            "local-m",
            "Local attention, monotonic",
            2015,
            LUONG,
            "Effective Approaches to Attention-based Neural Machine Translation",
            LocalMonotonic,
            "Only a window of letters is seen, and it moves one letter with every sound.",
            r"\mathrm{score}(h_t, \bar h_s) = h_t^\top W_a \bar h_s,\quad |s - t| \le 2",
        ),
        Station(
            "local-p",
            "Local attention, predictive",
            2015,
            LUONG,
            "Effective Approaches to Attention-based Neural Machine Translation",
            LocalPredictive,
            "The model says where the window should be, and a bell curve favours its middle.",
            r"\mathrm{score}(h_t, \bar h_s) = h_t^\top W_a \bar h_s,\quad |s - p_t| \le 2",
        ),
        Station(
            "transformer",
            "The Transformer",
            2017,
            "Vaswani et al.",
            "Attention Is All You Need",
            Original,
            "Nothing is read one after the other any more: attention alone, in several heads, with positions added.",
            r"\mathrm{score}(q_t, k_s) = \frac{q_t^\top k_s}{\sqrt{d}}",
        ),
    )
}


def load_station(name: str, folder: Path = ASSETS) -> Speaker:
    """A trained station, in float32, ready to be asked; raises HeadlightError for another name, or without its file."""
    if name not in STATIONS:
        raise HeadlightError(f"There is no station “{name}”: choose one of {', '.join(STATIONS)}.")
    model, file = STATIONS[name].make(), folder / f"{name}.safetensors"
    try:
        model.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise HeadlightError(f"The weights of “{STATIONS[name].title}” cannot be read: {GET_THEM}.") from error
    return model.float().eval()


def results(folder: Path = ASSETS) -> dict:
    """What training/measure_road.py measured on the words that no station learnt; HeadlightError without the file."""
    try:
        return json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HeadlightError(f"The measurements of the stations cannot be read: {GET_THEM}.") from error
