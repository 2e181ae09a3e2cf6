"""Mean of ``increase_in_confidence`` as a metric."""

from torch import Tensor

from refinecam.metrics.functional.map_evaluation import MapEvaluation
from refinecam.metrics.per_image_mean import PerImageMean


class IncreaseInConfidence(PerImageMean):
    """Mean :func:`~refinecam.metrics.functional.increase_in_confidence` over the images seen."""

    higher_is_better = True

    def score(self, evaluation: MapEvaluation) -> Tensor:
        """Scores of one batch."""
        return evaluation.increase_in_confidence
