"""Our birds: solids for the body and for each variant of each part, with as many variants as FunnyBirds has.

A bird looks along the third axis, the second points up, and it is about 100 units tall.
"""

from collections.abc import Callable, Sequence

import numpy as np

from refinecam.data.funnybirds.parts import PARTS
from refinecam.data.funnybirds.solids import Kind, Solid

Vector = Sequence[float]
Color = tuple[int, int, int]
COLORS: dict[str, Color] = {
    "red": (255, 0, 0),
    "green": (0, 230, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
}
WHITE, BLACK = (255, 255, 255), (20, 20, 20)
VARIANTS: dict[str, list[dict[str, str]]] = {
    "beak": [{"model": f"beak0{i}", "color": "yellow"} for i in (1, 2, 3, 4)],
    "eye": [{"model": f"eye0{i}"} for i in (1, 2, 3)],
    "foot": [{"model": f"foot0{i}"} for i in (1, 2, 3, 4)],
    "tail": [{"model": f"tail0{i}", "color": color} for color in ("red", "green", "blue") for i in (1, 2, 3)],
    "wing": [{"model": f"wing0{i}", "color": color} for color in ("red", "green", "blue") for i in (1, 2)],
}
"""What parts.json lists: the variants of each part, in the order by which classes.json counts them."""
SIDES = {part: (-1, 1) if part in ("eye", "foot", "wing") else (0,) for part in PARTS}
"""The sides on which a part is: -1 the bird's right, 1 its left, 0 the middle."""


def between(
    kind: Kind, start: Vector, end: Vector, radius: float, color: Color, flat: float = 1.0, normal: Vector = (0, 1, 0)
) -> Solid:
    """A solid whose second axis leads from ``start`` to ``end``, as thick as ``flat`` radii along ``normal``."""
    a, b = np.array(start, np.float32), np.array(end, np.float32)
    along = (b - a) / 2
    wide = np.cross(along, normal)
    if np.linalg.norm(wide) < 1e-3 * np.linalg.norm(along):
        wide = np.cross(along, (1, 0, 0))
    wide /= np.linalg.norm(wide)
    thin = np.cross(wide, along / np.linalg.norm(along))
    frame = np.stack([wide * radius, along, thin * radius * flat], 1).astype(np.float32)
    return Solid(kind, np.asarray((a + b) / 2, np.float32), frame, color)


def ball(center: Vector, radius: float, color: Color) -> Solid:
    """A sphere."""
    return Solid("sphere", np.array(center, np.float32), np.eye(3, dtype=np.float32) * radius, color)


def body() -> list[Solid]:
    """Trunk, neck and head."""
    return [
        between("sphere", (0, -15, -31), (0, 17, 25), 20, WHITE),
        between("sphere", (0, 2, 8), (0, 40, 26), 11, WHITE),
        ball((0, 32, 25), 15, WHITE),
    ]


def _beak(model: int, side: int, color: Color) -> list[Solid]:
    needle = [between("cone", (0, 30, 37), (0, 27, 86), 4, color)]
    wedge = [between("cone", (0, 30, 36), (0, 27, 57), 9, color)]
    hook = [
        between("sphere", (0, 33, 32), (0, 28, 56), 8, color, 0.8),
        between("cone", (0, 31, 51), (0, 10, 55), 5, color),
    ]
    bill = [
        between("sphere", (0, 30, 30), (0, 25, 66), 10, color, 0.25),
        between("sphere", (0, 27, 30), (0, 20, 62), 9, color, 0.2),
    ]
    return (needle, wedge, hook, bill)[model]


def _eye(model: int, side: int, color: Color) -> list[Solid]:
    def of(center: Vector, radius: float, look: Vector = (0.35, 0.1, 0.9)) -> list[Solid]:
        step = np.array([side * look[0], look[1], look[2]]) * radius * 0.62
        return [ball(center, radius, WHITE), ball((np.array(center) + step).tolist(), radius * 0.5, BLACK)]

    if model == 0:
        return of((side * 8, 40, 34), 6)
    if model == 1:
        return [*of((side * 9, 38, 34), 9.5), between("sphere", (0, 49, 34), (side * 20, 49, 34), 4, BLACK, 0.6)]
    stalk = between("cylinder", (side * 6, 42, 24), (side * 11, 62, 27), 1.8, WHITE)
    return [stalk, *of((side * 11.5, 63, 27), 6)]


def _foot(model: int, side: int, color: Color) -> list[Solid]:
    x = side * 9.0

    def toes(y: float, z: float, length: float, thick: float) -> list[Solid]:
        ends = [(x + turn * length * 0.6, y, z + length) for turn in (-1, 0, 1)] + [(x, y, z - 0.6 * length)]
        return [between("sphere", (x, y + 1, z), end, thick, color) for end in ends]

    if model == 0:  # a wader's
        return [between("cylinder", (x, -8, -6), (x, -66, -2), 1.6, color), *toes(-66, -2, 17, 1.7)]
    if model == 1:  # a duck's
        web = between("cone", (x, -33, 22), (x, -31, -8), 12, color, 0.12)
        return [between("cylinder", (x, -10, -6), (x, -32, -3), 2.2, color), web]
    if model == 2:  # a hawk's
        thigh = between("sphere", (x, -4, -8), (x, -36, 0), 8.5, color)
        return [thigh, between("cylinder", (x, -30, -2), (x, -46, -2), 2, color), *toes(-46, -2, 15, 2.2)]
    boot = between("box", (x, -30, -9), (x, -37, 10), 5.5, color, 0.9)
    return [between("cylinder", (x, -10, -6), (x, -32, -4), 3, color), boot]


def _tail(model: int, side: int, color: Color) -> list[Solid]:
    if model == 0:  # spikes
        ends = [(-20, 10, -58), (0, 15, -64), (20, 10, -58)]
        return [between("cone", (0, -8, -24), end, 9, color, 0.35) for end in ends]
    if model == 1:  # a fan
        turns = (-1, -0.5, 0, 0.5, 1)
        fan = [(34.0 * turn, 6 - 4 * abs(turn), -62 + 10 * abs(turn)) for turn in turns]
        return [between("sphere", (0, -10, -20), end, 8.5, color, 0.2) for end in fan]
    ends = [(-22, -26, -74), (22, -26, -74)]  # a swallow's fork
    return [between("sphere", (0, -6, -20), end, 6, color, 0.3) for end in ends]


def _wing(model: int, side: int, color: Color) -> list[Solid]:
    if model == 0:  # long and pointed
        arm = between("sphere", (side * 9, 6, 8), (side * 44, 14, -2), 13, color, 0.22)
        return [arm, between("cone", (side * 30, 13, 2), (side * 88, -2, -26), 13, color, 0.2)]
    ends = [(side * 62, 20, 8), (side * 64, 12, -12), (side * 54, 4, -30), (side * 38, -2, -42)]  # broad feathers
    return [between("sphere", (side * 8, 6, 4), end, 10, color, 0.22) for end in ends]


DRAW: dict[str, Callable[[int, int, Color], list[Solid]]] = {
    "beak": _beak,
    "eye": _eye,
    "foot": _foot,
    "tail": _tail,
    "wing": _wing,
}


def part_solids(part: str, variant: int, side: int) -> list[Solid]:
    """Solids of one side of a part."""
    chosen = VARIANTS[part][variant]
    model = int(chosen["model"][-1]) - 1
    return DRAW[part](model, side, COLORS[chosen.get("color", "yellow")])
