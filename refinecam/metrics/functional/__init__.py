"""Scores of attribution maps as functions: tensors in, one score for each image out."""

from refinecam.metrics.functional.adcc import adcc
from refinecam.metrics.functional.arcc import arcc
from refinecam.metrics.functional.average_drop import average_drop
from refinecam.metrics.functional.coherency import coherency
from refinecam.metrics.functional.complexity import complexity
from refinecam.metrics.functional.cosine_similarity import cosine_similarity
from refinecam.metrics.functional.funnybirds import (
    background_independence,
    controlled_synthetic_data_check,
    deletion_check,
    distracted_share,
    important_parts,
    part_importance,
    preservation_check,
    single_deletion,
)
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
    "background_independence",
    "check_percentiles",
    "coherency",
    "complexity",
    "controlled_synthetic_data_check",
    "cosine_similarity",
    "deletion",
    "deletion_check",
    "distracted_share",
    "important_parts",
    "increase_in_confidence",
    "insertion",
    "iou",
    "mass_accuracy",
    "noisy_linear_imputation",
    "part_importance",
    "perturbation_curve",
    "pointing_game",
    "preservation_check",
    "road",
    "roc_auc",
    "single_deletion",
]
