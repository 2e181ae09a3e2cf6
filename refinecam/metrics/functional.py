"""Scores of attribution maps as functions: tensors in, one score for each image out."""

from refinecam.metrics.adcc import adcc
from refinecam.metrics.arcc import arcc
from refinecam.metrics.average_drop import average_drop
from refinecam.metrics.coherency import coherency
from refinecam.metrics.complexity import complexity
from refinecam.metrics.cosine_similarity import cosine_similarity
from refinecam.metrics.increase_in_confidence import increase_in_confidence
from refinecam.metrics.iou import iou
from refinecam.metrics.mass_accuracy import mass_accuracy
from refinecam.metrics.perturbation import deletion, insertion, perturbation_curve
from refinecam.metrics.pointing_game import pointing_game
from refinecam.metrics.road import noisy_linear_imputation, road
from refinecam.metrics.roc_auc import roc_auc

__all__ = [
    "adcc",
    "arcc",
    "average_drop",
    "coherency",
    "complexity",
    "cosine_similarity",
    "deletion",
    "increase_in_confidence",
    "insertion",
    "iou",
    "mass_accuracy",
    "noisy_linear_imputation",
    "perturbation_curve",
    "pointing_game",
    "road",
    "roc_auc",
]
