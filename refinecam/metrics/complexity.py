"""Mean of ``complexity`` as a metric."""

from torch import Tensor

from refinecam.metrics.functional.map_evaluation import MapEvaluation
from refinecam.metrics.per_image_mean import PerImageMean


class Complexity(PerImageMean):
    """Mean :func:`~refinecam.metrics.functional.complexity` over the images seen."""

    higher_is_better = False

    def score(self, evaluation: MapEvaluation) -> Tensor:
        """Scores of one batch."""
        return evaluation.complexity
