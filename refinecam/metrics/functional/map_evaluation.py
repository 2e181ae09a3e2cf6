"""What the scores of a batch of maps share, computed once."""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from refinecam.core.checks import check_input, check_logits, check_scale
from refinecam.core.errors import InputError, check_counts, check_range
from refinecam.core.running import default_chunk, eval_mode, fast_forward
from refinecam.core.seeding import identities
from refinecam.imputation import impute
from refinecam.metrics.functional.complexity import complexity
from refinecam.metrics.functional.cosine_similarity import cosine_similarity
from refinecam.metrics.functional.formulas import (
    check_form,
    check_maps,
    check_masks,
    harmonic_mean,
    pearson,
    relative_drop,
    undefined,
)
from refinecam.metrics.functional.imputation import noise_field
from refinecam.metrics.functional.iou import iou_of_ranks
from refinecam.metrics.functional.mass_accuracy import mass_accuracy
from refinecam.metrics.functional.pointing_game import pointing_game
from refinecam.metrics.functional.ranking import (
    Ranking,
    check_percentiles,
    check_ranking,
    missing_by_percentile,
    missing_pixels,
    relevance_ranks,
)
from refinecam.metrics.functional.roc_auc import roc_auc

Method = Callable[[nn.Module, Tensor, Tensor], Tensor]
PERCENTILES = (20, 40, 60, 80)


