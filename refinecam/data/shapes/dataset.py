"""Geometric shapes over busy backgrounds: images whose explanation is known to the pixel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from refinecam.core.errors import InputError
from refinecam.core.seeding import generator
from refinecam.data.shapes.backgrounds import Backgrounds, Image
from refinecam.data.shapes.drawing import (
    BANDS,
    CANVAS,
    CLASSES,
    REACH,
    STYLES,
    Bands,
    Shape,
    Style,
    paper_mask,
    paper_shape,
    varied_factors,
    varied_mask,
)
from refinecam.data.transforms import JointTransform

SMALLEST = 3.7
"""Pixels of size below which nothing may be left of an empty triangle."""
VISIBLE = 48
"""Steps of 256, in one channel at least, by which a shape's color differs from what it covers."""
CONTROLS = {"shape removed": "chance", "other background": "same", "gray background": "same"}
"""Control images, which show whether a network uses the shape, and their expected accuracy: chance, or unchanged."""
LEAST_ACCURACY = (0.99, 0.975)
"""Of all images, and of the smallest band: only for a network this accurate is the shape the explanation."""


@dataclass(frozen=True, kw_only=True)
class Drawing(Shape):
    """What one index of the data set is, before the transform.

    Attributes:
        image: uint8 RGB, shape (canvas, canvas, 3).
        mask: uint8 in {0, 1}, shape (canvas, canvas, 1), 1 exactly where the shape was painted.
        background: the image before the shape was painted on it.
        color: of the shape.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    background: NDArray[np.uint8]
    color: tuple[int, int, int]


def visible_color(rng: np.random.Generator, *regions: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Draw colors until one hides in at most a quarter of the pixels of each region, shape (K, 3).

    To hide is to differ by less than :data:`VISIBLE` in every channel. A color hides in a given pixel with a
    probability of at most 5.1%, so of two regions at most 41% of the draws are repeated, whatever is covered.
    """
    while True:
        color = rng.integers(0, 256, 3)
        hidden = [(np.abs(region.astype(np.int16) - color) < VISIBLE).all(1) for region in regions]
        if all(pixels.mean() <= 0.25 for pixels in hidden if len(pixels)):
            red, green, blue = color.tolist()
            return red, green, blue


