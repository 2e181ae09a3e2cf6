"""Procedural backgrounds: busy, colorful crowd scenes, drawn from a seed and nothing else."""

import cv2
import numpy as np
from numpy.random import Generator

from refinecam.core.seeding import generator
from refinecam.data.shapes.backgrounds import Image

SCENE_SIZE = 256


class CrowdScenes:
    """The scenes of one split, each drawn when it is asked for: the same for the same seed, split and index."""

    def __init__(self, count: int, seed: int, split: str) -> None:
        self.count, self.seed, self.split = count, seed, split

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Image:
        if not 0 <= index < self.count:
            raise IndexError(f"index {index} is outside {self.count} scenes")
        return crowd_scene(generator(self.seed, f"{self.split}/scene", index))


def crowd_scene(rng: Generator, size: int = SCENE_SIZE) -> Image:
    """Draw one scene: patches of sky and ground, textures, text-like strokes and hundreds of small figures.

    Nothing in it is a plain circle, square or triangle as large as the smallest shapes of the data set, so that
    clutter disturbs but never lies.

    Args:
        rng: source of every draw; the same state gives the same scene.
        size: side of the square scene in pixels. The content keeps its pixel size.

    Returns:
        RGB image, uint8, shape (size, size, 3).
    """
    image = np.empty((size, size, 3), np.uint8)
    _gradient(image, _color(rng), _color(rng))
    for _ in range(rng.integers(4, 9)):
        _patch(image, rng)
    for _ in range(size * size // 3000):
        _strokes(image, rng)
    figures = size * size // int(rng.integers(160, 330))
    feet = np.sort(rng.uniform(0, size + 12, figures))  # from the back to the front
    for y in feet:
        _figure(image, rng, float(rng.uniform(-4, size + 4)), float(y), float(rng.uniform(9, 22)))
    for _ in range(size * size // 9000):
        _strokes(image, rng)
    return image


def _color(rng: Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


def _gradient(image: Image, top: tuple[int, ...], bottom: tuple[int, ...]) -> None:
    share = np.linspace(0, 1, len(image))[:, None, None]
    image[:] = (1 - share) * np.array(top) + share * np.array(bottom)


def _patch(image: Image, rng: Generator) -> None:
    """A lobed region of another texture: a wall, a meadow, a pond, an awning.

    Its outline has no corners, which cut by a figure would be triangles, and the cells of its grid are smaller than
    the smallest square.
    """
    size = len(image)
    angles = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    waves = np.arange(2, 7)
    heights, phases = rng.uniform(0, 0.45, 5) / np.sqrt(waves), rng.uniform(0, 2 * np.pi, 5)
    lobes = 1 + (heights * np.cos(waves * angles[:, None] + phases)).sum(1)
    radii = rng.uniform(0.12, 0.35) * size * np.maximum(lobes, 0.2)
    outline = rng.uniform(0, size, 2) + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [outline.astype(np.int32)], 1)
    texture = np.empty_like(image)
    _gradient(texture, _color(rng), _color(rng))
    step, width = int(rng.integers(4, 10)), int(rng.integers(1, 4))
    ink = _color(rng)
    kind = rng.integers(4)
    if kind in (0, 1):  # stripes or a grid, at any slant
        slant = float(rng.uniform(-1, 1)) * size
        for i in range(-size, 2 * size, step):
            cv2.line(texture, (i, 0), (int(i + slant), size), ink, width)
            if kind == 1:
                cv2.line(texture, (0, i), (size, int(i - slant)), ink, width)
    elif kind == 2:  # speckle
        for x, y in rng.integers(0, size, (size * 3, 2)).tolist():
            cv2.line(texture, (x, y), (x + width, y + width), ink, 1)
    image[mask == 1] = texture[mask == 1]


def _strokes(image: Image, rng: Generator) -> None:
    """A line of something that looks like handwriting."""
    x, y = rng.uniform(0, len(image), 2)
    height, count = rng.uniform(2, 6), int(rng.integers(8, 40))
    across = x + np.cumsum(rng.uniform(0.2, 2.5, count))
    down = y + rng.uniform(-height, height, count)
    points = np.stack([across, down], 1).astype(np.int32)
    cv2.polylines(image, [points], False, _color(rng), int(rng.integers(1, 3)))


def _figure(image: Image, rng: Generator, x: float, y: float, height: float) -> None:
    """A small person whose feet stand at (x, y): legs, arms, a striped or plain shirt, a head, perhaps a hat."""
    skin, shirt, ink, trousers = (_color(rng) for _ in range(4))
    hips, neck, wide = y - 0.4 * height, y - 0.75 * height, height * rng.uniform(0.12, 0.22)
    lean = rng.uniform(-0.15, 0.15) * height
    swing = rng.uniform(-0.3, 0.3, 4) * height

    def point(px: float, py: float) -> tuple[int, int]:
        return round(px), round(py)

    for side, step in ((-1, swing[0]), (1, swing[1])):
        cv2.line(image, point(x + side * wide / 2, hips), point(x + side * wide / 2 + step, y), trousers, 2)
    body = [
        point(x - wide, hips),
        point(x + wide, hips),
        point(x + lean + wide, neck),
        point(x + lean - wide, neck),
    ]
    cv2.fillPoly(image, [np.array(body, np.int32)], shirt)
    if rng.random() < 0.6:
        for share in np.arange(0.15, 1, 0.3):
            level = hips + share * (neck - hips)
            cv2.line(image, point(x + share * lean - wide, level), point(x + share * lean + wide, level), ink, 1)
    for side, step in ((-1, swing[2]), (1, swing[3])):
        hand = point(x + side * (wide + 0.15 * height), hips - step)
        cv2.line(image, point(x + lean + side * wide, neck), hand, skin, 1)
    head = point(x + lean, neck - 0.13 * height)
    axes = (max(1, round(0.09 * height)), max(1, round(0.13 * height)))
    cv2.ellipse(image, head, axes, 0, 0, 360, skin, -1)
    if rng.random() < 0.5:
        brim, top = head[1] - axes[1], head[1] - axes[1] - round(0.12 * height)
        cv2.line(image, (head[0] - axes[0] - 2, brim), (head[0] + axes[0] + 2, brim), ink, 1)
        cv2.line(image, (head[0], brim), (head[0], top), ink, max(1, axes[0]))
