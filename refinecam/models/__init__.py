"""Backbones and the classifier that trains them."""

from refinecam.models.backbones import create_backbone
from refinecam.models.checkpoints import Weights, build_network, check_colors, load_network, read_weights
from refinecam.models.classifier import Classifier

__all__ = [
    "Classifier",
    "Weights",
    "build_network",
    "check_colors",
    "create_backbone",
    "load_network",
    "read_weights",
]
