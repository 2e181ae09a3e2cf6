"""ROAD's imputation with its noise."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from refinecam.core.errors import check_range
from refinecam.core.seeding import generator, identities
from refinecam.imputation import impute


def noisy_linear_imputation(
    images: Tensor,
    missing: Tensor,
    noise: float = 0.01,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
) -> Tensor:
    """Fill missing pixels with the weighted mean of their neighbors and add a little noise (Rong et al., 2022).

    Args:
        images: normalized images, shape (N, C, H, W).
        missing: bool, shape (N, 1, H, W), True where a pixel is to be filled.
        noise: standard deviation of the noise on filled pixels, in normalized units.
        seed: seed of the noise.
        index: identity of each image, shape (N,); None takes the images' own values as identity.

    Returns:
        Filled images, shape (N, C, H, W). An image without any known pixel becomes noise around 0.

    Raises:
        InputError: if the shapes do not belong together, or the noise is negative.

    >>> image = torch.tensor([[[[1.0, 5.0, 1.0]]]])
    >>> noisy_linear_imputation(image, image == 5, noise=0)
    tensor([[[[1., 1., 1.]]]])
    """
    check_range(0, noise=noise)
    filled = impute(images, missing)
    return filled + missing * noise_field(images, noise, seed, identities(images, index))


def noise_field(images: Tensor, noise: float, seed: int, keys: Sequence[int]) -> Tensor:
    """Normal noise for each image, the same on every device."""
    if not noise or not len(images):
        return torch.zeros_like(images)
    shape = tuple(images.shape[1:])
    fields = [generator(seed, "road/noise", key).standard_normal(shape, np.float32) for key in keys]
    return noise * torch.from_numpy(np.stack(fields)).to(images)
