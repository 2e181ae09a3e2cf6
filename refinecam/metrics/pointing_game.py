"""Mean of ``pointing_game`` as a metric."""

from torch import Tensor

from refinecam.metrics.functional.map_evaluation import MapEvaluation
from refinecam.metrics.per_image_mean import PerImageMean


class PointingGame(PerImageMean):
    """Mean :func:`~refinecam.metrics.functional.pointing_game` over the images seen."""

    higher_is_better = True

    def score(self, evaluation: MapEvaluation) -> Tensor:
        """Scores of one batch."""
        return evaluation.pointing_game
