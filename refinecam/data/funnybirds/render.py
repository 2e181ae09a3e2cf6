"""Scenes of our birds as pictures: drawn piece by piece, and put together with any pieces left out."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from refinecam.data.funnybirds.anatomy import COLORS, SIDES, VARIANTS, body, part_solids
from refinecam.data.funnybirds.parts import (
    BODY_COLOR,
    EMPTY_COLOR,
    MAX_OBJECTS,
    PART_COLORS,
    PARTS,
    SUBSETS,
    Color,
    object_color,
)
from refinecam.data.funnybirds.solids import KINDS, Array, Camera, Solid

Picture = NDArray[np.uint8]
Paint = NDArray[np.uint32]
SKY = (85, 85, 153)
GONE = "placeholder"
"""What a list says of a part that is left out."""
SHADES = ((0.25, 1.0), (-0.35, 0.84), (-2.0, 0.66))
"""Brightness where the cosine between normal and light is above a bound."""
RIM = 0.2
"""Cosine between normal and view below which a round surface is its own outline."""
FINER = 2
"""Pixels that are drawn for each of the picture, along each axis."""
CODES: list[Color] = [
    EMPTY_COLOR,
    BODY_COLOR,
    *(color for part in PARTS for color in PART_COLORS[part]),
    *(object_color(i) for i in range(MAX_OBJECTS)),
]
"""Every color of a part map."""


class Piece(NamedTuple):
    """What one part, side or object alone would show in a window of the picture.

    Attributes:
        window: rows and columns.
        distance: infinite where nothing is, shape (h, w).
        paint: color and, as a fourth byte, place in :data:`CODES`; shape (h, w).
    """

    window: tuple[slice, slice]
    distance: Array
    paint: Paint


class Canvas(NamedTuple):
    """Distance and paint of the whole picture."""

    distance: Array
    paint: Paint


class Scene:
    """A scene as an entry of ``dataset_train.json`` or ``dataset_test.json`` describes it.

    Args:
        entry: camera, light, parts and background objects.
        size: side of the pictures.
    """

    def __init__(self, entry: dict[str, Any], size: int) -> None:
        self.entry, self.size = entry, size
        self.camera = Camera(camera_place(entry), size * FINER)
        light = _place(entry["light_distance"], entry["light_pitch"], entry["light_roll"])
        self.light = light / np.linalg.norm(light)

    @cached_property
    def body(self) -> list[Piece]:
        """The body."""
        return self._draw(body(), BODY_COLOR)

    @cached_property
    def parts(self) -> list[list[Piece]]:
        """Each part's sides, in the order of :data:`.PARTS`; empty for those left out."""
        result = []
        for part in PARTS:
            pieces: list[Piece] = []
            variant = {"model": self.entry[f"{part}_model"]}
            if f"{part}_color" in self.entry:
                variant["color"] = self.entry[f"{part}_color"]
            if variant["model"] != GONE:
                position = VARIANTS[part].index(variant)
                for side, code in zip(SIDES[part], PART_COLORS[part], strict=True):
                    pieces += self._draw(part_solids(part, position, side), code)
            result.append(pieces)
        return result

    @cached_property
    def objects(self) -> list[list[Piece]]:
        """Each background object; empty for those out of sight."""
        solids = background_solids(self.entry)
        return [self._draw([solid], object_color(i)) for i, solid in enumerate(solids)]

    def draw(self) -> Canvas:
        """The whole scene, for :meth:`finish` and :meth:`part_map`."""
        return self._compose([*self.objects, self.body, *self.parts])

    def subsets(self) -> list[Picture]:
        """The scene with each set of the bird's parts, in the order of :data:`.SUBSETS`."""
        result = [self._compose([*self.objects, self.body])]
        for pieces in self.parts:
            result += [self._compose([pieces], onto=canvas) for canvas in result]
        assert len(result) == SUBSETS
        return [self.finish(canvas) for canvas in result]

    def removals(self) -> list[Picture]:
        """The scene without each background object in turn."""
        others = ([*self.objects[:i], *self.objects[i + 1 :]] for i in range(len(self.objects)))
        return [self.finish(self._compose([*left, self.body, *self.parts])) for left in others]

    def _draw(self, solids: Sequence[Solid], code: Color) -> list[Piece]:
        """One piece of all solids that are in sight, which hide each other; none if none is."""
        seen = [(solid, window) for solid in solids if (window := self.camera.window(solid))]
        if not seen:
            return []
        top, left = (min(window[axis].start for _, window in seen) for axis in (0, 1))
        bottom, right = (max(window[axis].stop for _, window in seen) for axis in (0, 1))
        distance = np.full((bottom - top, right - left), np.inf, np.float32)
        paint = np.zeros(distance.shape, np.uint32)
        for solid, (rows, columns) in seen:
            hit = self.camera.see(solid, rows, columns)
            inside = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
            nearer = hit.distance < distance[inside]
            distance[inside][nearer] = hit.distance[nearer]
            color = self._shade(solid, hit.normal[:, nearer], rows, columns, nearer)
            paint[inside][nearer] = _paint(color, CODES.index(code))
        return [Piece((slice(top, bottom), slice(left, right)), distance, paint)]

    def _shade(self, solid: Solid, normal: Array, rows: slice, columns: slice, where: NDArray[np.bool_]) -> Picture:
        """Flat tones by the light, and a dark rim where a surface turns away."""
        normal = normal / np.maximum(np.linalg.norm(normal, axis=0), 1e-12)
        cosine = self.light @ normal
        tone = np.select([cosine > bound for bound, _ in SHADES], [shade for _, shade in SHADES])
        _, rays = self.camera.rays(rows, columns, np.eye(3, dtype=np.float32))
        rays = rays[:, where]
        facing = -(rays * normal).sum(0) / np.linalg.norm(rays, axis=0)
        tone = np.where(facing < RIM, 0.25, tone)
        return (np.array(solid.color)[None] * tone[:, None]).astype(np.uint8)

    def _compose(self, groups: Iterable[list[Piece]], onto: Canvas | None = None) -> Canvas:
        """Put pieces together, at the finer resolution, on the empty sky or on a copy of a canvas."""
        if onto is None:
            side = self.camera.size
            sky = _paint(np.array(SKY), CODES.index(EMPTY_COLOR))
            canvas = Canvas(np.full((side, side), np.inf, np.float32), np.full((side, side), sky, np.uint32))
        else:
            canvas = Canvas(onto.distance.copy(), onto.paint.copy())
        for piece in chain.from_iterable(groups):
            distance, paint = canvas.distance[piece.window], canvas.paint[piece.window]
            nearer = piece.distance < distance
            np.copyto(distance, piece.distance, where=nearer)
            np.copyto(paint, piece.paint, where=nearer)
        return canvas

    def finish(self, canvas: Canvas) -> Picture:
        """The picture, uint8 RGB, shape (size, size, 3): the mean of the finer pixels."""
        mean = cv2.resize(_bytes(canvas), (self.size, self.size), interpolation=cv2.INTER_AREA)
        return np.asarray(mean[..., :3], np.uint8)

    def part_map(self, canvas: Canvas) -> Picture:
        """The part map, likewise, of one finer pixel each: its colors do not mix."""
        return np.array(CODES, np.uint8)[_bytes(canvas)[FINER // 2 :: FINER, FINER // 2 :: FINER, 3]]


def _bytes(canvas: Canvas) -> Picture:
    return canvas.paint.view(np.uint8).reshape(*canvas.paint.shape, 4)


def _paint(color: NDArray[Any], code: int) -> Any:
    red, green, blue = (color[..., i].astype(np.uint32) for i in range(3))
    return red | green << 8 | blue << 16 | np.uint32(code << 24)


def camera_place(entry: dict[str, Any]) -> Array:
    """The camera, which always looks from in front, as the original's does."""
    distance = entry["camera_distance"]
    x, y, _ = _place(distance, entry["camera_pitch"], entry["camera_roll"])
    return np.array([x, y, distance], np.float32)


def _place(distance: float, pitch: float, roll: float) -> Array:
    around = np.array([np.sin(pitch) * np.cos(roll), -np.sin(roll), np.cos(pitch) * np.cos(roll)])
    return (distance * around).astype(np.float32)


def background_solids(entry: dict[str, Any]) -> list[Solid]:
    """The background objects in the order of the list."""
    columns = {name: entry[f"bg_{name}"].split(",")[:-1] for name in LISTED}
    result = []
    for row in zip(*columns.values(), strict=True):
        value = dict(zip(columns, row, strict=True))
        scale = np.diag([float(value[f"scale_{axis}"]) for axis in "xyz"])
        turn = _turn(*(float(value[f"rot_{axis}"]) for axis in "xyz"))
        center = _place(*(float(value[name]) for name in ("radius", "pitch", "roll")))
        kind = KINDS[int(value["objects"])]
        result.append(Solid(kind, center, (turn @ scale).astype(np.float32), COLORS[value["color"]]))
    return result


LISTED = (*("objects", "radius", "pitch", "roll", "scale_x", "scale_y", "scale_z", "rot_x", "rot_y", "rot_z", "color"),)
"""What a list says of each background object, under ``bg_`` and this name, each value followed by a comma."""


def _turn(x: float, y: float, z: float) -> NDArray[np.float64]:
    """Rotation about the three axes."""

    def about(angle: float, one: int, other: int) -> NDArray[np.float64]:
        result = np.eye(3)
        result[[one, other], [one, other]] = np.cos(angle)
        result[one, other], result[other, one] = -np.sin(angle), np.sin(angle)
        return result

    return about(x, 1, 2) @ about(y, 2, 0) @ about(z, 0, 1)
