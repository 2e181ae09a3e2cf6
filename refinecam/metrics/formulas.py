"""What the scores are made of: small formulas on tensors, one value for each image."""

import torch
from torch import Tensor

from refinecam.core.checks import check_tensor
from refinecam.core.errors import InputError
from refinecam.core.precision import narrow, wide

ROUNDING = 1e-6
"""By how much a map that was resized may leave [0, 1]."""


def check_maps(maps: Tensor, images: Tensor | None = None) -> None:
    """Refuse maps of the wrong shape or range. A map with NaN or infinities passes: its score is NaN.

    Raises:
        InputError: naming what was expected.
    """
    check_form(maps, images)
    outside = maps[((maps < -ROUNDING) | (maps > 1 + ROUNDING)) & maps.isfinite()]
    if len(outside):
        raise InputError(
            f"maps: expected values in [0, 1], got {outside[0].item():.4g}; min-max normalize each map first"
        )


def check_form(maps: Tensor, images: Tensor | None = None, name: str = "maps") -> None:
    """Refuse maps of the wrong type or shape.

    Raises:
        InputError: naming what was expected, and how to get there.
    """
    check_tensor(name, maps, "float tensor (N, 1, H, W)")
    if maps.ndim != 4 or maps.shape[1] != 1 or not maps.is_floating_point():
        remedy = "; use .unsqueeze(1)" if maps.ndim == 3 else ""
        remedy = remedy if maps.is_floating_point() else f"{remedy}; use .float()"
        raise InputError(f"{name}: expected a float tensor (N, 1, H, W), got {maps.dtype} {tuple(maps.shape)}{remedy}")
    if images is not None and (images.ndim != 4 or maps.shape != (len(images), 1, *images.shape[2:])):
        size = tuple(images.shape[2:])
        resized = f'; use torch.nn.functional.interpolate(maps, {size}, mode="bilinear")'
        raise InputError(
            f"{name}: expected one map a pixel of each image, images {tuple(images.shape)}, got {tuple(maps.shape)}"
            + (resized if len(maps) == len(images) else "")
        )


def check_masks(maps: Tensor, masks: Tensor) -> None:
    """Refuse maps or ground truth of the wrong shape or range.

    Raises:
        InputError: naming what was expected.
    """
    check_maps(maps)
    check_tensor("masks", masks, "tensor (N, 1, H, W)")
    if masks.shape != maps.shape:
        remedy = "; use masks.unsqueeze(1)" if masks.ndim == 3 else ""
        raise InputError(f"masks: expected the maps' shape {tuple(maps.shape)}, got {tuple(masks.shape)}{remedy}")
    if not ((masks == 0) | (masks == 1)).all():
        raise InputError(
            "masks: expected values 0 and 1 only; for 0 to 255 use (masks > 127).float(), for soft ones 0.5"
        )


def undefined(maps: Tensor) -> Tensor:
    """Which maps say nothing, bool (N,): constant ones, and those with NaN or infinities."""
    constant = maps.amin((1, 2, 3)) == maps.amax((1, 2, 3))
    return constant | ~maps.isfinite().all(3).all(2).all(1)


def relative_drop(before: Tensor, after: Tensor) -> Tensor:
    """max(0, before - after) / before; 0 where before is 0."""
    drop = (before - after).clamp(min=0)
    return torch.where(before == 0, drop, drop / before)


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation of each pair of maps, in [-1, 1]; NaN where the first is constant, 0 where the second is.

    A method that finds nothing in the masked image gives a map without information about the first one.
    """
    device, a, b = a, wide(a.flatten(1)), wide(b.flatten(1))
    flat_a, flat_b = a.amin(1) == a.amax(1), b.amin(1) == b.amax(1)
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    norms = a.norm(dim=1) * b.norm(dim=1)
    correlation = ((a * b).sum(1) / norms).clamp(-1, 1)
    return narrow(correlation.masked_fill(flat_b, 0).masked_fill(flat_a, torch.nan), device)


def harmonic_mean(*terms: Tensor) -> Tensor:
    """Harmonic mean of terms in [0, 1]; 0 where one of them is 0, NaN where one is NaN."""
    return len(terms) / torch.stack([1 / term.clamp(min=0) for term in terms]).sum(0)
