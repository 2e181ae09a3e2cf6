"""Every score by the name that configs and tables give it."""

from refinecam.metrics import (
    ADCC,
    ARCC,
    ROAD,
    ROCAUC,
    AverageDrop,
    Coherency,
    Complexity,
    CosineSimilarity,
    Deletion,
    IncreaseInConfidence,
    Insertion,
    IoU,
    MassAccuracy,
    PerImageMean,
    PointingGame,
)

GROUND_TRUTH: dict[str, type[PerImageMean]] = {
    "cosine_similarity": CosineSimilarity,
    "pointing_game": PointingGame,
    "mass_accuracy": MassAccuracy,
    "roc_auc": ROCAUC,
    "iou": IoU,
}
LABEL_FREE: dict[str, type[PerImageMean]] = {
    "average_drop": AverageDrop,
    "increase_in_confidence": IncreaseInConfidence,
    "complexity": Complexity,
    "coherency": Coherency,
    "adcc": ADCC,
    "road": ROAD,
    "arcc": ARCC,
}
ON_REQUEST: dict[str, type[PerImageMean]] = {"insertion": Insertion, "deletion": Deletion}
"""They cost more than all others together."""
SCORES = {**GROUND_TRUTH, **LABEL_FREE, **ON_REQUEST}
