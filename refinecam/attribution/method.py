"""What every attribution method is: a callable from model, image and class to a map."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refinecam.errors import InputError


class AttributionMethod(ABC):
    """``method(model, image, target)`` gives one map in [0, 1] for each image, each from its own image only.

    Attributes:
        stage: the stage it looks at, None for methods that have none.
        aggregator: how several stages are joined, None for methods that do not join any.
    """

    stage: int | str | None = None
    aggregator: str | None = None

    @property
    def name(self) -> str:
        """Name in tables and figures, without stage and aggregator."""
        return type(self).__name__

    @abstractmethod
    def __call__(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """Explain why ``model`` sees class ``target`` in ``image``.

        Args:
            model: classifier, images to logits (N, K). Left exactly as it was.
            image: normalised images, shape (N, C, H, W).
            target: class of each image, int64, shape (N,).

        Returns:
            Maps, shape (N, 1, H, W), in [0, 1], on the device of ``image``. A map without any contrast is 0
            everywhere.

        Raises:
            InputError: if the input does not fit, or gradients are needed and inference mode is on.
        """


def normalise(maps: Tensor) -> Tensor:
    """Min-max normalise each map to [0, 1]; a constant map becomes 0.

    >>> normalise(torch.tensor([[[[1.0, 2.0, 3.0]]], [[[5.0, 5.0, 5.0]]]])).flatten()
    tensor([0.0000, 0.5000, 1.0000, 0.0000, 0.0000, 0.0000])
    """
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    span = high - low
    return (maps - low) / torch.where(span == 0, torch.ones_like(span), span)


def upsample(maps: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Resize maps (N, 1, h, w) bilinearly to ``size`` and normalise them, in float32."""
    return normalise(F.interpolate(maps.float(), size=tuple(size), mode="bilinear", align_corners=False))


def check_input(image: Tensor, target: Tensor) -> None:
    """Refuse images or targets of the wrong shape or type.

    Raises:
        InputError: naming the argument.
    """
    if image.ndim != 4 or not image.is_floating_point():
        raise InputError(f"image: expected a float tensor (N, C, H, W), got {image.dtype} {tuple(image.shape)}")
    if target.dtype != torch.int64 or target.shape != image.shape[:1]:
        raise InputError(
            f"target: expected an int64 tensor ({len(image)},), one class for each image, got {target.dtype} "
            f"{tuple(target.shape)}"
        )
