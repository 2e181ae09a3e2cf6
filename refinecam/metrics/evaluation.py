"""What the scores of a batch of maps share, computed once; it knows no score's formula."""

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property, wraps
from typing import Any, Concatenate, Literal, ParamSpec, get_args

import torch
from torch import Tensor, nn

from refinecam.core.checks import check_logits, check_scale
from refinecam.core.errors import InputError, check_choice, check_counts, check_not_negative
from refinecam.core.memory import chunk_size
from refinecam.core.running import Method, Targets, as_targets, eval_mode, fast_forward
from refinecam.core.seeding import as_index, identities
from refinecam.metrics.formulas import check_form, check_maps, undefined
from refinecam.metrics.ranking import relevance_ranks

P = ParamSpec("P")
Confidence = Literal["softmax", "sigmoid"]
"""Of one class among all, or, of a network with several labels for an image, of each by itself."""


def probabilities(logits: Tensor, kind: Confidence = "softmax") -> Tensor:
    """Of all classes, (N, K), from logits (N, K)."""
    return logits.float().sigmoid() if kind == "sigmoid" else logits.float().softmax(1)


def confidence_of(logits: Tensor, targets: Tensor, kind: Confidence = "softmax") -> Tensor:
    """Probability of the targets, (N,), from logits (N, K)."""
    return probabilities(logits, kind).gather(1, targets[:, None]).squeeze(1)


class MapEvaluation:
    """The maps of one batch, and what several scores need of them, lazily, each part once.

    Args:
        model: classifier, images to logits (N, K). Left as it was.
        images: normalized images, shape (N, C, H, W).
        targets: explained class of each image, int64, shape (N,), a list or an array, or one for all; None for the
            predicted ones.
        maps: attribution maps, shape (N, 1, H, W), in [0, 1].
        method: the method that made them; Coherency asks it again.
        masks: ground truth, shape (N, 1, H, W), 0 and 1, where known.
        index: identity of each image, which seeds what is drawn for it; None takes the images' own values.
        clean_confidence: probability of the targets, shape (N,), where already known.
        seed: seed of all draws: noise, and the order among equal pixels.
        chunk: images that go through the network at once; bounds the memory and changes no score. None takes what suits
            the device.
        black: a black pixel in normalized units, shape (C, 1, 1), for scores that mask before normalization.
        confidence: what the targets' probability is: by ``"softmax"`` among all classes, or, of a network with several
            labels for an image, by ``"sigmoid"`` of its own.

    Raises:
        InputError: if shapes or ranges do not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        targets: Targets,
        maps: Tensor,
        method: Method | None = None,
        *,
        masks: Tensor | None = None,
        index: Sequence[int] | Tensor | None = None,
        clean_confidence: Tensor | None = None,
        seed: int = 0,
        chunk: int | None = None,
        black: Tensor | None = None,
        confidence: Confidence = "softmax",
    ) -> None:
        check_choice(get_args(Confidence), confidence=confidence)
        targets = as_targets(model, images, targets)
        check_maps(maps, images)
        if isinstance(method, type):
            raise InputError(f"method: pass an instance, {method.__name__}(), not the class")
        if method is not None and not callable(method):
            raise InputError(f"method: expected an attribution method, such as GradCAM(), got {method!r}")
        check_counts({"chunk": chunk})
        check_not_negative(seed=seed)
        self.model, self.images, self.targets, self.maps = model, images, targets, maps
        self.method, self._masks, self.seed = method, masks, seed
        self.index = None if index is None else as_index(index, len(images))
        self.chunk = chunk_size(images, chunk)
        self._black, self.kind = black, confidence
        self.results: dict[Hashable, Any] = {}
        if clean_confidence is not None:
            self.clean_confidence = clean_confidence

    @cached_property
    def undefined(self) -> Tensor:
        """Which maps are constant or not finite, bool (N,)."""
        return undefined(self.maps)

    @property
    def masks(self) -> Tensor:
        """Ground truth, (N, 1, H, W)."""
        if self._masks is None:
            raise InputError("masks: this score compares with the ground truth; pass masks")
        return self._masks

    @cached_property
    def clean_confidence(self) -> Tensor:
        """Probability of the targets on the whole images, (N,)."""
        return self.confidence(self.images, self.targets)

    @cached_property
    def masked_images(self) -> Tensor:
        """Images times maps, after normalization: 0 is the mean color. (N, C, H, W)."""
        return self.images * self.maps.to(self.images)

    @cached_property
    def masked_confidence(self) -> Tensor:
        """Probability of the targets on the masked images, (N,)."""
        return self.confidence(self.masked_images, self.targets)

    def masked_before(self) -> Tensor:
        """Images that are masked before normalization: 0 is black. (N, C, H, W)."""
        if self._black is None:
            raise InputError(
                "black: masking before normalization needs a black pixel in normalized units: "
                "MapEvaluation(black=...), as evaluate.py gives it"
            )
        black = self._black.to(self.images)
        return black + (self.images - black) * self.maps.to(self.images)

    @cached_property
    def masked_maps(self) -> Tensor:
        """What the whole method makes of the masked images, from scratch, (N, 1, H, W)."""
        return self.maps_again(self.masked_images)

    def maps_again(self, masked: Tensor, recomputed: Literal["all", "first"] = "all") -> Tensor:
        """What the method makes of masked images, (N, 1, H, W).

        Args:
            masked: shape (N, C, H, W).
            recomputed: ``"first"`` takes a refined map's deeper factors from the whole images.
        """
        if self.method is None:
            raise InputError("method: Coherency, ADCC and ARCC ask the attribution method again; pass it")
        partly = getattr(self.method, "first_again", None) if recomputed == "first" else None
        if partly is not None:
            again = partly(self.model, self.images, masked, self.targets)
        else:
            again = self.method(self.model, masked, self.targets)
        check_form(again, self.images, "method: what it makes of the masked images")
        return again

    @cached_property
    def keys(self) -> list[int]:
        """Identity of each image."""
        return identities(self.images, self.index)

    @cached_property
    def ranks(self) -> Tensor:
        """Rank of each pixel from least to most relevant, (N, 1, H, W)."""
        return relevance_ranks(self.maps, self.seed, self.keys)

    def confidence(self, images: Tensor, targets: Tensor) -> Tensor:
        """Probability of the targets, (N,), from bounded chunks of the images."""
        result = []
        with eval_mode(self.model):
            for part, chosen in zip(images.split(self.chunk), targets.split(self.chunk), strict=True):
                logits = fast_forward(self.model, part)
                check_logits(logits, chosen)
                result.append(logits.float())
        together = torch.cat(result)
        if self.kind == "softmax":
            check_scale(together)
        return confidence_of(together, targets, self.kind)


def shared(
    formula: Callable[Concatenate[MapEvaluation, P], Tensor],
) -> Callable[Concatenate[MapEvaluation, P], Tensor]:
    """Compute a formula once for each evaluation and options, whichever scores ask for it; options are hashable."""

    @wraps(formula)
    def once(evaluation: MapEvaluation, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        key = (formula, args, tuple(kwargs.items()))
        if key not in evaluation.results:
            evaluation.results[key] = formula(evaluation, *args, **kwargs)
        return evaluation.results[key]

    return once
