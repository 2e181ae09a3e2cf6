"""Checks of what goes into a network and of what comes out."""

from typing import Any
from warnings import warn

import numpy as np
import torch
from torch import Tensor, nn

from refinecam.core.errors import InputError

MOST_OF_A_COLOR = 50
"""Largest absolute value expected in a normalized image."""


def check_model(model: nn.Module) -> None:
    """Refuse what is no network.

    Raises:
        InputError: naming its type.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected a torch.nn.Module, got a {type(model).__name__}")


def check_tensor(name: str, value: Any, expected: str) -> None:
    """Refuse what is no ordinary tensor.

    Raises:
        InputError: naming the argument, what was expected, and how to get there.
    """
    if not isinstance(value, Tensor):
        remedy = "; use torch.from_numpy" if isinstance(value, np.ndarray) else ""
        raise InputError(f"{name}: expected a {expected}, got a {type(value).__name__}{remedy}")
    if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_complex():
        kind = f"{value.layout} {value.dtype} on {value.device}"
        raise InputError(f"{name}: expected a {expected} of real numbers, dense, not quantized, in memory; got {kind}")


def check_input(images: Tensor, targets: Any) -> None:
    """Refuse images, or targets that are given, of the wrong shape or type.

    Raises:
        InputError: naming the argument.
    """
    check_tensor("images", images, "tensor (N, C, H, W)")
    if images.ndim != 4 or not images.is_floating_point():
        alone = "; one image alone: images.unsqueeze(0)" if images.ndim == 3 else ""
        whole = "" if images.is_floating_point() else "; divide by 255 and normalize as in the model's training"
        raise InputError(
            f"images: expected a float tensor (N, C, H, W), got {images.dtype} {tuple(images.shape)}{alone}{whole}"
        )
    if targets is None:
        return
    if not isinstance(targets, Tensor):
        raise InputError(f"targets: expected one class for each image, torch.tensor([…]), got {targets!r:.60}")
    if targets.dtype != torch.int64 or targets.shape != images.shape[:1]:
        raise InputError(
            f"targets: expected an int64 tensor ({len(images)},), one class for each image, got {targets.dtype} "
            f"{tuple(targets.shape)}" + ("; use targets.long()" if targets.shape == images.shape[:1] else "")
        )


def check_logits(logits: Any, targets: Tensor) -> None:
    """Refuse what is not (N, K) logits, or a target that is not one of the K classes.

    Raises:
        InputError: naming the argument.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(targets):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        wrap = "" if isinstance(logits, Tensor) else "; wrap it in a module that returns the logits alone"
        raise InputError(f"model: expected logits ({len(targets)}, classes), got {shape}{wrap}")
    wrong = targets[(targets < 0) | (targets >= logits.shape[1])]
    if len(wrong):
        raise InputError(f"targets: class {wrong[0].item()} is not one of the model's {logits.shape[1]} classes")


def check_scale(logits: Tensor) -> None:
    """Refuse a lone logit, whose softmax is always 1, and warn of probabilities, which are no logits.

    Raises:
        InputError: with the remedy.
    """
    if logits.shape[1] == 1:
        raise InputError(
            "model: it puts out one logit, whose softmax is 1 whatever it sees; give it two classes: "
            "torch.cat([torch.zeros_like(z), z], 1)"
        )
    warn_of_probabilities(logits)


def warn_of_bytes(images: Tensor) -> None:
    """Warn of colors from 0 to 255, which no network was trained on."""
    if images.numel() and images.amax() > MOST_OF_A_COLOR and images.amin() >= 0:
        warn(
            f"images: values up to {images.amax().item():.0f} look like colors from 0 to 255; divide by 255 and "
            "normalize as in the model's training",
            stacklevel=1,  # one place, so that it is said once
        )


def warn_of_probabilities(logits: Tensor) -> None:
    """Warn of outputs that are probabilities already."""
    if len(logits) and logits.shape[1] > 1 and ((logits >= 0).all() & ((logits.float().sum(1) - 1).abs() < 1e-3).all()):
        warn(
            "model: it seems to put out probabilities, of which the scores take the softmax once more, and whose "
            "gradients vanish; take its own softmax away, or return their logarithm",
            stacklevel=1,
        )
