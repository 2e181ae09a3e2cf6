"""Scores of attribution maps as functions: tensors in, one score for each image out."""

from refinecam.metrics.functional.adcc import adcc
from refinecam.metrics.functional.arcc import arcc
from refinecam.metrics.functional.average_drop import average_drop
from refinecam.metrics.functional.coherency import coherency
from refinecam.metrics.functional.complexity import complexity
from refinecam.metrics.functional.cosine_similarity import cosine_similarity
from refinecam.metrics.functional.imputation import noisy_linear_imputation
from refinecam.metrics.functional.map_evaluation import PERCENTILES
from refinecam.metrics.functional.ranking import check_percentiles
from refinecam.metrics.functional.road import road

__all__ = [
    "PERCENTILES",
    "adcc",
    "arcc",
    "average_drop",
    "check_percentiles",
    "coherency",
    "complexity",
    "cosine_similarity",
    "noisy_linear_imputation",
    "road",
]
