"""How many images go through a network at once, and fewer where memory runs out."""

import re
import sys
from collections.abc import Callable
from warnings import warn

import torch
from torch import Tensor

from refinecam.core.errors import InputError

USUAL = {"cpu": 16 * 224 * 224, "cuda": 128 * 224 * 224}
"""Default of the pixels at once; few on a CPU, so that they fit its cache."""
ROOM: dict[torch.device, int] = {}
"""Pixels at once on devices whose memory has run out."""
RAN_OUT = re.compile("out of memory|can't allocate memory|ALLOC_FAILED")


class TooLittleMemory(InputError, MemoryError):
    """There is not enough memory for one image; around it there may be work on many, of which fewer would do."""


def chunk_size(images: Tensor, wished: int | None = None) -> int:
    """How many images go through a network at once: where nobody says 16 of 224 px on a CPU, 128 on a GPU."""
    usual = USUAL.get(images.device.type, USUAL["cuda"]) // _pixels(images)
    return max(1, min(usual if wished is None else int(wished), _room(images)))


def _pixels(images: Tensor) -> int:
    return max(1, images.shape[2] * images.shape[3])


def _room(images: Tensor) -> int:
    """How many images there has been memory for, at least one; a number beyond all where it has not run out."""
    return max(1, ROOM.get(images.device, sys.maxsize) // _pixels(images))


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory, on whichever device."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(RAN_OUT.search(str(error))))


def in_room(run: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """What ``run`` makes of the rows; where memory runs out, of half as many at once from then on.

    Args:
        run: works on each row by itself.
        rows: images (N, C, H, W), and further tensors (N, …).

    Raises:
        TooLittleMemory: if there is not enough for one image.
    """
    images = rows[0]
    while True:
        size = _room(images)
        try:
            if size >= len(images):
                return run(*rows)
            return torch.cat([run(*part) for part in zip(*(values.split(size) for values in rows), strict=True)])
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
        _shrink(images, min(size, len(images)), reason)


def _shrink(images: Tensor, used: int, reason: str) -> None:
    """Note that so many images at once were too many, and say so, once for each number."""
    if _room(images) >= used:  # otherwise a part of the work has made room already
        tried = used if used > 1 else chunk_size(images)  # with one image it is what is inside that goes in chunks
        if tried == 1:
            shape = "x".join(map(str, images.shape[2:]))
            raise TooLittleMemory(f"images: there is not enough memory for one of {shape} pixels: {reason}")
        ROOM[images.device] = tried // 2 * _pixels(images)
        warn(f"memory ran out at {tried} images at once; going on with {tried // 2}: {reason}", stacklevel=1)
    if images.device.type == "cuda":
        torch.cuda.empty_cache()
