"""Which pixels go first: exact fractions by rank, ties broken by a seeded draw."""

from collections.abc import Sequence
from numbers import Real
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from refinecam.core.errors import InputError
from refinecam.core.precision import wide
from refinecam.core.seeding import generator

TIE = 1e-5
Ranking = Literal["exact", "percentile"]


def relevance_ranks(maps: Tensor, seed: int, keys: Sequence[int]) -> Tensor:
    """Rank of each pixel from least (0) to most relevant (H * W - 1).

    Pixels that differ by less than one part in 100,000 are equal: a map made in a batch of another size differs by so
    much, and the plateaus of an enlarged coarse map must not fall into the order of its rounding errors. See
    :func:`plateaus`.

    Args:
        maps: shape (N, 1, H, W).
        seed: seed of the order among equal pixels.
        keys: identity of each image.

    Returns:
        Ranks, int64, shape (N, 1, H, W), all different within an image.
    """
    if not len(maps):
        return torch.zeros(maps.shape, dtype=torch.int64, device=maps.device)
    flat = maps.flatten(1)
    draws = [generator(seed, "road/ties", key).permutation(flat.shape[1]) for key in keys]
    shuffle = torch.from_numpy(np.stack(draws)).to(maps.device)
    values, order = flat.gather(1, shuffle).sort(dim=1)
    order = (plateaus(values) * flat.shape[1] + order).sort(dim=1).values % flat.shape[1]
    order = shuffle.gather(1, order)
    positions = torch.arange(flat.shape[1], device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, positions).view(maps.shape)


def plateaus(ordered: Tensor) -> Tensor:
    """Number of each value's plateau, for rising values (N, P): equal ones share it, and those that nearly are.

    A plateau ends where the next value is more than one part in 100,000 away. Dense values would chain on without end,
    as the many small ones of a product of maps do, so it also ends wherever it has grown as wide as that, counted from
    the chain's lowest value (which may fall into a flat part of it).
    """
    starts = ordered.diff(dim=1, prepend=ordered[:, :1]) > ordered * TIE
    lowest = torch.where(starts, ordered, ordered[:, :1]).cummax(1).values
    width = ((ordered - lowest) / (lowest * TIE).clamp(min=torch.finfo(ordered.dtype).tiny)).floor()
    return (starts | (width.diff(dim=1, prepend=width[:, :1]) != 0)).cumsum(1)


def missing_pixels(ranks: Tensor, percentiles: Sequence[float]) -> Tensor:
    """Masks of the pixels that ROAD takes away.

    Args:
        ranks: from :func:`relevance_ranks`, shape (N, 1, H, W).
        percentiles: shares to take away, in percent, each in (0, 100).

    Returns:
        bool, shape (N, 2 * P, 1, H, W): for each percentile the least relevant pixels (LeRF), then for each
        percentile the most relevant (MoRF).
    """
    total = ranks.shape[2] * ranks.shape[3]
    counts = [round(total * p / 100) for p in percentiles]
    least = [ranks < count for count in counts]
    most = [ranks >= total - count for count in counts]
    return torch.stack(least + most, 1)


def missing_by_percentile(maps: Tensor, percentiles: Sequence[float]) -> Tensor:
    """The same by grad-cam's rule: all pixels at or above the map's percentile go, however many are equal to it.

    For its ``percentiles`` grad-cam takes the percentage that stays: 20 there is 80 here.

    Args:
        maps: shape (N, 1, H, W).
        percentiles: shares to take away, in percent, each in (0, 100).

    Returns:
        bool, shape (N, 2 * P, 1, H, W), as from :func:`missing_pixels`.
    """
    levels = 1 - torch.tensor(percentiles, dtype=torch.float64) / 100
    missing = []
    for values in (1 - maps, maps):
        exact = wide(values)
        thresholds = exact.flatten(1).quantile(levels.to(exact.device), dim=1)
        missing += [(exact >= threshold[:, None, None, None]).to(maps.device) for threshold in thresholds]
    return torch.stack(missing, 1)


def check_percentiles(percentiles: Sequence[float]) -> None:
    """Refuse shares outside (0, 100) percent, or that are all below 1 and so were meant as fractions.

    Raises:
        InputError: naming them.
    """
    several = isinstance(percentiles, list | tuple) and len(percentiles) > 0
    if not several or not all(isinstance(p, Real) and 0 < p < 100 for p in percentiles):
        raise InputError(f"percentiles: expected numbers in (0, 100), such as (20, 40), got {percentiles!r}")
    if max(percentiles) < 1:
        raise InputError(f"percentiles: expected percent, such as 20 for a fifth, got {tuple(percentiles)}")
