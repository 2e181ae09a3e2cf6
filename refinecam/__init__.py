"""Evaluate and refine class activation maps."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("refinecam")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"
