"""Pictures of maps over images."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from refinecam.core.errors import InputError
from refinecam.metrics.formulas import check_form

CELL = 1.7
WIDEST = 27
"""Characters above a cell."""
SIDE = 3.6
LETTERS, LINE = 13, 0.18
"""Of a title: characters per inch, and inches per line."""
TOLERANCE = 0.02
"""By how much colors may leave [0, 1] through rounding."""


def overlay_figure(
    images: Tensor, maps: Mapping[str, Tensor], masks: Tensor | None = None, names: Sequence[str] = ()
) -> Figure:
    """Images by rows; by columns the image, the ground truth where known, and each method's map over the image.

    Args:
        images: RGB in [0, 1], shape (N, 3, H, W).
        maps: for each method's name, maps (N, 1, H, W) in [0, 1].
        masks: ground truth, shape (N, 1, H, W).
        names: a name for each image.

    Returns:
        The figure.

    Raises:
        InputError: if the images are no colors, or the maps are not theirs.
    """
    _check(images, maps, masks)
    pictures = images.detach().float().cpu().permute(0, 2, 3, 1).clamp(0, 1).numpy()
    columns = ["image"] + (["ground truth"] if masks is not None else []) + list(maps)
    count = max(len(pictures), 1)
    figure = Figure(figsize=(CELL * len(columns), CELL * count + 0.35), layout="constrained")
    axes = figure.subplots(count, len(columns), squeeze=False)
    for row, picture in enumerate(pictures):
        _show(axes[row][0], picture)
        if names:
            axes[row][0].set_ylabel(names[row].replace("$", r"\$"), fontsize=7)
        if masks is not None:
            truth = masks[row, 0].detach().float().cpu().numpy()
            _show(axes[row][1], picture * (0.25 + 0.75 * truth[..., None]))
        for column, method in enumerate(maps, start=1 + (masks is not None)):
            _show(
                axes[row][column],
                overlay((255 * picture).round().astype(np.uint8), maps[method][row, 0].detach().float().cpu().numpy()),
            )
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(_wrapped(title, WIDEST), fontsize=7)
    return figure


def picture_grid(rows: Sequence[Sequence[tuple[str, np.ndarray] | None]], caption: str = "") -> Figure:
    """Pictures of one size and proportion, each below its title, and a caption.

    Args:
        rows: of titles and pictures (H, W, 3); None leaves a cell empty.
        caption: lines of text; they stand in the first column's empty cell where there is one.

    Returns:
        The figure: a cell's longer side is :data:`SIDE` inches.
    """
    first = next(cell[1] for row in rows for cell in row if cell is not None)
    height, width = first.shape[:2]
    scale = SIDE / max(height, width)
    inside = any(row[0] is None for row in rows)
    lines = caption.count("\n") + 1 if caption and not inside else 0
    letters = max(12, int(LETTERS * scale * width))
    titled = [[None if cell is None else (_wrapped(cell[0], letters), cell[1]) for cell in row] for row in rows]
    titles = sum(max(cell[0].count("\n") + 1 for cell in row if cell is not None) for row in titled)
    heights = scale * height * len(rows) + LINE * (titles + lines) + 0.15 * (len(rows) + 1)
    sizes = scale * width * len(rows[0]) + 0.2, heights
    figure = Figure(figsize=sizes, layout="constrained")
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for axis, cell in zip(axes.flat, [cell for row in titled for cell in row], strict=True):
        axis.set_axis_off()
        if cell is not None:
            axis.imshow(cell[1], interpolation="antialiased")
            axis.set_title(cell[0], fontsize=9)
    if inside:
        axis = axes[next(i for i, row in enumerate(rows) if row[0] is None)][0]
        axis.text(0.05, 0.95, caption, fontsize=9, va="top", transform=axis.transAxes)
    elif caption:
        figure.supxlabel(caption, fontsize=9, ha="left", x=0.01)
    return figure


def _wrapped(title: str, width: int) -> str:
    """A title in lines of so many characters, broken where a method's name has a joint."""
    lines = title.replace(", stage", ",\nstage", 1).splitlines()
    broken = "\n".join(line if len(line) <= width else line.replace("(", "\n(").strip() for line in lines)
    return "\n".join(textwrap.fill(line, width) for line in broken.splitlines())


def _check(images: Tensor, maps: Mapping[str, Tensor], masks: Tensor | None) -> None:
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3:
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images: expected a float tensor (N, 3, H, W), got {got}")
    outside = images[(images < -TOLERANCE) | (images > 1 + TOLERANCE)]
    if len(outside):
        raise InputError(
            f"images: expected colors in [0, 1], got {outside[0].item():.3g}; divide by 255, or turn normalized ones "
            "back: images * std + mean"
        )
    if not isinstance(maps, Mapping):
        raise InputError(f'maps: expected {{"name": maps}}, got a {type(maps).__name__}')
    for name, result in maps.items():
        check_form(result, images, f"maps: {name}")
    if masks is not None:
        check_form(masks.float(), images, "masks")


def overlay(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A map's colors over the grayed picture.

    Args:
        picture: uint8, shape (H, W, 3).
        values: the map, in [0, 1], shape (H, W); NaN is shown as black.

    Returns:
        uint8, shape (H, W, 3).
    """
    table = 0.65 * 255 * matplotlib.colormaps["inferno"](np.arange(256))[:, :3].astype(np.float32)
    colors = table[np.round(255 * np.nan_to_num(values)).astype(np.uint8)]
    gray = np.float32(0.35) * picture.mean(2, keepdims=True, dtype=np.float32)
    return np.round(colors + gray).astype(np.uint8)


def _show(axis: Axes, picture: np.ndarray) -> None:
    axis.imshow(picture, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
