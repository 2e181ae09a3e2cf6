"""LIME and KernelSHAP on superpixels: adapters over captum with batched perturbations, seeded by the image."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass
from typing import Literal

import captum.attr
import numpy as np
import torch
from captum._utils.models.linear_model import SkLearnLasso
from skimage.segmentation import slic
from torch import Tensor, nn

from refinecam.attribution.method import AttributionMethod, normalize, register
from refinecam.core.checks import check_input
from refinecam.core.errors import InputError, check_choice, check_counts, check_not_negative, check_range
from refinecam.core.memory import chunk_size
from refinecam.core.running import eval_mode, fast_forward, first_logits
from refinecam.core.seeding import content_keys, generator

PRESETS = {"paper": 25}
"""Samples of named presets: the paper's code leaves captum's default, far too few for 100 segments."""


@dataclass(eq=False)
class SuperpixelMethod(AttributionMethod):
    """Which superpixels the class score needs, from a linear model of many images with some of them set to zero.

    The absolute weight of each superpixel is its relevance. Superpixels are SLIC's (Achanta et al., TPAMI 2012) of the
    image, with compactness 10 and sigma 1. Every draw is seeded by the image's own values, so that an image gives the
    same map in any batch. The network only runs forwards, so inference mode is fine.

    Args:
        samples: perturbed images for each image; None for ten times as many as superpixels.
        segments: superpixels wished for; SLIC finds about as many.
        chunk: perturbed images that go through the network at once; bounds the memory and does not change the map. None
            takes what suits the device.
        seed: seed of the draws.
        preset: ``"paper"`` for the samples of the paper's code, 25.
    """

    samples: int | None = None
    segments: int = 100
    chunk: int | None = None
    seed: int = 0
    preset: InitVar[Literal["paper"] | None] = None

    def __post_init__(self, preset: str | None) -> None:
        check_choice((*PRESETS, None), preset=preset)
        if preset is not None and self.samples is not None:
            raise InputError(f"samples: the preset {preset!r} has its own, so leave one of the two out")
        self.samples = PRESETS[preset] if preset else self.samples
        check_not_negative(seed=self.seed)
        check_counts({"samples": self.samples, "chunk": self.chunk}, segments=self.segments)
        self.passes = self.samples or 10 * self.segments

    def explain(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """Map that is constant on each superpixel; see :class:`~refinecam.attribution.method.AttributionMethod`."""
        check_input(image, target)
        maps = image.new_zeros(len(image), 1, *image.shape[2:], dtype=torch.float32)
        # Captum draws on the CPU alone.
        with eval_mode(model), torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="captum|sklearn")  # of linear models that fit a constant
            if len(image):
                first_logits(model, image, target)
            for i, key in enumerate(content_keys(image)):
                torch.default_generator.manual_seed(int(generator(self.seed, type(self).__name__, key).integers(2**31)))
                maps[i, 0] = self._relevance(model, image[i : i + 1], int(target[i]))
        return normalize(maps)

    def _relevance(self, model: nn.Module, image: Tensor, target: int) -> Tensor:
        """Absolute weight of each pixel's superpixel, shape (H, W); NaN if something is not finite."""
        if not image.isfinite().all():
            return image.new_full(image.shape[2:], torch.nan)
        index = superpixels(image[0], self.segments)
        result = int(index.max()) + 1
        if result == 1:
            return image.new_zeros(image.shape[2:])
        broken = []

        def logit(perturbed: Tensor) -> Tensor:
            values = fast_forward(model, perturbed)[:, target]
            broken.append(not values.isfinite().all())
            return values.nan_to_num(0, 0, 0)

        weights = self.explainer(logit).attribute(
            image,
            feature_mask=index[None, None],
            n_samples=self.samples or 10 * max(self.segments, result),
            perturbations_per_eval=chunk_size(image, self.chunk),
            return_input_shape=False,
        )
        # Captum fits its model on the CPU and leaves the weights there.
        return weights[0].to(index.device).abs()[index] * (torch.nan if any(broken) else 1)

    @abstractmethod
    def explainer(self, logit: Callable[[Tensor], Tensor]) -> captum.attr.Lime | captum.attr.KernelShap:
        """Captum's part of the work."""


@register
@dataclass(eq=False)
class LIME(SuperpixelMethod):
    """Weights of a sparse linear model fitted near the image (Ribeiro et al., KDD 2016); see the base class.

    Args:
        alpha: penalty of the lasso, in units of the logit; captum's default. If no superpixel moves the logit by more,
            the map is 0 everywhere.
        samples, segments, chunk, seed, preset: as in the base class, before ``alpha``.
    """

    alpha: float = 0.01

    def __post_init__(self, preset: str | None) -> None:
        super().__post_init__(preset)
        check_range(0, alpha=self.alpha)

    def explainer(self, logit: Callable[[Tensor], Tensor]) -> captum.attr.Lime:
        """Captum's LIME with this lasso."""
        return captum.attr.Lime(logit, interpretable_model=SkLearnLasso(alpha=self.alpha))


@register
class KernelSHAP(SuperpixelMethod):
    """Shapley values by weighted linear regression (Lundberg and Lee, NeurIPS 2017); see the base class."""

    def explainer(self, logit: Callable[[Tensor], Tensor]) -> captum.attr.KernelShap:
        """Captum's KernelSHAP."""
        return captum.attr.KernelShap(logit)


def superpixels(image: Tensor, segments: int) -> Tensor:
    """SLIC superpixels of one image.

    Args:
        image: shape (C, H, W); its values are scaled to [0, 1] first.
        segments: how many are wished for.

    Returns:
        Index of each pixel's superpixel, counted from 0 without gaps, int64, shape (H, W), on the image's device.
    """
    picture = normalize(image[None].float())[0].permute(1, 2, 0).cpu().numpy().astype(np.float64)
    options = {"n_segments": segments, "compactness": 10, "sigma": 1, "start_label": 0}
    result: Sequence[int] = slic(picture, channel_axis=-1, convert2lab=picture.shape[2] == 3, **options)
    _, index = np.unique(np.asarray(result), return_inverse=True)
    return torch.from_numpy(index.reshape(picture.shape[:2])).long().to(image.device)
