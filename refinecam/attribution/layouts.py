"""The layout of what a layer puts out, and the map (N, C, h, w) in it."""

import re
from collections.abc import Callable, Iterable, Mapping
from math import sqrt
from typing import Any

import torch
from timm.layers import GlobalResponseNormMlp, Mlp
from torch import Tensor, nn

from refinecam.core.errors import InputError

LAYOUT = re.compile(r"NCHW|NHWC|(\d+\+)?tokens")
CHANNELS_FIRST = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d, nn.Upsample, nn.PixelShuffle),
)
MLPS = (Mlp, GlobalResponseNormMlp)
WIDTHS = ("out_channels", "num_features", "num_channels", "out_features", "normalized_shape")
"""Attributes of layers that say how many channels they put out."""
Layout = str | Mapping[str, str]
"""One layout for all layers, or one for each of some layers."""
Check = Callable[[int, int, Tensor], bool]
MOST_TOKENS_BEFORE = 5
"""Class tokens and registers that are looked for before the image's tokens."""


def check_layout(layout: Layout | None) -> None:
    """Refuse what is no layout.

    Raises:
        InputError: naming those that there are.
    """
    for each in layout.values() if isinstance(layout, Mapping) else (layout,):
        if each is not None and not (isinstance(each, str) and LAYOUT.fullmatch(each)):
            raise InputError(
                'layout: expected "NCHW", "NHWC", "tokens" or, with a class token, "1+tokens", or a dict of layers and '
                f"theirs, got {layout!r}"
            )


def to_nchw(model: nn.Module, layer: str, output: Tensor, image: Tensor, layout: Layout | None = None) -> Tensor:
    """Bring a layer's output to (N, C, h, w), in float32 where it has less precision.

    The layout is what the caller declares. Otherwise the type of the layer says it, or the only layout in which the
    output has the image's proportions, or, as strides may differ by direction, the types and widths of the layer's
    parts. Where none of them does, it is the model's usual one, as timm's say in ``output_fmt`` and
    ``num_prefix_tokens``. What is declared, or known by types, is not doubted for its proportions.

    Args:
        model: the network.
        layer: the layer's name.
        output: what it put out.
        image: the images, shape (N, 3, H, W).
        layout: of the output: ``"NCHW"``, ``"NHWC"``, ``"tokens"`` for (N, T, C) that are the image row by row, or
            ``"1+tokens"`` where one token, or another number of them, comes before these; or a dict of layers and
            theirs.

    Raises:
        InputError: if the output is not spatial, or its layout is not known.
    """
    declared = layout.get(layer) if isinstance(layout, Mapping) else layout
    chosen = declared or layout_of(model, layer, output, image)
    result = as_map(model, output, image, chosen, None if declared else has_strides)
    if result is None:
        height, width = image.shape[2:]
        raise InputError(
            f"stage: layer {layer!r} puts out {tuple(output.shape)} for {len(image)} images of {height}x{width}, "
            f"no map in layout {chosen}; {_remedy(output, image)}"
        )
    return result.float() if result.dtype in (torch.float16, torch.bfloat16) else result


def layout_of(model: nn.Module, layer: str, output: Tensor, image: Tensor) -> str:
    """The layout of a layer's output; see :func:`to_nchw`."""
    fitting = fitting_layouts(output, image)
    if output.ndim != 4:
        usual = _tokens_after(getattr(model, "num_prefix_tokens", 0)) if output.ndim == 3 else "NCHW"
        return fitting[0] if len(fitting) == 1 and as_map(model, output, image, usual) is None else usual
    module = model.get_submodule(layer)
    if known := _by_type(module):
        return known
    if fitting == ["NCHW"]:
        return "NCHW"
    by_parts = _by_parts(module, output) or _by_parts(model, output)
    if by_parts and as_map(model, output, image, by_parts, has_strides) is not None:
        return by_parts
    return fitting[0] if len(fitting) == 1 else str(getattr(model, "output_fmt", "NCHW"))


def _by_type(module: nn.Module) -> str | None:
    """The layout that layers of this type put out."""
    if isinstance(module, CHANNELS_FIRST):
        return "NCHW"
    if isinstance(module, nn.LayerNorm):  # timm's and torchvision's LayerNorm2d, LayerNormAct2d, … are of this type
        first = len(module.normalized_shape) > 1 or "2d" in type(module).__name__
        return "NCHW" if first else "NHWC"
    if isinstance(module, MLPS):
        return "NHWC" if isinstance(module.fc1, nn.Linear) else "NCHW"
    return "NHWC" if isinstance(module, nn.Linear) else None


