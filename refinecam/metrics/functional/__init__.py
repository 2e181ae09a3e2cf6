"""Scores of attribution maps as functions: tensors in, one score for each image out."""

from refinecam.metrics.functional.adcc import adcc
from refinecam.metrics.functional.arcc import arcc
from refinecam.metrics.functional.average_drop import average_drop
from refinecam.metrics.functional.coherency import coherency
from refinecam.metrics.functional.complexity import complexity
from refinecam.metrics.functional.cosine_similarity import cosine_similarity
from refinecam.metrics.functional.imputation import noisy_linear_imputation
from refinecam.metrics.functional.increase_in_confidence import increase_in_confidence
from refinecam.metrics.functional.iou import iou
from refinecam.metrics.functional.map_evaluation import PERCENTILES
from refinecam.metrics.functional.mass_accuracy import mass_accuracy
from refinecam.metrics.functional.perturbation import deletion, insertion, perturbation_curve
from refinecam.metrics.functional.pointing_game import pointing_game
from refinecam.metrics.functional.ranking import check_percentiles
from refinecam.metrics.functional.road import road
from refinecam.metrics.functional.roc_auc import roc_auc

__all__ = [
    "PERCENTILES",
    "adcc",
    "arcc",
    "average_drop",
    "check_percentiles",
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
