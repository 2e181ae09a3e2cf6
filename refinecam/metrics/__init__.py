"""From maps to scores: torchmetrics classes over :mod:`refinecam.metrics.functional`."""

from refinecam.metrics.adcc import ADCC
from refinecam.metrics.arcc import ARCC
from refinecam.metrics.average_drop import AverageDrop
from refinecam.metrics.coherency import Coherency
from refinecam.metrics.complexity import Complexity
from refinecam.metrics.cosine_similarity import CosineSimilarity
from refinecam.metrics.functional.map_evaluation import MapEvaluation
from refinecam.metrics.per_image_mean import PerImageMean, Summary
from refinecam.metrics.road import ROAD

__all__ = [
    "ADCC",
    "ARCC",
    "ROAD",
    "AverageDrop",
    "Coherency",
    "Complexity",
    "CosineSimilarity",
    "MapEvaluation",
    "PerImageMean",
    "Summary",
]
