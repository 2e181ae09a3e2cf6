"""The stages of a network, from shallow (0) to deep (-1), and the layout of what they put out."""

import difflib
import re
from collections.abc import Sequence
from math import sqrt

import torch
from timm.layers import GlobalResponseNormMlp, LayerNorm2d, Mlp
from timm.models.swin_transformer import SwinTransformer
from timm.models.vgg import VGG
from torch import Tensor, nn
from torchvision.models import SwinTransformer as TorchvisionSwin
from torchvision.models.convnext import LayerNorm2d as TorchvisionNorm

from refinecam.core.checks import check_model
from refinecam.core.errors import InputError

STAGES = 4
LAYOUT = re.compile(r"NCHW|NHWC|(\d+\+)?tokens")
CHANNELS_FIRST = (nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm, nn.MaxPool2d, nn.AvgPool2d, LayerNorm2d, TorchvisionNorm)
CHANNELS_LAST = (nn.LayerNorm, nn.Linear, Mlp, GlobalResponseNormMlp)  # 2d norms are LayerNorms too: first comes first


def stage_layers(model: nn.Module) -> list[str]:
    """Names of the modules that are the four stages of a timm model, shallow to deep.

    They come from timm's ``feature_info``, except where the reference protocol looks elsewhere: VGG after the pooling
    of each stage, Swin at the first norm of each stage's last block. (For Swin's deepest stage some prefer
    ``layers.3.blocks.1.norm2``, whose maps weigh the background less: give it by name.) A vision transformer has no
    stages: its blocks are quartered, and the first norm of each quarter's last block is taken, because the image's
    tokens no longer matter behind the last attention.

    Raises:
        InputError: if the model has no such description.
    """
    names = _described_stages(model)
    modules = dict(model.named_modules())
    missing = [name for name in names if name not in modules]
    if missing or not names:
        kind = type(model).__name__
        reason = f"names a stage {missing[0]!r} that it does not have" if missing else "does not describe its stages"
        raise InputError(
            f"stage: {kind} {reason}; give layers by name, GradCAM(stage=…) or RefineCAM(cam, layers=[…]), for example "
            f"{_examples(model)}"
        )
    return names