class ShapesDataset(Dataset):
    """Six balanced classes: circle, square and triangle, filled and empty, one shape in each image.

    Label, size, place, rotation, wall, corners, a triangle's proportions, color and background come from independent
    random streams, each seeded by (seed, split, index): no factor predicts another, and a sample is the same for any
    order and any worker. Place does not depend on size: every shape keeps the distance from the border that the largest
    needs. The color is the first of its stream that stands out from what the wall and the hole cover
    (:func:`visible_color`): what cannot be seen is no ground truth. Whether a shape is filled does not enter
    into that.

    ``style="paper"`` draws as the paper's public code does, in any color, :func:`.drawing.paper_shape`; but its label
    has a stream of its own.

    Args:
        backgrounds: banks of background views, each drawn from equally often.
        transform: the backbone's joint transform.
        split: ``"train"``, ``"val"`` or ``"test"``.
        size: number of samples.
        seed: seed of the whole data set.
        style: ``"varied"`` or ``"paper"``, whose sizes are the default bands.
        bands: (low, high) of each size band, on a canvas of 256 px.
        offset: index of the first sample; epochs of training take successive stretches of an endless data set.
        crop: side of a square view around the shape, for a training curriculum; those that may reach over more than
            0.9 of it are scaled to between 0.5 and 0.9 of it. The transform then only normalizes.
        fill: scale every shape so.
        as_bytes: leave images and masks in uint8, for :meth:`JointTransform.normalize` to finish on their device.
        controls: add to each sample its :data:`CONTROLS`, dict of images (3, S, S), and its ``factors``, which must not
            predict the label: color (3,), position (2,) and size (1,).
    """

    def __init__(
        self,
        backgrounds: Sequence[Backgrounds],
        transform: JointTransform,
        split: str,
        size: int,
        seed: int = 0,
        style: Style = "varied",
        bands: Bands = BANDS,
        offset: int = 0,
        crop: int | None = None,
        fill: bool = False,
        as_bytes: bool = False,
        controls: bool = False,
    ) -> None:
        self.backgrounds, self.split, self.size, self.style = backgrounds, split, size, style
        self.as_bytes, self.controls = as_bytes, controls
        self.seed, self.bands, self.offset, self.crop, self.fill = seed, bands, offset, crop, fill
        self.transform = transform
        self.canvas = CANVAS if style == "paper" else transform.canvas
        if style == "paper" and (crop is not None or bands != BANDS):
            raise InputError("style: paper has the paper's own sizes and whole images; take varied for bands and crops")
        if controls and len({id(picture) for bank in backgrounds for picture in bank.pictures}) < 2:
            raise InputError(
                f"controls: another background needs at least 2 pictures in the {split} split, there is 1; add "
                "pictures, or use controls false"
            )
        self.scale = transform.canvas / CANVAS
        self.margin = REACH * max(high for _, high in bands) * self.scale + 1
        if crop is not None:
            if not 0 < crop <= transform.canvas:
                raise InputError(
                    f"crop: expected 1 to {transform.canvas} pixels, the canvas that views are cut from, got {crop}"
                )
            self.canvas, self.transform = crop, JointTransform(crop, crop, transform.mean, transform.std)
        elif 2 * self.margin >= transform.image_size:
            largest = max(high for _, high in bands)
            raise InputError(
                f"bands: shapes of {largest:g} px, on a canvas of {CANVAS} px, reach over {2 * self.margin:.0f} px of "
                f"images of {transform.image_size} px, into which they do not fit; give smaller ones"
            )
        smallest = min(low for low, _ in bands) * self.scale
        smallest = smallest if crop is None else self._filling(0.5) if fill else min(smallest, self._filling(0.5))
        if smallest < SMALLEST:
            name = "bands" if crop is None or smallest < self._filling(0.5) else "crop"
            raise InputError(f"{name}: classes of shapes of {smallest:.3g} px look alike; give at least {SMALLEST} px")

    def __len__(self) -> int:
        return self.size

    def draw(self, index: int) -> Drawing:
        """Draw a sample by its index, counted from the start of the endless data set."""
        block, place_in_block = divmod(index, len(CLASSES))
        label = int(self._rng("label", block).permutation(len(CLASSES))[place_in_block])
        _, background = self._background("background", index)
        color_rng = self._rng("color", index)
        if self.style == "paper":
            shape = paper_shape(lambda factor: self._rng(factor, index), label)
            mask = paper_mask(shape, self.canvas)
            red, green, blue = color_rng.integers(0, 256, 3).tolist()
        else:
            shape = self._varied(label, index)
            mask, hole = varied_mask(shape, self.canvas)
            reach = REACH * shape.size + 2
            box = tuple(slice(max(0, int(at - reach)), int(at + reach) + 1) for at in shape.center[::-1])
            inside = hole[box] == 1
            wall = (mask[box] == 1) & ~inside
            red, green, blue = visible_color(color_rng, *(background[box][region] for region in (wall, inside)))
        image = background.copy()
        image[mask == 1] = red, green, blue
        return Drawing(
            **vars(shape), image=image, mask=mask[..., None], background=background, color=(red, green, blue)
        )

    def _varied(self, label: int, index: int) -> Shape:
        rng = self._rng("size", index)
        band = int(rng.integers(len(self.bands)))
        size, margin = float(rng.uniform(*self.bands[band])) * self.scale, self.margin
        if self.crop is not None:
            if self.fill or size > self._filling(0.9):
                size = float(self._rng("crop", index).uniform(self._filling(0.5), self._filling(0.9)))
            margin = REACH * size + 1
        border = (self.canvas - self.transform.image_size) / 2
        low, high = border + margin, self.canvas - 1 - border - margin
        x, y = (low + self._rng("position", index).random(2) * (high - low)).tolist()
        factors = varied_factors(lambda factor: self._rng(factor, index), size)
        return Shape(label=label, band=band, center=(x, y), size=size, **factors)

    def _filling(self, share: float) -> float:
        """Size of a shape that can reach over this share of the view."""
        return share * (self.crop or self.canvas) / (2 * REACH)

    def __getitem__(self, position: int) -> dict[str, Any]:
        if not 0 <= position < self.size:
            raise IndexError(f"index {position} is outside a data set of {self.size} samples")
        index = self.offset + position
        drawing = self.draw(index)
        transform = self.transform.as_bytes if self.as_bytes else self.transform
        sample = transform(drawing.image, drawing.mask)
        named = {**sample, "label": drawing.label, "index": index, "band": drawing.band}
        named["style"] = STYLES.index(self.style)
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
                return bank.pictures[pick], bank.view(rng, self.canvas, pick)

    def _rng(self, factor: str, index: int) -> np.random.Generator:
        return generator(self.seed, f"{self.split}/{factor}", index)
