"""Mean of ``roc_auc`` as a metric."""

from torch import Tensor

from refinecam.metrics.functional.map_evaluation import MapEvaluation
from refinecam.metrics.per_image_mean import PerImageMean


class ROCAUC(PerImageMean):
    """Mean :func:`~refinecam.metrics.functional.roc_auc` over the images seen."""

    higher_is_better = True

    def score(self, evaluation: MapEvaluation) -> Tensor:
        """Scores of one batch."""
        return evaluation.roc_auc
