from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt, label

from refinecam.core.seeding import generator
from refinecam.data.shapes.drawing import CLASSES, REACH, Shape, paper_mask, varied_factors, varied_mask

SHAPE = Shape(label=0, band=0, center=(128.3, 127.6), size=100, rotation=0.3, wall=12)


def half_planes(shape, canvas, inset=0.0):
    """Slow transcription of a shape with sharp corners: a pixel is inside if it is on the inner side of each edge."""
    y, x = np.mgrid[:canvas, :canvas]
    cos, sin = np.cos(shape.rotation), np.sin(shape.rotation)
    dx, dy = x - shape.center[0], y - shape.center[1]
    across, along = cos * dx + sin * dy, cos * dy - sin * dx
    kind = CLASSES[shape.label].split(",")[0]
    if kind == "circle":
        return np.hypot(across, along) <= shape.size / 2 - inset
    if kind == "square":
        return np.maximum(abs(across), abs(along)) <= shape.size / 2 - inset
    base, height = shape.size * np.sqrt(shape.ratio), shape.size / np.sqrt(shape.ratio)
    slope = np.hypot(base / 2, height)
    beside = ((height / 2 - along) * base / 2 - abs(across) * height) / slope
    return (along >= -height / 2 + inset) & (beside >= inset)


def apart(mask, expected):
    """Share of the pixels that differ, of those at the borders."""
    border = expected ^ binary_erosion(expected)
    return (mask.astype(bool) ^ expected).sum() / border.sum()


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("ratio", [0.8, 1.0, 1.25])
def test_sharp_shapes_equal_their_half_planes(index, ratio):
    shape = replace(SHAPE, label=index, ratio=ratio)
    mask, hole = varied_mask(shape, 256)
    expected, inner = half_planes(shape, 256), half_planes(shape, 256, shape.wall)
    assert apart(hole, inner) < 0.8  # of the pixels that the outline crosses; one more ring would be above 1
    assert apart(mask, expected & ~inner if index % 2 else expected) < 0.8
    assert mask.sum() == pytest.approx(expected.sum() - (inner.sum() if index % 2 else 0), rel=0.05)


def test_rounded_corners_are_an_opening_with_a_disc():
    """What is left of the sharp shape if it is filled by discs of the corner's radius."""
    for index, radius in ((2, 10), (4, 8)):
        shape = replace(SHAPE, label=index, corner=radius)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        expected = cv2.morphologyEx(half_planes(shape, 256).astype(np.uint8), cv2.MORPH_OPEN, disc)
        found, _ = varied_mask(shape, 256)
        sharp, _ = varied_mask(replace(shape, corner=0.0), 256)
        assert apart(found, expected.astype(bool)) < 0.8
        assert found.sum() < sharp.sum()


@pytest.mark.parametrize("size", [12, 18.4, 25, 45, 100])
@pytest.mark.parametrize("index", [1, 3, 5])
def test_walls_and_holes_are_never_thinner_than_two_pixels(index, size):
    for draw in range(40):
        factors = varied_factors(lambda factor, draw=draw: generator(0, factor, draw), size)
        mask, hole = varied_mask(Shape(label=index, band=0, center=(64.2, 65.1), size=size, **factors), 130)
        filled = (mask | hole) == 1
        parts, _ = label(1 - mask, np.ones((3, 3)))
        assert not hole[parts == parts[0, 0]].any()  # the wall is closed
        assert not (mask & hole).any()
        inside = distance_transform_edt(np.pad(hole, 1))
        assert inside.max() >= 1
        assert hole.sum() >= 4
        outside = np.pad(filled, 2) == 0
        for axis in (0, 1):  # outside, one pixel of wall, hole: never, in a row or a column
            for step in (1, -1):
                one_pixel = np.roll(outside, step, axis) & np.roll(np.pad(hole, 2) == 1, -step, axis)
                assert not one_pixel.any()


def test_factors_cover_their_ranges():
    drawn = [varied_factors(lambda factor, i=i: generator(0, factor, i), 100) for i in range(600)]
    for name, low, high in (("wall", 6, 22), ("ratio", 0.8, 1.25), ("corner", 0, 10), ("rotation", 0, 2 * np.pi)):
        values = np.array([factors[name] for factors in drawn])
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high


def test_no_point_is_farther_than_the_reach():
    for draw in range(60):
        factors = varied_factors(lambda factor, draw=draw: generator(0, factor, draw), 100)
        for index in range(6):
            mask, _ = varied_mask(Shape(label=index, band=0, center=(100, 100), size=100, **factors), 200)
            y, x = mask.nonzero()
            assert np.hypot(x - 100, y - 100).max() <= REACH * 100 + 1


@pytest.mark.parametrize("index", range(6))
def test_paper_shapes_are_drawn_with_its_calls(index):
    """Circles of radius size // 2, corners at size // 2 truncated to whole pixels, lines of size // 5."""
    shape = Shape(label=index, band=0, center=(120, 131), size=87, rotation=0.7, wall=17)
    expected = np.zeros((256, 256), np.uint8)
    thickness = 17 if index % 2 else -1
    if index < 2:
        cv2.circle(expected, (120, 131), 43, 1, thickness)
    else:
        corners = [(-43, -43), (43, -43), (43, 43), (-43, 43)] if index < 4 else [(0, -43), (-43, 43), (43, 43)]
        turned = [(int(x * np.cos(0.7) - y * np.sin(0.7)), int(x * np.sin(0.7) + y * np.cos(0.7))) for x, y in corners]
        cv2.drawContours(expected, [np.array([(120 + x, 131 + y) for x, y in turned])], 0, 1, thickness)
    assert np.array_equal(paper_mask(shape, 256), expected)
