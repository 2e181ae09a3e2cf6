"""From maps to scores: torchmetrics classes over :mod:`refinecam.metrics.functional`."""

from refinecam.metrics.adcc import ADCC
from refinecam.metrics.arcc import ARCC
from refinecam.metrics.average_drop import AverageDrop
from refinecam.metrics.coherency import Coherency
from refinecam.metrics.complexity import Complexity
from refinecam.metrics.cosine_similarity import CosineSimilarity
from refinecam.metrics.deletion import Deletion
from refinecam.metrics.functional.map_evaluation import MapEvaluation
from refinecam.metrics.increase_in_confidence import IncreaseInConfidence
from refinecam.metrics.insertion import Insertion
from refinecam.metrics.iou import IoU
from refinecam.metrics.mass_accuracy import MassAccuracy
from refinecam.metrics.per_image_mean import PerImageMean, Summary
from refinecam.metrics.pointing_game import PointingGame
from refinecam.metrics.road import ROAD
from refinecam.metrics.roc_auc import ROCAUC

__all__ = [
    "ADCC",
    "ARCC",
    "ROAD",
    "ROCAUC",
    "AverageDrop",
    "Coherency",
    "Complexity",
    "CosineSimilarity",
    "Deletion",
    "IncreaseInConfidence",
    "Insertion",
    "IoU",
    "MapEvaluation",
    "MassAccuracy",
    "PerImageMean",
    "PointingGame",
    "Summary",
]