def _described_stages(model: nn.Module) -> list[str]:
    """Names of the stages as the kind of model has them; they need not exist."""
    check_model(model)
    if isinstance(model, VGG):
        pools = [f"features.{n}" for n, m in model.features.named_children() if isinstance(m, nn.MaxPool2d)]
        return pools[-STAGES:]
    if isinstance(model, SwinTransformer):
        blocks = [f"layers.{i}.blocks" for i in range(len(model.layers))]
        return [f"{name}.{len(list(model.get_submodule(name).children())) - 1}.norm1" for name in blocks]
    transformer = getattr(model, "blocks", None) if hasattr(model, "num_prefix_tokens") else None
    if isinstance(transformer, nn.Sequential | nn.ModuleList):
        lasts = [len(transformer) * (i + 1) // STAGES - 1 for i in range(STAGES)]
        return [f"blocks.{last}.norm1" for last in lasts if last >= 0]
    return [entry["module"] for entry in getattr(model, "feature_info", None) or []][-STAGES:]


def layers_of(model: nn.Module, stages: Sequence[int | str], argument: str = "stage") -> list[str]:
    """Module names of some stages.

    Args:
        model: the network.
        stages: each an index from shallow (0) to deep (-1), or a module's name.
        argument: what gave them, for messages.

    Raises:
        InputError: if one does not exist; the message lists what does.
    """
    check_model(model)
    modules = dict(model.named_modules())
    names = []
    for stage in stages:
        if not isinstance(stage, int | str) or isinstance(stage, bool):
            raise InputError(f"{argument}: expected an index or a layer's name, got {str(stage).splitlines()[0]:.60}")
        if isinstance(stage, str):
            if stage not in modules or not stage:
                close = ", ".join(difflib.get_close_matches(stage, filter(None, modules), n=4))
                result = f"close to it: {close}" if close else f"there are, for example, {_examples(model)}"
                raise InputError(f"{argument}: no layer named {stage!r}; {result}")
            names.append(stage)
            continue
        known = stage_layers(model)
        if not -len(known) <= stage < len(known):
            listed = ", ".join(f"{i} ({name})" for i, name in enumerate(known))
            raise InputError(f"stage: no stage {stage}; there are {listed}, and any layer by name")
        names.append(known[stage])
    return names


def check_layout(layout: str | None) -> None:
    """Refuse what is no layout.

    Raises:
        InputError: naming those that there are.
    """
    if layout is not None and not (isinstance(layout, str) and LAYOUT.fullmatch(layout)):
        raise InputError(
            f'layout: expected "NCHW", "NHWC", "tokens" or, with a class token, "1+tokens", got {layout!r}'
        )


def to_nchw(model: nn.Module, layer: str, output: Tensor, image: Tensor, layout: str | None = None) -> Tensor:
    """Bring a layer's output to (N, C, h, w), in float32 where it has less precision.

    The layout is what the caller declares. Otherwise convolutions, 2d norms and poolings put out NCHW, layer norms and
    linear layers keep channels last, and everything else has the layout that the model declares, as timm's do in
    ``output_fmt`` and, for tokens, ``num_prefix_tokens``; what comes out must then have the image's proportions.

    Args:
        model: the network.
        layer: the layer's name.
        output: what it put out.
        image: the images, shape (N, 3, H, W).
        layout: of the output: ``"NCHW"``, ``"NHWC"``, ``"tokens"`` for (N, T, C) that are the image row by row, or
            ``"1+tokens"`` where one token, or another number of them, comes before these.

    Raises:
        InputError: if the output is not spatial, or its layout is not known.
    """
    module, declared, given = model.get_submodule(layer), layout is not None, output
    if layout is None:
        layout = str(getattr(model, "output_fmt", "NHWC" if isinstance(model, TorchvisionSwin) else "NCHW"))
        if output.ndim == 3 and (hasattr(model, "num_prefix_tokens") or isinstance(model, SwinTransformer)):
            layout = f"{getattr(model, 'num_prefix_tokens', 0)}+tokens"
        elif isinstance(module, CHANNELS_FIRST):
            layout = "NCHW"
        elif isinstance(module, CHANNELS_LAST):
            layout = "NHWC"
    if output.ndim != (3 if layout.endswith("tokens") else 4) or len(output) != len(image):
        raise InputError(
            f"stage: layer {layer!r} puts out {tuple(output.shape)} for {len(image)} images, no map in layout "
            f"{layout}; {_remedy(output, image)}"
        )
    if layout.endswith("tokens"):
        output = _grid(model, layer, output, image, int(layout.partition("+")[0]) if "+" in layout else 0)
    elif layout == "NHWC":
        output = output.permute(0, 3, 1, 2)
    (rows, columns), (height, width) = output.shape[2:], image.shape[2:]
    if not declared and not _has_proportions(rows, columns, image):
        raise InputError(
            f"stage: layer {layer!r} puts out {tuple(output.shape)}, which has not the proportions of "
            f"{height}x{width} images in layout {layout}; {_remedy(given, image)}"
        )
    return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output


def _grid(model: nn.Module, layer: str, tokens: Tensor, image: Tensor, before: int) -> Tensor:
    """Tokens (N, T, C) as a map (N, C, h, w), without those that come before the grid.

    The grid is the model's grid of patches, or else has the image's proportions.
    """
    count, (height, width) = tokens.shape[1] - before, image.shape[2:]
    patches = getattr(model, "patch_embed", None)
    rows, columns = 0, 0
    if patches is not None and hasattr(patches, "dynamic_feat_size"):
        rows, columns = patches.dynamic_feat_size((height, width))
    if rows * columns != count:
        rows, columns = _grid_of(count, image)
    if rows * columns != count or count < 1:
        raise InputError(
            f"stage: the {tokens.shape[1]} tokens of layer {layer!r}, {before} of them before the image's, make no "
            f"grid with the proportions of {height}x{width} images; {_remedy(tokens, image)}"
        )
    return tokens[:, before:].permute(0, 2, 1).unflatten(2, (rows, columns))


def _grid_of(count: int, image: Tensor) -> tuple[int, int]:
    """Rows and columns nearest to the image's proportions, of about ``count`` cells."""
    height, width = image.shape[2:]
    columns = round(sqrt(max(count, 0) * width / height))
    return round(columns * height / width), columns


def _has_proportions(rows: int, columns: int, image: Tensor) -> bool:
    height, width = image.shape[2:]
    return abs(rows * width - columns * height) <= 2 * max(height, width)


def _remedy(output: Tensor, image: Tensor) -> str:
    """The layouts in which an output is a map with the image's proportions, or what else to do."""
    fitting = []
    if len(output) == len(image) and output.ndim == 4:
        sides = {"NCHW": output.shape[2:], "NHWC": output.shape[1:3]}
        fitting = [name for name, (rows, columns) in sides.items() if _has_proportions(rows, columns, image)]
    elif len(output) == len(image) and output.ndim == 3:
        grids = {before: _grid_of(output.shape[1] - before, image) for before in range(min(6, output.shape[1]))}
        fits = [before for before, (rows, columns) in grids.items() if rows * columns == output.shape[1] - before]
        fitting = [f"{before}+tokens" if before else "tokens" for before in fits]
    if not fitting:
        return "take a layer that puts out a map, before any pooling"
    return f"it would be one in {' or '.join(f'layout={name!r}' for name in fitting[:2])}".replace("'", '"')


def _examples(model: nn.Module) -> str:
    """Some names of layers for a message: the larger parts, which are what a stage is."""
    parts = [name for name, module in model.named_modules() if name.count(".") == 0 and name]
    inner = [name for name, _ in model.named_modules() if name.count(".") == 1]
    return ", ".join([*parts[:6], *inner[:: max(1, len(inner) // 6)][:6]])
