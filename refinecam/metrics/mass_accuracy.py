"""Mean of ``mass_accuracy`` as a metric."""

from torch import Tensor

from refinecam.metrics.functional.map_evaluation import MapEvaluation
from refinecam.metrics.per_image_mean import PerImageMean


class MassAccuracy(PerImageMean):
    """Mean :func:`~refinecam.metrics.functional.mass_accuracy` over the images seen."""

    higher_is_better = True

    def score(self, evaluation: MapEvaluation) -> Tensor:
        """Scores of one batch."""
        return evaluation.mass_accuracy
