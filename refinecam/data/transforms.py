"""One joint transform for image and ground truth, made from the backbone's own data config."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would look for updates online

import albumentations as A
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from numpy.typing import NDArray
from torch import Tensor

from refinecam.core.backbones import data_config

INTERPOLATION = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}


@dataclass(frozen=True)
class JointTransform:
    """Resize, center crop and normalize an image and its masks together.

    Attributes:
        image_size: side of the square output.
        canvas: the shorter side is resized to this before the crop.
        mean: per-channel mean of the normalization, for values in [0, 1].
        std: per-channel standard deviation.
        interpolation: for images, one of timm's names; masks are always resized to the nearest neighbor.
    """

    image_size: int
    canvas: int
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"

    @classmethod
    def for_backbone(cls, backbone: str, image_size: int | None = None) -> "JointTransform":
        """The evaluation transform of a timm model, at its own input size or at another.

        Raises:
            InputError: if timm does not know ``backbone``.
        """
        config = data_config(backbone)
        own = cls.of_config(config, image_size)
        return replace(own, canvas=round(own.image_size / config["crop_pct"]))  # what the shapes were drawn for

    @classmethod
    def of_config(cls, config: Mapping[str, Any], image_size: int | None = None) -> "JointTransform":
        """timm's transform of a network's ``resolve_data_config``, at its own input size or at another."""
        size = image_size or config["input_size"][-1]
        return cls(
            image_size=size,
            canvas=int(size / config["crop_pct"]),
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            interpolation=config["interpolation"],
        )

    @cached_property
    def _compose(self) -> A.Compose:
        return A.Compose(
            [
                A.SmallestMaxSize(
                    self.canvas,
                    interpolation=INTERPOLATION[self.interpolation],
                    mask_interpolation=cv2.INTER_NEAREST_EXACT,  # pixel centers, as for the image
                ),
                A.CenterCrop(self.image_size, self.image_size),
                ToTensorV2(transpose_mask=True),
            ]
        )

    def __call__(self, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Transform an RGB image (H, W, 3) and its mask (H, W, 1) to float tensors (3, S, S) and (1, S, S)."""
        return self.normalize(self.as_bytes(image, mask))

    def as_bytes(self, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> dict[str, Tensor]:
        """The same in uint8, a quarter of the memory: for batches that :meth:`normalize` finishes on their device."""
        result: dict[str, Any] = self._compose(image=image, mask=mask)
        return {"image": result["image"], "mask": result["mask"]}

    def normalize(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """Make floats of what :meth:`as_bytes` gave, the images of a batch (N, 3, S, S) as well as one."""
        image = sample["image"]
        mean, std = (255 * image.new_tensor(v, dtype=torch.float32)[:, None, None] for v in (self.mean, self.std))
        masks = {"mask": sample["mask"].float()} if "mask" in sample else {}
        return {**sample, "image": (image - mean) / std, **masks}

    def denormalize(self, images: Tensor) -> Tensor:
        """Colors in [0, 1] of normalized images (…, 3, H, W)."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (images * std + mean).clamp(0, 1)
