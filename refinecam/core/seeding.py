"""Random draws that belong to a sample, not to a batch, a worker or a process.

Every draw comes from a generator made from (seed, purpose, index), so that results do not depend on the batch
size, on the number of workers or processes, or on the order; the global generators are never touched.
"""

import zlib
from collections.abc import Sequence
from numbers import Integral
from os import PathLike, fsencode

import numpy as np
from torch import Tensor

from refinecam.core.errors import InputError, check_not_negative


def generator(seed: int, purpose: str, index: int) -> np.random.Generator:
    """Generator for one purpose of one sample.

    Args:
        seed: the experiment's seed, at least 0.
        purpose: what is drawn, for example ``"train/color"``; different purposes give independent streams.
        index: identity of the sample, at least 0.

    >>> generator(0, "noise", 7).random() == generator(0, "noise", 7).random()
    True
    """
    check_not_negative(seed=seed, index=index)
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), index])


def content_keys(images: Tensor) -> list[int]:
    """Identity of each image where no index is known: a checksum of its own values.

    Args:
        images: any tensor whose first dimension counts samples.

    >>> import torch
    >>> len(set(content_keys(torch.eye(3))))
    3
    """
    return [zlib.crc32(row.numpy().tobytes()) for row in images.detach().float().cpu().contiguous()]


def identities(images: Tensor, index: Sequence[int] | Tensor | None) -> list[int]:
    """Identity of each image: its index, or where none is known a checksum of its values."""
    return content_keys(images) if index is None else as_index(index, len(images))


def as_index(index: Sequence[int | str | PathLike] | np.ndarray | Tensor, count: int) -> list[int]:
    """The identities of so many images as numbers; of names, such as file names, a checksum.

    Raises:
        InputError: if they are none, or not as many.
    """
    values = index.tolist() if isinstance(index, Tensor | np.ndarray) and index.ndim == 1 else index
    listed = isinstance(values, list | tuple | range) and len(values) == count
    known = listed and all(isinstance(v, str | PathLike) or (isinstance(v, Integral) and int(v) >= 0) for v in values)
    if not known:
        raise InputError(
            f"index: expected a whole number, at least 0, or a name for each of {count} images, got {index!r}"
        )
    return [zlib.crc32(fsencode(v)) if isinstance(v, str | PathLike) else int(v) for v in values]
