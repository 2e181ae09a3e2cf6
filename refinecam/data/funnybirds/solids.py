"""Convex solids and how a camera sees them: rays against spheres, cylinders, cones, boxes and octahedra."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Kind = Literal["sphere", "cylinder", "cone", "box", "octahedron"]
KINDS: tuple[Kind, ...] = ("box", "cone", "sphere", "cylinder", "octahedron")
"""As the original counts its background objects, but for the last, which is a capsule there."""
NEAR = 1.0
FIELD_OF_VIEW = np.deg2rad(40)
CORNERS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32).T
PLANES = {
    "box": np.eye(3, dtype=np.float32),
    "octahedron": np.array([(1, 1, 1), (1, 1, -1), (1, -1, 1), (-1, 1, 1)], np.float32),
}
"""Normals of the pairs of parallel faces, each at distance 1 from the center, along the normal as it is scaled."""


@dataclass(frozen=True)
class Solid:
    """A solid that fills the cube from -1 to 1 of its own axes; round ones stand along the second, cones point up it.

    Attributes:
        kind: the form.
        center: in the world.
        frame: the solid's axes in the world, as columns, each as long as the solid's half extent along it.
        color: RGB, 0 to 255.
    """

    kind: Kind
    center: Array
    frame: Array
    color: tuple[int, int, int]

    @cached_property
    def inverse(self) -> Array:
        """From the world's axes to the solid's own."""
        return np.linalg.inv(self.frame).astype(np.float32)


class Hit(NamedTuple):
    """What rays meet first of a solid: how far away, infinite where they miss it, and the normal there."""

    distance: Array
    normal: Array


class Camera:
    """A camera at a place, turned to the origin, the second axis up.

    Args:
        place: in the world.
        size: pixels along a side of its square picture.
    """

    def __init__(self, position: Array, size: int) -> None:
        back = position / np.linalg.norm(position)
        up = np.array([0, 1, 0]) if abs(back[1]) < 0.999 else np.array([0, 0, 1])
        right = np.cross(up, back)
        right /= np.linalg.norm(right)
        self.position, self.size = position.astype(np.float32), size
        self.axes = np.stack([right, np.cross(back, right), back], 1).astype(np.float32)
        self.focal = size / 2 / np.tan(FIELD_OF_VIEW / 2)
        self.across = ((np.arange(size) + 0.5 - size / 2) / self.focal).astype(np.float32)

    def window(self, solid: Solid) -> tuple[slice, slice] | None:
        """Rows and columns that the solid may fill; None if it is out of sight."""
        x, y, z = self.axes.T @ ((solid.center - self.position)[:, None] + solid.frame @ CORNERS)
        depth = -z
        if depth.max() <= NEAR:
            return None
        if depth.min() <= NEAR:
            return slice(0, self.size), slice(0, self.size)

        def span(values: Array) -> slice:
            pixels = values / depth * self.focal + self.size / 2
            return slice(max(0, int(pixels.min())), min(self.size, int(pixels.max()) + 1))

        rows, columns = span(-y), span(x)
        return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None

    def rays(self, rows: slice, columns: slice, inverse: Array) -> tuple[Array, Array]:
        """Origin (3, 1, 1) relative to the world's, and directions (3, h, w), both turned by ``inverse``."""
        turned = inverse @ self.axes
        right, up, back = (turned[:, i, None, None] for i in range(3))
        across, down = self.across[None, None, columns], self.across[None, rows, None]
        return (inverse @ self.position)[:, None, None], right * across - up * down - back

    def see(self, solid: Solid, rows: slice, columns: slice) -> Hit:
        """Rays through a window of pixels against one solid; distances compare between solids."""
        origin, direction = self.rays(rows, columns, solid.inverse)
        origin = origin - (solid.inverse @ solid.center)[:, None, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            if solid.kind in PLANES:
                distance, normal = _between_planes(origin, direction, PLANES[solid.kind])
            elif solid.kind == "sphere":
                distance, normal = _sphere(origin, direction)
            else:
                distance, normal = _upright(origin, direction, pointed=solid.kind == "cone")
            distance = np.where(distance > NEAR, distance, np.inf)  # NaN too
        return Hit(distance, np.tensordot(solid.inverse.T, normal, 1))


def _sphere(origin: Array, direction: Array) -> tuple[Array, Array]:
    a, b = (direction**2).sum(0), (origin * direction).sum(0)
    distance = (-b - np.sqrt(b * b - a * ((origin**2).sum(0) - 1))) / a
    return distance, origin + distance * direction


def _between_planes(origin: Array, direction: Array, planes: Array) -> tuple[Array, Array]:
    start, speed = np.tensordot(planes, origin, 1), np.tensordot(planes, direction, 1)
    one, other = (-1 - start) / speed, (1 - start) / speed
    enter, leave = np.minimum(one, other), np.maximum(one, other)
    first = enter.argmax(0)
    distance = np.take_along_axis(enter, first[None], 0)[0]
    sign = -np.sign(np.take_along_axis(speed, first[None], 0))
    return np.where(distance < leave.min(0), distance, np.inf), sign * np.moveaxis(planes[first], -1, 0)


def _upright(origin: Array, direction: Array, pointed: bool) -> tuple[Array, Array]:
    """A cylinder of radius 1, or a cone whose radius falls from 1 at the bottom to 0 at the top."""
    slope = 0.5 if pointed else 0.0
    (x, y, z), (dx, dy, dz) = origin, direction
    radius, change = (1 - slope * (1 + y)), -slope * dy
    a = dx * dx + dz * dz - change * change
    b = x * dx + z * dz - radius * change
    c = x * x + z * z - radius * radius
    root = np.sqrt(b * b - a * c)
    best, normal = np.full(np.broadcast_shapes(a.shape), np.inf, np.float32), np.zeros_like(direction)
    for distance in ((-b - root) / a, (-b + root) / a):
        height = y + distance * dy
        better = (distance < best) & (np.abs(height) <= 1) & (distance > 0)
        best = np.where(better, distance, best)
        wall = np.stack([x + distance * dx, slope * (1 - slope * (1 + height)), z + distance * dz])
        normal = np.where(better, wall, normal)
    for lid in (-1.0,) if pointed else (-1.0, 1.0):
        distance = (lid - y) / dy
        better = (distance < best) & ((x + distance * dx) ** 2 + (z + distance * dz) ** 2 <= 1) & (distance > 0)
        best = np.where(better, distance, best)
        normal = np.where(better, np.array([0, lid, 0], np.float32)[:, None, None], normal)
    return best, normal
