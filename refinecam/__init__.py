"""Evaluate and refine class activation maps."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("refinecam")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"

_AT_HAND = {"explain": "explanation", "score": "explanation", "Explanation": "explanation", "load_network": "models"}


def __getattr__(name: str) -> Any:
    """What people want first, ``from refinecam import RefineCAM, explain``, without an import of everything here."""
    if name in _AT_HAND:
        return getattr(import_module(f"refinecam.{_AT_HAND[name]}"), name)
    if not name.startswith("_"):
        attribution = import_module("refinecam.attribution")
        if name in attribution.__all__:
            return getattr(attribution, name)
    raise AttributeError(f"module 'refinecam' has no attribute {name!r}")
