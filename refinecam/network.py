"""What every part needs to know of a network: its name, how to run it unchanged, what it puts out."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import timm
import torch
from torch import Tensor, int64, nn

from refinecam.errors import InputError


def check_backbone(name: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        InputError: with names that are close to it.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4) or timm.list_models(f"{name}*")[:3]
        raise InputError(f"backbone: timm has no model named {name!r}; close to it: {', '.join(close) or 'none'}")


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put the model into eval mode and each module back into its own afterwards, whatever happens."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def default_chunk(images: Tensor) -> int:
    """How many images go through a network at once where nobody says: 16 of 224 px on a CPU, for its cache, or 128."""
    pixels = (16 if images.device.type == "cpu" else 128) * 224 * 224
    return max(1, pixels // max(1, images.shape[2] * images.shape[3]))


def fast_forward(model: nn.Module, images: Tensor) -> Any:
    """Run the model on images, without gradients, in the memory layout that is fastest.

    On a CPU that is channels last, for timm's networks; others may take it amiss (``view`` does), so theirs is kept.
    """
    if images.device.type == "cpu" and hasattr(model, "pretrained_cfg"):
        images = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        return model(images)


def check_gradients_possible() -> None:
    """Refuse inference mode, in which no tensor can be differentiated, not even under ``torch.enable_grad()``.

    Raises:
        InputError: with the remedy.
    """
    if torch.is_inference_mode_enabled():
        raise InputError(
            "gradients are needed but inference mode is on: use torch.no_grad() instead, or, under Lightning, "
            "Trainer(inference_mode=False)"
        )


def check_input(images: Tensor, targets: Tensor) -> None:
    """Refuse images or targets of the wrong shape or type.

    Raises:
        InputError: naming the argument.
    """
    for name, value in (("images", images), ("targets", targets)):
        if not isinstance(value, Tensor):
            raise InputError(f"{name}: expected a tensor, got {value!r:.60}")
    if images.ndim != 4 or not images.is_floating_point():
        raise InputError(f"images: expected a float tensor (N, C, H, W), got {images.dtype} {tuple(images.shape)}")
    if targets.dtype != int64 or targets.shape != images.shape[:1]:
        raise InputError(
            f"targets: expected an int64 tensor ({len(images)},), one class for each image, got {targets.dtype} "
            f"{tuple(targets.shape)}"
        )


def check_logits(logits: Any, targets: Tensor) -> None:
    """Refuse what is not (N, K) logits, or a target that is not one of the K classes.

    Raises:
        InputError: naming the argument.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(targets):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"model: expected logits ({len(targets)}, classes), got {shape}")
    wrong = targets[(targets < 0) | (targets >= logits.shape[1])]
    if len(wrong):
        raise InputError(f"targets: class {wrong[0].item()} is not one of the model's {logits.shape[1]} classes")