def _by_parts(module: nn.Module, output: Tensor) -> str | None:
    """The layout of an output by its layer's parts: of one kind alone, or of the width of its channels."""
    kinds = [(kind, part) for part in module.modules() if (kind := _by_type(part))]
    if len(only := {kind for kind, _ in kinds}) == 1:
        return only.pop()
    first, last = (_widths(part for kind, part in kinds if kind == layout) for layout in ("NCHW", "NHWC"))
    before, after = output.shape[1] in first, output.shape[3] in last
    return None if before == after else "NCHW" if before else "NHWC"


def _widths(modules: Iterable[nn.Module]) -> set[Any]:
    """Numbers of channels that layers put out."""
    found = [getattr(module, name, None) for module in modules for name in WIDTHS]
    return {width[-1] if isinstance(width, tuple) and width else width for width in found}


def _tokens_after(before: int) -> str:
    """The layout of tokens of which so many come before the image's."""
    return f"{before}+tokens" if before else "tokens"


def fitting_layouts(output: Tensor, image: Tensor) -> list[str]:
    """The layouts in which an output is a map with the image's proportions."""
    if len(output) != len(image) or output.ndim not in (3, 4):
        return []
    if output.ndim == 4:
        sides = {"NCHW": output.shape[2:], "NHWC": output.shape[1:3]}
        return [name for name, (rows, columns) in sides.items() if _has_proportions(rows, columns, image)]
    counts = {before: output.shape[1] - before for before in range(min(MOST_TOKENS_BEFORE + 1, output.shape[1]))}
    grids = {before: _grid_of(count, image) for before, count in counts.items()}
    return [_tokens_after(before) for before, (rows, columns) in grids.items() if rows * columns == counts[before]]


def _has_proportions(rows: int, columns: int, image: Tensor) -> bool:
    height, width = image.shape[2:]
    return abs(rows * width - columns * height) <= 2 * max(height, width)


def has_strides(rows: int, columns: int, image: Tensor) -> bool:
    """Whether the proportions are the image's, or each side is a whole fraction of its, of each direction its own."""
    sides = zip((rows, columns), image.shape[2:], strict=True)
    whole = all(n > 0 and abs(n - side / max(1, round(side / n))) <= 1 for n, side in sides)
    return whole or _has_proportions(rows, columns, image)


def as_map(
    model: nn.Module, output: Tensor, image: Tensor, layout: str, check: Check | None = _has_proportions
) -> Tensor | None:
    """The output as (N, C, h, w), or None where it is no such thing in this layout.

    Args:
        model: the network.
        output: of one of its layers.
        image: the images.
        layout: as for :func:`to_nchw`.
        check: of rows and columns of (N, C, h, w) against the image; None where the caller declared the layout.
    """
    if output.ndim != (3 if layout.endswith("tokens") else 4) or len(output) != len(image):
        return None
    if layout.endswith("tokens"):
        return _grid(model, output, image, int(layout.partition("+")[0]) if "+" in layout else 0)
    result = output.permute(0, 3, 1, 2) if layout == "NHWC" else output
    return result if check is None or check(result.shape[2], result.shape[3], image) else None


def _grid(model: nn.Module, tokens: Tensor, image: Tensor, before: int) -> Tensor | None:
    """Tokens (N, T, C) as a map (N, C, h, w), without those that come before the grid.

    The grid is the model's grid of patches, or else has the image's proportions.
    """
    count = tokens.shape[1] - before
    patches = getattr(model, "patch_embed", None)
    rows, columns = 0, 0
    if patches is not None and hasattr(patches, "dynamic_feat_size"):
        rows, columns = patches.dynamic_feat_size(tuple(image.shape[2:]))
    if rows * columns != count:
        rows, columns = _grid_of(count, image)
    if rows * columns != count or count < 1:
        return None
    return tokens[:, before:].permute(0, 2, 1).unflatten(2, (rows, columns))


def _grid_of(count: int, image: Tensor) -> tuple[int, int]:
    """Rows and columns nearest to the image's proportions, of about ``count`` cells."""
    height, width = image.shape[2:]
    columns = round(sqrt(max(count, 0) * width / height))
    return round(columns * height / width), columns


def _remedy(output: Tensor, image: Tensor) -> str:
    """The layouts that fit, or what else to do."""
    fitting = fitting_layouts(output, image)
    if not fitting:
        return "take a layer that puts out a map, before any pooling"
    return f"it would be one in {' or '.join(f'layout={name!r}' for name in fitting[:2])}".replace("'", '"')
