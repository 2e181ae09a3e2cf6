"""Maps that explain nothing: what a trustworthy score must rate low."""

import numpy as np
import torch
from torch import Tensor, nn

from refinecam.attribution.method import AttributionMethod, register
from refinecam.core.checks import check_input
from refinecam.core.errors import check_not_negative
from refinecam.core.seeding import content_keys, generator


@register
class RandomCAM(AttributionMethod):
    """Uniform noise, drawn anew for each image.

    The noise is seeded by the image's own values: the same image gives the same map in any batch, and a masked image
    another one, as for any method that looks at its image.

    Args:
        seed: seed of the noise.
    """

    def __init__(self, seed: int = 0) -> None:
        check_not_negative(seed=seed)
        self.seed = seed

    def explain(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """Noise in [0, 1]; the model is not asked."""
        check_input(image, target)
        shape = tuple(image.shape[2:])
        noise = [generator(self.seed, "RandomCAM", key).random(shape, np.float32) for key in content_keys(image)]
        stacked = torch.from_numpy(np.stack(noise)) if noise else torch.zeros(0, *shape)
        return stacked.unsqueeze(1).to(image.device)


@register
class HalfCAM(AttributionMethod):
    """0.5 everywhere, but 0 at the first pixel and 1 at the last. Fools Average Drop and ADCC."""

    def explain(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """The same map for every image; the model is not asked."""
        maps = _constant(image, target, 0.5)
        maps[:, :, 0, 0] = 0
        maps[:, :, -1, -1] = 1
        return maps


@register
class All1sCAM(AttributionMethod):
    """1 everywhere, but 0 at the first pixel. Has no Average Drop."""

    def explain(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """The same map for every image; the model is not asked."""
        maps = _constant(image, target, 1.0)
        maps[:, :, 0, 0] = 0
        return maps


def _constant(image: Tensor, target: Tensor, value: float) -> Tensor:
    check_input(image, target)
    return torch.full((len(image), 1, *image.shape[2:]), value, device=image.device)
