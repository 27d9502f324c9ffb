"""Headlight's library: exact queries, keys, values and attention weights of any transformers model."""

from .attribution import explain, relevance
from .cache_size import cache_bytes
from .errors import HeadlightError
from .figures.notebook import notebook_html
from .filling import fill_worksheet
from .generation import decode
from .language import LanguageModel
from .models import load_model
from .record import Capture, LayerCapture
from .recording import capture
from .worksheet import Worksheet

__all__ = [
    "Capture",
    "HeadlightError",
    "LanguageModel",
    "LayerCapture",
    "Worksheet",
    "cache_bytes",
    "capture",
    "decode",
    "explain",
    "fill_worksheet",
    "load_model",
    "notebook_html",
    "relevance",
]
