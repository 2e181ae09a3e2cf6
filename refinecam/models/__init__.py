"""Backbones and the classifier that trains them."""

from refinecam.models.backbones import create_backbone
from refinecam.models.checkpoints import load_network, read_checkpoint
from refinecam.models.classifier import Classifier

__all__ = ["Classifier", "create_backbone", "load_network", "read_checkpoint"]
