"""A bank of background pictures with partly imputed versions of each, and random views of them."""

from typing import Any, Protocol

import cv2
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from numpy.random import Generator
from numpy.typing import NDArray
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from refinecam.core.errors import InputError
from refinecam.core.seeding import generator
from refinecam.data.sampling import prepare_workers
from refinecam.imputation import impute

Image = NDArray[np.uint8]
PICTURES_A_PROCESS = 16
"""How many pictures are worth a process of their own."""


class Pictures(Protocol):
    """Pictures by their index: a list, or what makes each when it is asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Image: ...


class Backgrounds:
    """Random views of a set of pictures: crop, flips, color jitter, and regions imputed like ROAD's.

    A network that is scored with ROAD should have seen imputed regions before (the paper's data has them too).
    They are solved for once, here, because a sample must not cost more than its drawing.

    Args:
        pictures: RGB images of any size; each is scaled until its shorter side is ``canvas``. Many are prepared by as
            many processes as PyTorch has threads, each of which gets the pictures of its share by their index.
        canvas: side of the square views.
        imputed: share of views that show an imputed version.
        versions: imputed versions made of each picture, with Perlin-shaped regions over 20 to 70% of it.
        seed: seed of the regions.
        split: name of the split; splits draw from different streams.
        augment: turn and zoom three views in four and swap the color channels of every other one. Few pictures then
            teach more: without it a network gets to know the clutter of its pictures rather than clutter.
    """

    def __init__(
        self,
        pictures: Pictures,
        canvas: int,
        imputed: float = 0.5,
        versions: int = 2,
        seed: int = 0,
        split: str = "train",
        augment: bool = False,
    ) -> None:
        if not 0 <= imputed <= 1:
            raise InputError(f"imputed: expected a share in [0, 1], got {imputed}")
        self.canvas, self.imputed, self.augment = canvas, imputed, augment
        prepared = _Prepared(pictures, canvas, versions if imputed else 0, seed, split)
        threads = torch.get_num_threads()
        processes = min(threads, len(pictures) // PICTURES_A_PROCESS)
        loader = DataLoader(
            prepared,
            batch_size=None,
            num_workers=prepare_workers(processes if processes > 1 else 0),
            collate_fn=_unchanged,
            generator=torch.Generator(),  # the global one stays as it is
        )
        hidden = getattr(rank_zero_only, "rank", 0) != 0
        # More threads gain little on so small solves, and where several trainings prepare at once, with more threads
        # than there are cores, they wait for each other: five seemed to hang here for minutes.
        torch.set_num_threads(1)
        try:
            result = list(track(loader, f"Preparing backgrounds ({split})", total=len(pictures), disable=hidden))
        finally:
            torch.set_num_threads(threads)
        self.pictures = [picture for picture, _ in result]
        self.versions = [imputed for _, imputed in result]

    def view(self, rng: Generator, size: int | None = None, pick: int | None = None) -> Image:
        """Draw one view.

        Args:
            rng: source of every draw.
            size: side of the square view, at most ``canvas``, its default.
            pick: which picture; None draws one.

        Returns:
            RGB image, uint8, shape (size, size, 3).
        """
        size = size or self.canvas
        pick = int(rng.integers(len(self.pictures))) if pick is None else pick
        use_imputed, version, top, left, flip_rows, flip_columns = rng.random(6)
        picture = self.pictures[pick]
        if use_imputed < self.imputed and self.versions[pick]:
            picture = self.versions[pick][int(version * len(self.versions[pick]))]
        if self.augment and rng.random() < 0.75:
            picture = turn_and_zoom(picture, size, rng)
        channels = rng.permutation(3) if self.augment and rng.random() < 0.5 else np.arange(3)
        height, width = picture.shape[:2]
        y, x = int(top * (height - size + 1)), int(left * (width - size + 1))
        picture = picture[y : y + size, x : x + size]
        picture = jitter(picture, rng, channels)
        if flip_rows < 0.5:
            picture = cv2.flip(picture, 0)
        return cv2.flip(picture, 1) if flip_columns < 0.5 else picture


class _Prepared(Dataset):
    """Pictures in the size of the canvas, each with its imputed versions."""

    def __init__(self, pictures: Pictures, canvas: int, versions: int, seed: int, split: str) -> None:
        self.pictures, self.canvas, self.versions, self.seed, self.split = pictures, canvas, versions, seed, split

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Image, list[Image]]:
        picture = _fit(self.pictures[index], self.canvas)
        rng = generator(self.seed, f"{self.split}/imputed", index)
        return picture, impute_regions(picture, rng, self.versions)


def _unchanged(sample: Any) -> Any:
    return sample


def turn_and_zoom(image: Image, size: int, rng: Generator) -> Image:
    """A square view at any angle and at 0.7 to 1.6 times the size, the image mirrored at its borders."""
    angle, scale = rng.uniform(0, 360), np.exp(rng.uniform(np.log(0.7), np.log(1.6)))
    height, width = image.shape[:2]
    center = (rng.uniform(0.25, 0.75, 2) * (width, height)).tolist()
    matrix = cv2.getRotationMatrix2D(center, angle, scale)
    matrix = matrix + np.column_stack([np.zeros((2, 2)), size / 2 - np.array(center)])
    turned = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(turned, np.uint8)


def jitter(image: Image, rng: Generator, channels: NDArray[np.int64]) -> Image:
    """Random brightness, contrast, saturation and tint of ``image[..., channels]`` as one affine map of the colors."""
    contrast, saturation = rng.uniform(0.6, 1.4, 2)
    brightness = rng.uniform(-40, 40) + rng.uniform(-15, 15, 3)
    gray = np.full((3, 3), 1 / 3)
    color = contrast * (saturation * np.eye(3) + (1 - saturation) * gray)
    shift = 127.5 * (1 - contrast) + brightness
    color[:, channels] = color.copy()
    return np.asarray(cv2.transform(image, np.column_stack([color, shift])), np.uint8)


def perlin(rng: Generator, shape: tuple[int, int], cells: int = 4) -> NDArray[np.float64]:
    """Gradient noise (Perlin, 1985) of the given shape with ``cells`` cells along each side."""
    angles = rng.uniform(0, 2 * np.pi, (cells + 1, cells + 1))
    y = np.linspace(0, cells, shape[0], endpoint=False)[:, None]
    x = np.linspace(0, cells, shape[1], endpoint=False)[None, :]
    row, column = np.broadcast_arrays(y.astype(int), x.astype(int))

    def corner(i: int, j: int) -> NDArray[np.float64]:
        angle = angles[row + i, column + j]
        return np.cos(angle) * (x - column - j) + np.sin(angle) * (y - row - i)

    def fade(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return t**3 * (t * (6 * t - 15) + 10)

    across, down = fade(x - np.floor(x)), fade(y - np.floor(y))
    top = corner(0, 0) + across * (corner(0, 1) - corner(0, 0))
    bottom = corner(1, 0) + across * (corner(1, 1) - corner(1, 0))
    return top + down * (bottom - top)


def impute_regions(image: Image, rng: Generator, versions: int) -> list[Image]:
    """Versions of an image with 20 to 70% of its pixels imputed in Perlin-shaped regions."""
    if not versions:
        return []
    noise = [perlin(rng, image.shape[:2]) for _ in range(versions)]
    masks = [field > np.quantile(field, 1 - rng.uniform(0.2, 0.7)) for field in noise]
    missing = torch.from_numpy(np.stack(masks)).unsqueeze(1)
    images = torch.from_numpy(image).permute(2, 0, 1).float().expand(versions, -1, -1, -1)
    filled = impute(images, missing).round().clamp(0, 255).byte()
    return list(filled.permute(0, 2, 3, 1).contiguous().numpy())


def _fit(picture: Image, canvas: int) -> Image:
    height, width = picture.shape[:2]
    scale = canvas / min(height, width)
    if scale == 1:
        return picture
    size = max(canvas, round(width * scale)), max(canvas, round(height * scale))
    return np.asarray(
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8
    )
