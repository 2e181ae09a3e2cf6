"""Backbones from timm, by name."""

from itertools import product
from typing import Any

import timm
import torch
from timm.models.convnext import ConvNeXtBlock
from timm.models.swin_transformer import SwinTransformerBlock, WindowAttention
from torch import nn

from refinecam.core.backbones import check_backbone, takes_any_size
from refinecam.core.errors import InputError

DIRECTIONS = ((0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (1, 1), (-1, 1), (1, -1))
"""Neighbors of a position, (rows, columns) away; opposite ones follow each other."""


def create_backbone(
    name: str,
    pretrained: bool = True,
    num_classes: int | None = None,
    image_size: int | None = None,
    any_size: bool = False,
) -> nn.Module:
    """Build a timm classifier.

    Args:
        name: timm's name, for example ``"vgg11"``, ``"resnet18"``, ``"swin_tiny_patch4_window7_224"`` or
            ``"convnext_tiny"``.
        pretrained: start from timm's default ImageNet weights.
        num_classes: classes of a new head; None keeps the one of the weights.
        image_size: input size, for networks that must know it (Swin); None for their own.
        any_size: let a Swin take other sizes than that, too, for a crop curriculum. Its shifted windows are exact for
            sizes whose patches fill them at every stage that shifts: 112 px as well as 224 px. Other networks of a
            fixed size, such as a ViT, stay at it.

    Returns:
        The network, images (N, 3, H, W) to logits (N, num_classes).

    Raises:
        InputError: if timm does not know the name, or the weights cannot be fetched.
    """
    check_backbone(name)
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    pretrained_cfg = timm.models.get_pretrained_cfg(name)
    if pretrained_cfg is not None and pretrained_cfg.fixed_input_size:
        if image_size is not None:
            options["img_size"] = image_size
        if any_size and takes_any_size(name):
            options["strict_img_size"] = False
    if not pretrained:
        return timm.create_model(name, pretrained=False, **options)
    if pretrained_cfg is None or not pretrained_cfg.has_weights:
        raise InputError(f"pretrained: timm has no weights for {name!r}; start without them: pretrained false")
    try:
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub's client raises a dozen types, its own and those of two HTTP libraries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise InputError(
            f"pretrained: the ImageNet weights of {name!r} could not be fetched ({reason}); connect to the internet "
            "once, or do without: pretrained false, as in the configs that end with -scratch, or a checkpoint"
        ) from error


def open_blocks(network: nn.Module) -> None:
    """Let the blocks of a ConvNeXt or a Swin without weights contribute from the first step.

    A ConvNeXt's layer scales of 1e-6 let very deep networks learn at all; this one only loses time by them: at batches
    of 32, the first 200 steps taught a ConvNeXt-Tiny clearly less than with scales of 1. A Swin's linear layers start
    so small that each block hands on what it gets, and its heads look everywhere alike: only the table of relative
    positions knows where a neighbor is, and a step of AdamW moves its entries by about a learning rate.
    Here the layers start as Xavier has it, and each head attends to one neighboring position, as in ConViT (d'Ascoli et
    al., ICML 2021). checkpoints/README.md has what that is worth to a Swin.
    """
    heads = 0
    for block in network.modules():
        if isinstance(block, ConvNeXtBlock) and block.gamma is not None:
            nn.init.ones_(block.gamma)
        if isinstance(block, SwinTransformerBlock):
            for layer in block.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
            _look_around(block.attn, heads)
            heads += block.attn.num_heads


def _look_around(attention: WindowAttention, first: int) -> None:
    """Let the heads, of which ``first`` is the first one's number, look in all directions, and then farther."""
    rows, columns = attention.window_size
    # The table is indexed by where a place is, seen from the one that it looks at.
    offsets = -torch.tensor(list(product(range(1 - rows, rows), range(1 - columns, columns))))
    for head in range(attention.num_heads):
        distance = min(1 + head // len(DIRECTIONS), max(1, min(rows, columns) // 2))
        position = distance * torch.tensor(DIRECTIONS[(first + head) % len(DIRECTIONS)])
        bias = -(offsets - position).square().sum(1)  # 1 less for the next places, so that they are seen as well
        attention.relative_position_bias_table.data[:, head] = bias.float()
