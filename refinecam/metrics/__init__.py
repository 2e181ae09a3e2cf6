"""From maps to scores: one file a score, with its formula as a function and as a torchmetrics class."""

import importlib
import pkgutil

from refinecam.metrics.adcc import ADCC
from refinecam.metrics.arcc import ARCC
from refinecam.metrics.average_drop import AverageDrop
from refinecam.metrics.base import SCORES, PerImageMean, Summary, parse_scores, register, usual_scores
from refinecam.metrics.coherency import Coherency
from refinecam.metrics.complexity import Complexity
from refinecam.metrics.cosine_similarity import CosineSimilarity
from refinecam.metrics.evaluation import MapEvaluation, shared
from refinecam.metrics.increase_in_confidence import IncreaseInConfidence
from refinecam.metrics.iou import IoU
from refinecam.metrics.mass_accuracy import MassAccuracy
from refinecam.metrics.perturbation import Deletion, Insertion
from refinecam.metrics.pointing_game import PointingGame
from refinecam.metrics.road import ROAD
from refinecam.metrics.roc_auc import ROCAUC

for _module in pkgutil.iter_modules(__path__):  # a score's file is all that it needs to be found by its name
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "ADCC",
    "ARCC",
    "ROAD",
    "ROCAUC",
    "SCORES",
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
    "parse_scores",
    "register",
    "shared",
    "usual_scores",
]
