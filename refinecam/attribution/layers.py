"""The stages of a network, from shallow (0) to deep (-1), and the layout of what they put out."""

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

from refinecam.errors import InputError

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
    if isinstance(model, VGG):
        pools = [f"features.{n}" for n, m in model.features.named_children() if isinstance(m, nn.MaxPool2d)]
        return pools[-STAGES:]
    if isinstance(model, SwinTransformer):
        blocks = [f"layers.{i}.blocks" for i in range(len(model.layers))]
        return [f"{name}.{len(list(model.get_submodule(name).children())) - 1}.norm1" for name in blocks]
    transformer = getattr(model, "blocks", None) if hasattr(model, "num_prefix_tokens") else None
    if isinstance(transformer, nn.Sequential | nn.ModuleList):
        return [f"blocks.{len(transformer) * (i + 1) // STAGES - 1}.norm1" for i in range(STAGES)]
    info = getattr(model, "feature_info", None)
    if not info:
        raise InputError(
            f"stage: {type(model).__name__} does not describe its stages; give layers by name, for example "
            f"{_examples(model)}"
        )
    return [entry["module"] for entry in info][-STAGES:]


def layers_of(model: nn.Module, stages: Sequence[int | str]) -> list[str]:
    """Module names of some stages.

    Args:
        model: the network.
        stages: each an index from shallow (0) to deep (-1), or a module's name.

    Raises:
        InputError: if one does not exist; the message lists what does.
    """
    modules = dict(model.named_modules())
    names = []
    for stage in stages:
        if not isinstance(stage, int | str) or isinstance(stage, bool):
            raise InputError(f"stage: expected an index or a layer's name, got {stage!r}")
        if isinstance(stage, str):
            if stage not in modules or not stage:
                raise InputError(f"stage: no layer named {stage!r}; there are, for example, {_examples(model)}")
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
    module, declared = model.get_submodule(layer), layout is not None
    if layout is None:
        layout = str(getattr(model, "output_fmt", "NHWC" if isinstance(model, TorchvisionSwin) else "NCHW"))
        if output.ndim == 3 and (hasattr(model, "num_prefix_tokens") or isinstance(model, SwinTransformer)):
            layout = f"{getattr(model, 'num_prefix_tokens', 0)}+tokens"
        elif isinstance(module, CHANNELS_FIRST):
            layout = "NCHW"
        elif isinstance(module, CHANNELS_LAST):
            layout = "NHWC"
    if output.ndim != (3 if layout.endswith("tokens") else 4) or len(output) != len(image):
        hint = '; if these are tokens (N, T, C), say so: layout="tokens"' if output.ndim == 3 and not declared else ""
        raise InputError(
            f"stage: layer {layer!r} puts out {tuple(output.shape)} for {len(image)} images, no map in layout "
            f"{layout}{hint}"
        )
    if layout.endswith("tokens"):
        output = _grid(model, layer, output, image, int(layout.partition("+")[0]) if "+" in layout else 0)
    elif layout == "NHWC":
        output = output.permute(0, 3, 1, 2)
    (rows, columns), (height, width) = output.shape[2:], image.shape[2:]
    if not declared and abs(rows * width - columns * height) > 2 * max(height, width):
        raise InputError(
            f"stage: layer {layer!r} puts out {tuple(output.shape)}, which has not the proportions of "
            f"{height}x{width} images in layout {layout}; say what it is: layout="
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
        columns = round(sqrt(max(count, 0) * width / height))
        rows = round(columns * height / width)
    if rows * columns != count or count < 1:
        raise InputError(
            f"stage: the {tokens.shape[1]} tokens of layer {layer!r}, {before} of them before the image's, make no "
            f"grid with the proportions of {height}x{width} images; if others come before, say how many: "
            'layout="1+tokens"'
        )
    return tokens[:, before:].permute(0, 2, 1).unflatten(2, (rows, columns))


def _examples(model: nn.Module) -> str:
    """Some names of layers for a message: the larger parts, which are what a stage is."""
    parts = [name for name, module in model.named_modules() if name.count(".") == 0 and name]
    inner = [name for name, _ in model.named_modules() if name.count(".") == 1]
    return ", ".join([*parts[:6], *inner[:: max(1, len(inner) // 6)][:6]])
