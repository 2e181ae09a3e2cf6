"""How many images go through a network at once, and fewer where memory runs out."""

import re
from collections.abc import Callable
from warnings import warn

import torch
from torch import Tensor

from refinecam.core.errors import InputError

USUAL = {"cpu": 16 * 224 * 224, "cuda": 128 * 224 * 224}
"""Pixels at once where nobody says: a CPU has a cache to care for."""
ROOM: dict[torch.device, int] = {}
"""Pixels at once on devices whose memory has run out."""
RAN_OUT = re.compile("out of memory|can't allocate memory|ALLOC_FAILED")


class TooLittleMemory(InputError, MemoryError):
    """There is not enough memory for one image; around it there may be work on many, of which fewer would do."""


def chunk_size(images: Tensor, wished: int | None = None) -> int:
    """How many images go through a network at once: where nobody says 16 of 224 px on a CPU, 128 on a GPU."""
    if wished is not None:
        return int(wished)
    device = images.device
    pixels = ROOM.get(device, USUAL.get(device.type, USUAL["cuda"]))
    return max(1, pixels // max(1, images.shape[2] * images.shape[3]))


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
    pixels = max(1, images.shape[2] * images.shape[3])
    while True:
        known = images.device in ROOM
        size = max(1, ROOM[images.device] // pixels) if known else len(images)
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
    room = chunk_size(images)
    if room == used == 1:
        shape = "x".join(map(str, images.shape[2:]))
        raise TooLittleMemory(f"images: there is not enough memory for one of {shape} pixels: {reason}")
    if room >= used:  # a part of the work may have made room already
        room = (used if used > 1 else room) // 2
        ROOM[images.device] = room * images.shape[2] * images.shape[3]
        warn(f"memory ran out at {used} images at once; going on with {room}: {reason}", stacklevel=1)
    if images.device.type == "cuda":
        torch.cuda.empty_cache()
