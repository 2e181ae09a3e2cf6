"""Geometric shapes over busy backgrounds: images whose explanation is known to the pixel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from refinecam.data.backgrounds import Backgrounds, Image
from refinecam.data.transforms import JointTransform
from refinecam.errors import InputError
from refinecam.seeding import generator

CLASSES = (
    "circle, filled",
    "circle, empty",
    "square, filled",
    "square, empty",
    "triangle, filled",
    "triangle, empty",
)
CANVAS = 256
"""The canvas, in pixels, that sizes are given for."""
Bands = tuple[tuple[float, float], ...]
BANDS: Bands = ((80, 100), (40, 50), (20, 25))
SMALLEST = 3.7
"""Pixels of diameter below which nothing may be left of an empty triangle."""
VISIBLE = 48
"""Steps of 256, in one channel at least, by which a shape's color differs from what it covers."""
SUBPIXEL = 4
CONTROLS = {"shape removed": "chance", "other background": "same", "gray background": "same"}
"""Images that tell whether a network looks at the shape, with the accuracy to expect: chance, or that of the images."""
LEAST_ACCURACY = (0.99, 0.975)
"""Of all images, and of the smallest band: only of a network that tells them, the shape is the explanation."""


@dataclass(frozen=True)
class Drawing:
    """What one index of the data set is, before the transform.

    Attributes:
        image: uint8 RGB, shape (canvas, canvas, 3).
        mask: uint8 in {0, 1}, shape (canvas, canvas, 1), 1 exactly where the shape was painted.
        label: index into :data:`CLASSES`.
        band: index of the size band.
        background: the image before the shape was painted on it.
        color: of the shape.
        center: of the shape, (x, y) in pixels of the canvas.
        size: diameter in pixels of the circle through the shape's corners.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    label: int
    band: int
    background: NDArray[np.uint8]
    color: tuple[int, int, int]
    center: tuple[float, float]
    size: float


def visible_color(rng: np.random.Generator, covered: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Draw colors until one hides in at most a quarter of the covered pixels, shape (K, 3).

    To hide is to differ by less than :data:`VISIBLE` in every channel. A color hides in a given pixel with a
    probability of at most 5.1%, so at most 21% of the draws are repeated, whatever is covered.
    """
    while True:
        color = rng.integers(0, 256, 3)
        hidden = (np.abs(covered.astype(np.int16) - color) < VISIBLE).all(1)
        if hidden.mean() <= 0.25:
            red, green, blue = color.tolist()
            return red, green, blue


