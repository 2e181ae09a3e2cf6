"""Mean of ``average_drop`` as a metric."""

from torch import Tensor

from refinecam.metrics.functional.map_evaluation import MapEvaluation
from refinecam.metrics.per_image_mean import PerImageMean


class AverageDrop(PerImageMean):
    """Mean :func:`~refinecam.metrics.functional.average_drop` over the images seen."""

    higher_is_better = False

    def score(self, evaluation: MapEvaluation) -> Tensor:
        """Scores of one batch."""
        return evaluation.average_drop
