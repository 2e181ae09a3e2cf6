"""What every score is: the mean of a per-image score over all images of all processes, known by a name."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import Metric

from refinecam.core.calls import options_of, parse_calls
from refinecam.core.errors import InputError
from refinecam.core.precision import wide
from refinecam.metrics.evaluation import MapEvaluation


class Summary(NamedTuple):
    """A data set's score: over the scored images, with the numbers of those that were not.

    Attributes:
        mean: mean of the per-image scores, NaN if there are none.
        std: their standard deviation (divided by the number of scores).
        scored: images with a score.
        undefined: images whose map is constant or not finite, or whose score is not defined.
        skipped: images that were not explained, for example because they were misclassified.
    """

    mean: float
    std: float
    scored: int
    undefined: int
    skipped: int


class PerImageMean(Metric, ABC):
    """Accumulates one score for each image as sums, so that many processes give what one gives.

    An undefined map has no score: it is left out of the mean and counted beside it.
    Subclasses have a :meth:`score`, and options as arguments of their constructor, which have defaults; see
    :func:`register`. In a ``MetricCollection`` use ``compute_groups=False``: scores that tie on the first batch are not
    the same.
    """

    name: ClassVar[str] = ""
    needs_masks: ClassVar[bool] = False
    needs_method: ClassVar[bool] = False
    on_request: ClassVar[bool] = False
    is_differentiable = False
    full_state_update = False
    total: Tensor
    squares: Tensor
    scored: Tensor
    undefined: Tensor
    skipped: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "squares"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("scored", "undefined", "skipped"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def title(self) -> str:
        """Name in tables: the registered one, with every option that is not the default."""
        options = options_of(self)
        return f"{self.name}({', '.join(options)})" if options else self.name

    @property
    def note(self) -> str:
        """What a table of its values should say, beyond the name."""
        return ""

    @abstractmethod
    def score(self, evaluation: MapEvaluation) -> Tensor:
        """The score of each image, shape (N,)."""

    def per_image(self, evaluation: MapEvaluation) -> Tensor:
        """The score of each image, shape (N,), float32; NaN where the map is constant or not finite."""
        key = (type(self), self.title)
        if key not in evaluation.results:
            scores = self.score(evaluation).float()
            evaluation.results[key] = scores.masked_fill(evaluation.undefined, torch.nan)
        return evaluation.results[key]

    def update(self, evaluation: MapEvaluation | Tensor, *others: object) -> None:
        """Add the images of one batch.

        Args:
            evaluation: of their maps, or scores that are known, shape (N,), NaN where there is none.
            others: none; what functions take is answered with the remedy.

        Raises:
            InputError: if it is neither.
        """
        known = isinstance(evaluation, Tensor) and evaluation.ndim == 1 and evaluation.is_floating_point()
        if others or not (known or isinstance(evaluation, MapEvaluation)):
            raise InputError(
                f"evaluation: {type(self).__name__} scores one MapEvaluation(model, images, targets, maps, method), "
                f"got {type(evaluation).__name__}; tensors go to the function {self.name}"
            )
        scores = evaluation if isinstance(evaluation, Tensor) else self.per_image(evaluation)
        scores = wide(scores).to(self.total.device)
        defined = scores[scores.isfinite()]
        self.total += defined.sum()
        self.squares += (defined**2).sum()
        self.scored += len(defined)
        self.undefined += len(scores) - len(defined)

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = "") -> Any:
        """Stay where float64 is if the device has none."""
        try:
            fn(torch.zeros((), dtype=torch.float64))
        except TypeError:
            return self
        return super()._apply(fn, exclude_state)

    def skip(self, count: int) -> None:
        """Count images that were not explained."""
        self.skipped += count

    def compute(self) -> Tensor:
        """Mean over the scored images, float64; NaN if there are none."""
        return self.total / self.scored

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot the mean, or other values of this score (torchmetrics' convention).

        Args:
            val: a mapping of names, such as the methods', to values for a bar each; or what torchmetrics' metrics
                plot: one value, or several for a curve. None for the metric's own.
            ax: axes to draw on.

        Returns:
            Figure, None where ``ax`` was given, and axes.
        """
        if not isinstance(val, Mapping):
            return self._plot(val, ax)
        figure = None if ax is not None else Figure(layout="constrained")
        ax = ax if figure is None else figure.subplots()
        ax.barh([*val], [float(value) for value in val.values()])
        ax.invert_yaxis()
        ax.set_xlabel(f"{self.title} ({'higher' if self.higher_is_better else 'lower'} is better)")
        return figure, ax

    def summary(self) -> Summary:
        """Mean, standard deviation and counts over the images of all processes."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync):
            mean = self.total / self.scored
            variance = (self.squares / self.scored - mean**2).clamp(min=0)
            counts = [int(count) for count in (self.scored, self.undefined, self.skipped)]
            return Summary(mean.item(), variance.sqrt().item(), *counts)


SCORES: dict[str, type[PerImageMean]] = {}
"""Every score by its name in configs and tables."""
Score = TypeVar("Score", bound=type[PerImageMean])


def parse_scores(text: str | Sequence[str]) -> list[PerImageMean]:
    """Read scores as one would write them in Python: ``arcc, road(percentiles=(10, 50))``.

    Raises:
        InputError: naming what cannot be read, and what exists.
    """
    return parse_calls(text, SCORES, "scores")


def usual_scores(masks: bool, method: bool = True) -> list[str]:
    """Names of the scores that are computed where none are named, those with ground truth first.

    Args:
        masks: whether there is ground truth.
        method: whether the attribution method can be asked again.
    """
    usual = [name for name, s in SCORES.items() if not s.on_request and s.needs_masks <= masks]
    return sorted(
        (name for name in usual if SCORES[name].needs_method <= method), key=lambda name: not SCORES[name].needs_masks
    )


def register(
    name: str, *, needs_masks: bool = False, needs_method: bool = False, on_request: bool = False
) -> Callable[[Score], Score]:
    """Name a score, for configs and tables.

    Args:
        name: in lower case, as the function is called.
        needs_masks: whether it compares with the ground truth.
        needs_method: whether it asks the attribution method again.
        on_request: whether it is computed only where it is named, because it costs as much as all others together.
    """

    def add(score: Score) -> Score:
        if name in SCORES and SCORES[name].__module__ != score.__module__:
            raise InputError(f"name: {name!r} is {SCORES[name].__module__}'s already; choose another")
        score.name, score.on_request = name, on_request
        score.needs_masks, score.needs_method = needs_masks, needs_method
        SCORES[name] = score
        return score

    return add
