"""Backbones from timm, by name."""

import difflib
from typing import Any

import timm
from torch import nn

from refinecam.errors import InputError


def create_backbone(
    name: str, pretrained: bool = True, num_classes: int | None = None, image_size: int | None = None
) -> nn.Module:
    """Build a timm classifier.

    Args:
        name: timm's name, for example ``"vgg11"``, ``"resnet18"``, ``"swin_tiny_patch4_window7_224"`` or
            ``"convnext_tiny"``.
        pretrained: start from timm's default ImageNet weights.
        num_classes: classes of a new head; None keeps the one of the weights.
        image_size: input size, for networks that must know it (Swin); None for their own.

    Returns:
        The network, images (N, 3, H, W) to logits (N, num_classes).

    Raises:
        InputError: if timm does not know the name, or the weights cannot be fetched.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4) or timm.list_models(f"{name}*")[:3]
        raise InputError(f"backbone: timm has no model named {name!r}; close to it: {', '.join(close) or 'none'}")
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    pretrained_cfg = timm.models.get_pretrained_cfg(name)
    if image_size is not None and pretrained_cfg is not None and pretrained_cfg.fixed_input_size:
        options["img_size"] = image_size
    if not pretrained:
        return timm.create_model(name, pretrained=False, **options)
    try:
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub's client raises a dozen types, from its own or from two HTTP libraries
        raise InputError(
            f"pretrained: the ImageNet weights of {name!r} could not be fetched ({type(error).__name__}); connect to "
            "the internet once, or train from scratch with --model.pretrained false and a crop curriculum"
        ) from error