class MapEvaluation:
    """The maps of one batch and everything that can be scored about them, lazily, each part once.

    Args:
        model: classifier, images to logits (N, K). Left as it was.
        images: normalized images, shape (N, C, H, W).
        targets: explained class of each image, int64, shape (N,).
        maps: attribution maps, shape (N, 1, H, W), in [0, 1].
        method: the method that made them; Coherency asks it again.
        masks: ground truth, shape (N, 1, H, W), 0 and 1, where known.
        index: identity of each image, which seeds what is drawn for it; None takes the images' own values.
        clean_confidence: softmax probability of the targets, shape (N,), where already known.
        percentiles: shares of pixels that ROAD takes away.
        noise: standard deviation of ROAD's noise, in normalized units.
        seed: seed of ROAD's noise and of the order among equal pixels.
        ranking: ``"exact"`` shares by rank, equal pixels in a seeded random order, or ``"percentile"``, grad-cam's
            rule, by which all pixels that equal the threshold go, for comparisons with it alone.
        chunk: images that go through the network at once; bounds the memory and changes no score. None takes what suits
            the device.

    Raises:
        InputError: if shapes or ranges do not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        targets: Tensor,
        maps: Tensor,
        method: Method | None = None,
        *,
        masks: Tensor | None = None,
        index: Sequence[int] | Tensor | None = None,
        clean_confidence: Tensor | None = None,
        percentiles: Sequence[float] = PERCENTILES,
        noise: float = 0.01,
        seed: int = 0,
        ranking: Ranking = "exact",
        chunk: int | None = None,
    ) -> None:
        check_input(images, targets)
        check_maps(maps, images)
        if isinstance(method, type):
            raise InputError(f"method: pass an instance, {method.__name__}(), not the class")
        check_percentiles(percentiles)
        check_ranking(ranking)
        check_counts({"chunk": chunk})
        check_range(0, noise=noise)
        if index is not None and len(index) != len(images):
            raise InputError(f"index: expected one for each of {len(images)} images, got {len(index)}")
        self.model, self.images, self.targets, self.maps = model, images, targets, maps
        self.method, self.masks, self.index = method, masks, index
        self.chunk = chunk or default_chunk(images)
        self.curves: dict[tuple[str, int, str], Tensor] = {}  # of insertion and deletion
        self.percentiles, self.noise, self.seed, self.ranking = tuple(percentiles), noise, seed, ranking
        if clean_confidence is not None:
            self.clean_confidence = clean_confidence

    @cached_property
    def undefined(self) -> Tensor:
        """Which maps are constant or not finite, bool (N,)."""
        return undefined(self.maps)

    @cached_property
    def clean_confidence(self) -> Tensor:
        """Softmax probability of the targets on the whole images, (N,)."""
        return self.confidence(self.images, self.targets)

    @cached_property
    def masked_images(self) -> Tensor:
        """Images times maps, after normalization: 0 is the mean color. (N, C, H, W)."""
        return self.images * self.maps.to(self.images)

    @cached_property
    def masked_confidence(self) -> Tensor:
        """Softmax probability of the targets on the masked images, (N,)."""
        return self.confidence(self.masked_images, self.targets)

    @cached_property
    def keys(self) -> list[int]:
        """Identity of each image."""
        return identities(self.images, self.index)

    @cached_property
    def ranks(self) -> Tensor:
        """Place of each pixel from least to most relevant, (N, 1, H, W)."""
        return relevance_ranks(self.maps, self.seed, self.keys)

    @cached_property
    def average_drop(self) -> Tensor:
        """See :func:`~refinecam.metrics.functional.average_drop`."""
        return relative_drop(self.clean_confidence, self.masked_confidence)

    @cached_property
    def increase_in_confidence(self) -> Tensor:
        """See :func:`~refinecam.metrics.functional.increase_in_confidence`."""
        increase = (self.clean_confidence < self.masked_confidence).float()
        return increase.masked_fill(self.masked_confidence.isnan(), torch.nan)

    @cached_property
    def complexity(self) -> Tensor:
        """See :func:`~refinecam.metrics.functional.complexity`."""
        return complexity(self.maps)

    @cached_property
    def coherency(self) -> Tensor:
        """See :func:`~refinecam.metrics.functional.coherency`."""
        if self.method is None:
            raise InputError("method: Coherency, ADCC and ARCC ask the attribution method again; pass it")
        again = self.method(self.model, self.masked_images, self.targets)
        check_form(again, self.images, "method: what it makes of the masked images")
        return (pearson(self.maps, again) + 1) / 2

    @cached_property
    def adcc(self) -> Tensor:
        """See :func:`~refinecam.metrics.functional.adcc`."""
        return harmonic_mean(self.coherency, 1 - self.complexity, 1 - self.average_drop)

    @cached_property
    def road(self) -> Tensor:
        """See :func:`~refinecam.metrics.functional.road`."""
        step = max(1, self.chunk // (2 * len(self.percentiles)))
        parts = [self._road(slice(i, i + step)) for i in range(0, len(self.images), step)]
        road = torch.cat(parts) if parts else self.clean_confidence
        return road.masked_fill(~self.maps.flatten(1).isfinite().all(1), torch.nan)

    @cached_property
    def arcc(self) -> Tensor:
        """See :func:`~refinecam.metrics.functional.arcc`."""
        return harmonic_mean(self.coherency, 1 - self.complexity, self.road.clamp(0, 1))

    @property
    def _truth(self) -> Tensor:
        if self.masks is None:
            raise InputError("masks: this score compares with the ground truth; pass masks")
        return self.masks

    @cached_property
    def cosine_similarity(self) -> Tensor:
        """See :func:`~refinecam.metrics.functional.cosine_similarity`."""
        return cosine_similarity(self.maps, self._truth)

    @cached_property
    def pointing_game(self) -> Tensor:
        """See :func:`~refinecam.metrics.functional.pointing_game`."""
        return pointing_game(self.maps, self._truth)

    @cached_property
    def mass_accuracy(self) -> Tensor:
        """See :func:`~refinecam.metrics.functional.mass_accuracy`."""
        return mass_accuracy(self.maps, self._truth)

    @cached_property
    def roc_auc(self) -> Tensor:
        """See :func:`~refinecam.metrics.functional.roc_auc`."""
        return roc_auc(self.maps, self._truth)

    @cached_property
    def iou(self) -> Tensor:
        """See :func:`~refinecam.metrics.functional.iou`."""
        check_masks(self.maps, self._truth)
        return iou_of_ranks(self.ranks, self.maps, self._truth)

    def confidence(self, images: Tensor, targets: Tensor) -> Tensor:
        """Softmax probability of the targets, (N,), from bounded chunks of the images."""
        found = []
        with eval_mode(self.model):
            for part, chosen in zip(images.split(self.chunk), targets.split(self.chunk), strict=True):
                logits = fast_forward(self.model, part)
                check_logits(logits, chosen)
                found.append(logits.float())
        together = torch.cat(found)
        check_scale(together)
        return together.softmax(1).gather(1, targets[:, None]).squeeze(1)

    def _road(self, rows: slice) -> Tensor:
        """ROAD of a few images, all of their imputed copies at once."""
        images, keys = self.images[rows], self.keys[rows]
        if self.ranking == "percentile":
            missing = missing_by_percentile(self.maps[rows], self.percentiles)
        else:
            missing = missing_pixels(self.ranks[rows], self.percentiles)
        copies = missing.shape[1]
        filled = impute(images.repeat_interleave(copies, 0), missing.flatten(0, 1)).unflatten(0, (-1, copies))
        filled = filled + missing * noise_field(images, self.noise, self.seed, keys).unsqueeze(1)
        targets = self.targets[rows].repeat_interleave(copies)
        confidence = self.confidence(filled.flatten(0, 1), targets).unflatten(0, (-1, 2, copies // 2))
        return (confidence[:, 0] - confidence[:, 1]).mean(1)
