"""Mean of ``insertion`` as a metric."""

from torch import Tensor

from refinecam.metrics.functional.map_evaluation import MapEvaluation
from refinecam.metrics.functional.perturbation import Fill, check_perturbation, perturbation_curve
from refinecam.metrics.per_image_mean import PerImageMean


class Insertion(PerImageMean):
    """Mean :func:`~refinecam.metrics.functional.insertion` over the images seen.

    Args:
        steps: of the curve.
        fill: what stands where pixels are missing.
    """

    higher_is_better = True

    def __init__(self, steps: int = 20, fill: Fill = "blur") -> None:
        super().__init__()
        check_perturbation(steps, fill)
        self.steps, self.fill = steps, fill

    def score(self, evaluation: MapEvaluation) -> Tensor:
        """Scores of one batch."""
        return perturbation_curve(evaluation, "insertion", self.steps, self.fill)[1]