class ShapesDataset(Dataset):
    """Six balanced classes: circle, square and triangle, filled and empty, one shape in each image.

    Label, color, size, rotation, place and background come from independent random streams, each seeded by
    (seed, split, index): no factor tells another, and a sample is the same for any order and any worker. Place does
    not depend on size: every shape keeps the distance from the border that the largest needs. The color is the first
    of its stream that can be told from what the shape covers (:func:`visible_color`): what cannot be seen is no
    ground truth.

    Args:
        backgrounds: banks of background views, each drawn from equally often.
        transform: the backbone's joint transform.
        split: ``"train"``, ``"val"`` or ``"test"``.
        size: number of samples.
        seed: seed of the whole data set.
        bands: (low, high) of each size band: diameters, on a canvas of 256 px, of the circle through the corners.
        offset: index of the first sample; epochs of training take successive stretches of an endless data set.
        crop: side of a square view around the shape, for a training curriculum; shapes larger than 0.9 of
            it are scaled to between 0.5 and 0.9 of it. The transform then only normalizes.
        fill: scale every shape so.
        as_bytes: leave images and masks in uint8, for :meth:`JointTransform.normalize` to finish on their device.
        controls: add to each sample its :data:`CONTROLS`, dict of images (3, S, S), and its ``factors``: what must not
            tell the label, color (3,), position (2,) and size (1,).
    """

    def __init__(
        self,
        backgrounds: Sequence[Backgrounds],
        transform: JointTransform,
        split: str,
        size: int,
        seed: int = 0,
        bands: Bands = BANDS,
        offset: int = 0,
        crop: int | None = None,
        fill: bool = False,
        as_bytes: bool = False,
        controls: bool = False,
    ) -> None:
        self.backgrounds, self.split, self.size = backgrounds, split, size
        self.as_bytes, self.controls = as_bytes, controls
        self.seed, self.bands, self.offset, self.crop, self.fill = seed, bands, offset, crop, fill
        self.transform = transform
        if controls and len({id(picture) for bank in backgrounds for picture in bank.pictures}) < 2:
            raise InputError(
                f"controls: another background needs at least 2 pictures in the {split} split, there is 1; add "
                "pictures, or use --data.controls false"
            )
        self.scale = transform.canvas / CANVAS
        self.margin = max(high for _, high in bands) / 2 * self.scale + 1
        if crop is not None:
            if not 0 < crop <= transform.canvas:
                raise InputError(
                    f"crop: expected 1 to {transform.canvas} pixels, the canvas that views are cut from, got {crop}"
                )
            self.transform = JointTransform(crop, crop, transform.mean, transform.std)
        elif 2 * self.margin >= transform.image_size:
            largest = max(high for _, high in bands)
            raise InputError(
                f"bands: shapes of {largest:g} px, on a canvas of {CANVAS} px, have {largest * self.scale:.0f} px in "
                f"images of {transform.image_size} px, into which they do not fit; give smaller ones"
            )

        smallest = min(low for low, _ in bands) * self.scale
        smallest = smallest if crop is None else crop / 2 if fill else min(smallest, crop / 2)
        if smallest < SMALLEST:
            name = "bands" if crop is None or smallest < crop / 2 else "crop"
            raise InputError(
                f"{name}: shapes of {smallest:.3g} px are not to be told apart, only from {SMALLEST} px on"
            )

    def __len__(self) -> int:
        return self.size

    def draw(self, index: int) -> Drawing:
        """Draw a sample by its index, counted from the start of the endless data set."""
        block, place_in_block = divmod(index, len(CLASSES))
        label = int(self._rng("label", block).permutation(len(CLASSES))[place_in_block])
        rng = self._rng("size", index)
        band = int(rng.integers(len(self.bands)))
        size = float(rng.uniform(*self.bands[band])) * self.scale
        rotation = float(self._rng("rotation", index).uniform(0, 2 * np.pi))
        shares = self._rng("place", index).random(2)
        canvas = self.transform.canvas
        margin = self.margin
        if self.crop is not None:
            if self.fill or size > 0.9 * self.crop:
                size = float(self._rng("crop", index).uniform(0.5, 0.9)) * self.crop
            margin = size / 2 + 1
        border = (canvas - self.transform.image_size) / 2
        low, high = border + margin, canvas - 1 - border - margin
        x, y = (low + shares * (high - low)).tolist()
        _, background = self._background("background", index)
        mask = shape_mask(label, (x, y), size, rotation, canvas)
        around = tuple(slice(max(0, int(at - size / 2) - 2), int(at + size / 2) + 3) for at in (y, x))
        image, shape = background.copy(), mask[around] == 1
        color = visible_color(self._rng("color", index), background[around][shape])
        image[around][shape] = color
        return Drawing(image, mask[..., None], label, band, background, color, (x, y), size)

    def __getitem__(self, position: int) -> dict[str, Any]:
        if not 0 <= position < self.size:
            raise IndexError(f"index {position} is outside a data set of {self.size} samples")
        index = self.offset + position
        drawing = self.draw(index)
        transform = self.transform.as_bytes if self.as_bytes else self.transform
        sample = transform(drawing.image, drawing.mask)
        named = {**sample, "label": drawing.label, "index": index, "band": drawing.band}
        return {**named, **self._controls(drawing, index)} if self.controls else named

    def _controls(self, drawing: Drawing, index: int) -> dict[str, Any]:
        shown = self._background("background", index)[0]
        _, other = self._background("other background", index, other_than=shown)
        gray = np.full_like(other, 128)
        images = (drawing.background, *(np.where(drawing.mask == 1, drawing.image, b) for b in (other, gray)))
        factors = {"color": drawing.color, "position": drawing.center, "size": (drawing.size,)}
        return {
            "controls": {
                name: self.transform(image, drawing.mask)["image"] for name, image in zip(CONTROLS, images, strict=True)
            },
            "factors": {name: torch.tensor(values, dtype=torch.float32) for name, values in factors.items()},
        }

    def _background(self, factor: str, index: int, other_than: Image | None = None) -> tuple[Image, Image]:
        """A picture, any but ``other_than``, and a view of it."""
        rng = self._rng(factor, index)
        while True:
            bank = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
            pick = int(rng.integers(len(bank.pictures)))
            if bank.pictures[pick] is not other_than:
                return bank.pictures[pick], bank.view(rng, self.transform.canvas, pick)

    def _rng(self, factor: str, index: int) -> np.random.Generator:
        return generator(self.seed, f"{self.split}/{factor}", index)


def shape_mask(label: int, center: tuple[float, float], size: float, rotation: float, canvas: int) -> NDArray[np.uint8]:
    """Pixels of one shape, not anti-aliased.

    Args:
        label: index into :data:`CLASSES`.
        center: (x, y) in pixels.
        size: diameter in pixels of the circle through the corners.
        rotation: in radians.
        canvas: side of the square mask.

    Returns:
        uint8 in {0, 1}, shape (canvas, canvas).
    """
    corners, empty = (64, 4, 3)[label // 2], label % 2 == 1
    angles = rotation + 2 * np.pi * np.arange(corners) / corners
    directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    mask = np.zeros((canvas, canvas), np.uint8)

    def fill(radius: float, value: int) -> None:
        points = np.round((np.array(center) + radius * directions) * 2**SUBPIXEL).astype(np.int32)
        cv2.fillPoly(mask, [points], value, shift=SUBPIXEL)

    fill(size / 2, 1)
    if empty:
        wall = max(2.0, 0.08 * size)
        inner = size / 2 - wall / np.cos(np.pi / corners)
        fill(max(inner, 1.0), 0)
    return mask
