"""Image files."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refinecam.core.errors import InputError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def read_rgb(path: str | Path, argument: str, remedy: str) -> NDArray[np.uint8]:
    """Read an image file as RGB, uint8, shape (H, W, 3), without its alpha channel.

    Raises:
        InputError: of this argument and with this remedy, if the file is not a whole image.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's, for what is no image
        raise InputError(f"{argument}: {path} cannot be read ({error}); {remedy}") from error
