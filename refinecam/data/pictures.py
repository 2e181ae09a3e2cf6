"""Image files of any kind, as RGB."""

import os
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from struct import error as StructError
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from refinecam.core.errors import InputError

EXTENSIONS = {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)
"""Exif's tag, and its values for pictures that lie on their side."""
Used = TypeVar("Used")
BROKEN = (OSError, SyntaxError, ValueError, EOFError, StructError, zlib.error, Image.DecompressionBombError)
"""What Pillow raises for what is no whole image."""


def pictures_in(folder: Path, below: bool = True) -> list[Path]:
    """The image files in a folder and below it, sorted; not what systems and programs hide."""
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = sorted(n for n in folders if not n.startswith(".")) if below and real not in seen else []
        if real in seen:  # a link back, or to what was listed
            continue
        seen.add(real)
        found += [Path(place) / name for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in EXTENSIONS and path.is_file())


def read_rgb(path: str | Path, argument: str, remedy: str) -> NDArray[np.uint8]:
    """Read an image file as RGB, uint8, shape (H, W, 3), without its alpha channel.

    It is turned as the camera noted, and values of more than 8 bits are scaled.

    Raises:
        InputError: of this argument and with this remedy, if the file is not a whole image.
    """
    return np.array(open_rgb(path, argument, remedy))


def open_rgb(path: str | Path, argument: str, remedy: str) -> Image.Image:
    """:func:`read_rgb` as a Pillow image.

    Raises:
        InputError: as there.
    """
    return _opened(path, argument, remedy, to_rgb)


def read_mask(path: str | Path, argument: str, remedy: str) -> NDArray[np.bool_]:
    """Which pixels an image file marks, shape (H, W).

    Marked is what has an index of a palette other than 0, 1 where there is nothing but 0 and 1, or at least half of the
    brightest value that the file's type can hold.

    Raises:
        InputError: as :func:`read_rgb`.
    """
    return _opened(path, argument, remedy, _marked)


def _marked(image: Image.Image) -> NDArray[np.bool_]:
    if _is_deep(image):
        return _scaled(image) >= 0.5
    values = np.asarray(image if image.mode in ("P", "1") else image.convert("L"))
    return values > 0 if image.mode == "P" or values.max(initial=0) <= 1 else values >= 128


def size_of(path: Path) -> tuple[int, int] | None:
    """Width and height by a file's head, turned as the camera noted; None if it cannot be read."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ORIENTATION, 1) in TURNED
            return image.size[::-1] if turned else image.size
    except BROKEN:
        return None


def to_rgb(image: Image.Image) -> Image.Image:
    """A Pillow image of any mode as RGB, turned as the camera noted."""
    image = ImageOps.exif_transpose(image)
    if _is_deep(image):
        image = Image.fromarray(np.round(255 * _scaled(image)).astype(np.uint8))
    return image.convert("RGB")


def _opened(path: str | Path, argument: str, remedy: str, use: Callable[[Image.Image], Used]) -> Used:
    shown = os.fsencode(path).decode(errors="replace").replace("\n", "?")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError("it is no file")  # a pipe would be waited for
        with Image.open(path) as image:
            return use(image)
    except BROKEN as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"{argument}: {shown} cannot be read ({reason:.100}); {remedy}") from error


def _is_deep(image: Image.Image) -> bool:
    """Whether its values have more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def _scaled(image: Image.Image) -> NDArray[np.float64]:
    """Values in [0, 1]: of the range that holds them, 8 or 16 bits or, of larger or real ones, their own."""
    values = np.asarray(image, np.float64)
    high = max(values.max(initial=0), 0)
    limits = [1.0] if image.mode == "F" else []
    limit = next((limit for limit in [*limits, 255.0, 65535.0] if high <= limit), high)
    if image.mode.startswith("I;16"):
        limit = 65535.0
    return np.nan_to_num(values / limit).clip(0, 1)
