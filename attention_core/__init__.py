"""Headlight's library: exact queries, keys, values and attention weights of any transformers model."""

from .errors import HeadlightError
from .figures.notebook import notebook_html
from .language import LanguageModel
from .models import load_model
from .record import Capture, LayerCapture
from .recording import capture

__all__ = ["Capture", "HeadlightError", "LanguageModel", "LayerCapture", "capture", "load_model", "notebook_html"]
