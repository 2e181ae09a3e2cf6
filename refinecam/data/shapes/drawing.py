"""The shapes themselves: how each style draws them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

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
Style = Literal["varied", "paper"]
STYLES: tuple[Style, ...] = ("varied", "paper")
WALL = (0.06, 0.22)
"""Thickness of an empty shape's wall, as a share of the size."""
THINNEST = 2.25
"""Pixels of a wall that has 2 px everywhere, however it lies on the grid."""
RATIO = (0.8, 1.25)
"""Base of a triangle divided by its height; 1.155 is equilateral."""
CORNER = (0.0, 0.1)
"""Radius of the corners, as a share of the size."""
REACH = float(np.hypot(np.sqrt(RATIO[1]), 1 / np.sqrt(RATIO[1])) / 2)
"""Largest distance of a shape's point from its center, as a share of the size."""
CENTERS = ((80, 176), (80, 156), (40, 206))
"""Where the paper's code puts the centers of the shapes of each band."""
FINER, SUBPIXEL = 4, 4
"""Varied shapes are drawn on a canvas so many times as fine, to the 2**4th of its pixels."""
ROUND, ARC = 64, 6
"""Corners of the polygon that stands for a circle, and points of a rounded corner."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One shape on a square canvas.

    Attributes:
        label: index into :data:`CLASSES`.
        band: index of the size band.
        center: middle of the box around the shape before it is turned, (x, y) in pixels.
        size: in pixels: a circle's diameter, a square's side, the root of a triangle's base times its height.
        rotation: in radians.
        wall: thickness in pixels of an empty shape's wall; drawn for filled ones as well.
        ratio: base of a triangle divided by its height.
        corner: radius in pixels of a square's or a triangle's corners.
    """

    label: int
    band: int
    center: tuple[float, float]
    size: float
    rotation: float
    wall: float
    ratio: float = 1.0
    corner: float = 0.0


def varied_factors(rng: Callable[[str], Generator], size: float) -> dict[str, float]:
    """Draw what makes one shape differ from another of its class and size, each from a stream of its own."""
    low, high = np.log(RATIO)
    return {
        "wall": max(THINNEST, float(rng("wall").uniform(*WALL)) * size),
        "ratio": float(np.exp(rng("ratio").uniform(low, high))),
        "corner": float(rng("corner").uniform(*CORNER)) * size,
        "rotation": float(rng("rotation").uniform(0, 2 * np.pi)),
    }


def paper_shape(rng: Callable[[str], Generator], label: int) -> Shape:
    """Draw a shape as the paper's public code does, on a canvas of 256 px.

    Whole numbers throughout; where a shape lies depends on its size, and an empty one's wall is a fifth of that.
    """
    draw = rng("size")
    band = int(draw.integers(len(BANDS)))
    low, high = BANDS[band]
    size = int(draw.integers(int(low), int(high)))
    x, y = rng("position").integers(*CENTERS[band], 2).tolist()
    rotation = float(rng("rotation").uniform(0, 2 * np.pi))
    return Shape(label=label, band=band, center=(x, y), size=size, rotation=rotation, wall=size // 5)


def varied_mask(shape: Shape, canvas: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels of a shape, not anti-aliased, and those that are, or would be, its hole.

    A hole has at least 2 px, and so has a wall that :func:`varied_factors` drew. Shapes of less than about 10 px are
    too small for both; their wall goes half of the way to the middle.

    Args:
        shape: what to draw.
        canvas: side of the square masks.

    Returns:
        Two masks, uint8 in {0, 1}, shape (canvas, canvas). A filled shape covers its hole.
    """
    corners = _corners(shape)
    following = np.roll(corners, -1, 0)
    sides = np.linalg.norm(following - corners, axis=1)
    # Each of the three has a circle that touches all of its sides: toward its center they shrink in parallel.
    middle = (corners * np.roll(sides, -1)[:, None]).sum(0) / sides.sum() if len(corners) == 3 else 0.0
    inside = float((corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum() / sides.sum())
    wall = min(shape.wall, max(inside - 1.0, inside / 2))
    corner = 0.0 if len(corners) == ROUND else shape.corner

    def painted(inset: float, radius: float) -> NDArray[np.uint8]:
        # OpenCV fills a polygon with its outline, of which it draws more than half a pixel to each side.
        points = (corners - middle) * (1 - (inset + 0.8 / FINER) / inside) + middle
        if radius:
            edges = np.roll(points, -1, 0) - points
            leaving = np.arctan2(-edges[:, 0], edges[:, 1])
            turn = (leaving - np.roll(leaving, 1)) % (2 * np.pi)
            angles = leaving[:, None] - turn[:, None] * np.linspace(1, 0, ARC)
            arcs = points[:, None] + radius * np.stack([np.cos(angles), np.sin(angles)], 2)
            points = arcs.reshape(-1, 2)
        mask = np.zeros((FINER * canvas, FINER * canvas), np.uint8)
        turned = FINER * (points @ _turn(shape.rotation).T + shape.center)
        cv2.fillPoly(mask, [np.round(turned * 2**SUBPIXEL).astype(np.int32)], 1, shift=SUBPIXEL)
        return mask[::FINER, ::FINER].copy()

    mask = painted(corner, corner)
    hole = painted(max(wall, corner), max(corner - wall, 0.0))
    if shape.label % 2:
        mask -= mask & hole
    return mask, hole


def paper_mask(shape: Shape, canvas: int) -> NDArray[np.uint8]:
    """Pixels of a shape as the paper's public code paints them, uint8 in {0, 1}, shape (canvas, canvas).

    Walls are centered on the outline, so they reach beyond the size by half of their thickness.
    """
    mask = np.zeros((canvas, canvas), np.uint8)
    x, y = (int(value) for value in shape.center)
    half, wall, empty = int(shape.size) // 2, int(shape.wall), shape.label % 2 == 1
    if shape.label < 2:
        return np.asarray(cv2.circle(mask, (x, y), half, 1, wall if empty else -1), np.uint8)
    square = [(-half, -half), (half, -half), (half, half), (-half, half)]
    corners = np.array(square if shape.label < 4 else [(0, -half), (-half, half), (half, half)])
    points = np.array((x, y), np.int32) + (corners @ _turn(shape.rotation).T).astype(np.int32)
    if empty:
        return np.asarray(cv2.polylines(mask, [points], True, 1, wall), np.uint8)
    return np.asarray(cv2.fillPoly(mask, [points], 1), np.uint8)


def _corners(shape: Shape) -> NDArray[np.float64]:
    """Corners around (0, 0), counterclockwise, before the shape is turned."""
    half = shape.size / 2
    if shape.label < 2:
        angles = 2 * np.pi * np.arange(ROUND) / ROUND
        return half * np.stack([np.cos(angles), np.sin(angles)], 1)
    if shape.label < 4:
        return half * np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
    across, along = half * np.sqrt(shape.ratio), half / np.sqrt(shape.ratio)
    return np.array([(0.0, along), (-across, -along), (across, -along)])


def _turn(rotation: float) -> NDArray[np.float64]:
    cos, sin = np.cos(rotation), np.sin(rotation)
    return np.array([(cos, -sin), (sin, cos)])
