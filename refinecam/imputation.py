"""Filling missing pixels with the weighted mean of their neighbours, for a whole batch at once.

The linear system of ROAD's imputation (Rong et al., ICML 2022) is homogeneous diffusion inpainting. It is solved
by conjugate gradients with a multigrid V-cycle as preconditioner: a handful of iterations whatever the size and
shape of the holes, in tensor operations on the images' device.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from refinecam.errors import InputError

TOLERANCE = 3e-6
MAX_ITERATIONS = 100
COARSEST = 4
CACHED_VALUES = 2**20


def impute(images: Tensor, missing: Tensor) -> Tensor:
    r"""Replace each missing pixel by the weighted mean of its 8 neighbours, solved jointly for all of them.

    The weights are 1/6 for direct and 1/12 for diagonal neighbours; neighbours outside the image drop out and the
    others are renormalised. For a missing pixel i, with J the neighbours inside the image:

    .. math:: \sum_{j \in J} w_{ij} x_i = \sum_{j \in J} w_{ij} x_j

    Args:
        images: shape (N, C, H, W), floating point.
        missing: bool, shape (N, 1, H, W), True where the pixel is to be filled. What lies there is ignored.

    Returns:
        Filled images, shape (N, C, H, W). An image without any known pixel becomes 0 everywhere.

    Raises:
        InputError: if the shapes do not belong together or ``missing`` is not bool.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise InputError(f"images: expected a float tensor (N, C, H, W), got {images.dtype} {tuple(images.shape)}")
    expected = (len(images), 1, *images.shape[2:])
    if missing.dtype != torch.bool or missing.shape != expected:
        raise InputError(f"missing: expected a bool tensor {expected}, got {missing.dtype} {tuple(missing.shape)}")
    if images.device.type == "cpu" and len(images):  # what stays in the cache is solved several times faster
        size = max(1, CACHED_VALUES // images[0].numel())
        return torch.cat([_impute(images[i : i + size], missing[i : i + size]) for i in range(0, len(images), size)])
    return _impute(images, missing)


def _impute(images: Tensor, missing: Tensor) -> Tensor:
    known = ~missing
    # Only differences to the mean of the known pixels are solved for: a constant surrounding is then exact at once.
    values = images.float().masked_fill(missing, 0)
    mean = values.sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp(min=1)
    contrast = (values - mean).masked_fill(missing, 0)
    levels = _levels(missing & known.any(-1, keepdim=True).any(-2, keepdim=True))
    filled = mean + _solve(_neighbours(contrast) * levels[0][0], levels)
    return torch.where(missing, filled.to(images.dtype), images)


def _neighbours(x: Tensor) -> Tensor:
    """Weighted sum of the 8 neighbours; ([1,2,1] x [1,2,1] - 4 delta) / 12 with zeros outside."""
    padded = F.pad(x, (1, 1, 1, 1))
    rows = padded[..., :-2, :] + padded[..., 2:, :]
    rows.add_(padded[..., 1:-1, :], alpha=2)
    out = rows[..., :-2] + rows[..., 2:]
    return out.add_(rows[..., 1:-1], alpha=2).sub_(x, alpha=4).div_(12)


def _levels(missing: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Per grid, fine to coarse: unknown cells (0 or 1), diagonal of the system, its inverse on unknown cells.

    A coarse cell is unknown only where all of its fine cells inside the image are.
    """
    levels = []
    unknown = missing.float()
    while True:
        diagonal = _neighbours(torch.ones_like(unknown[:1]))
        # A 1 x 1 grid has no neighbours; its diagonal is never used, only kept from dividing by zero.
        levels.append((unknown, diagonal, unknown / diagonal.clamp(min=1e-6)))
        if min(unknown.shape[2:]) < COARSEST:
            return levels
        unknown = (F.avg_pool2d(unknown, 2, ceil_mode=True, count_include_pad=False) == 1).float()
        if not unknown.any():
            return levels


def _apply(x: Tensor, level: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    unknown, diagonal, _ = level
    return (x * diagonal).sub_(_neighbours(x)).mul_(unknown)


def _v_cycle(residual: Tensor, levels: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Approximate solution for ``residual``: Jacobi smoothing (optimal undamped for this stencil) on every grid.

    A grid without coarser ones is treated as if these had no unknown cells: what becomes of an image does not depend
    on how deep the grids of its companions in the batch go.
    """
    inverse = levels[0][2]
    height, width = residual.shape[2:]
    x = residual * inverse
    if len(levels) == 1:
        for _ in range(4 if min(height, width) < COARSEST else 1):
            x = x + inverse * (residual - _apply(x, levels[0]))
        return x
    rest = F.pad(residual - _apply(x, levels[0]), (0, width % 2, 0, height % 2))
    coarse = rest[..., ::2, ::2] + rest[..., 1::2, ::2] + rest[..., ::2, 1::2] + rest[..., 1::2, 1::2]
    correction = _v_cycle(coarse * levels[1][0], levels[1:])
    correction = F.interpolate(correction, scale_factor=2, mode="bilinear")[..., :height, :width]
    x = x.addcmul_(correction, levels[0][0])
    return x + inverse * (residual - _apply(x, levels[0]))


def _solve(right: Tensor, levels: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Flexible preconditioned conjugate gradients, one system per image and channel.

    A converged system no longer moves, so that its solution does not depend on its companions in the batch.
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((2, 3), keepdim=True)

    x, residual = torch.zeros_like(right), right
    goal = dot(right, right) * TOLERANCE**2
    direction, previous, scale = torch.zeros_like(right), right, torch.ones_like(goal)
    for _ in range(MAX_ITERATIONS):
        active = dot(residual, residual) > goal
        if not active.any():
            break
        z = _v_cycle(residual, levels)
        direction = z + direction * (dot(z, residual - previous) / scale)
        product = _apply(direction, levels[0])
        scale = dot(z, residual)
        curvature = dot(direction, product)
        active &= curvature > 0
        step = torch.where(active, scale / curvature, torch.zeros_like(scale))
        scale = torch.where(active, scale, torch.ones_like(scale))
        x = x + step * direction
        previous, residual = residual, residual - step * product
    return x
