"""What every part needs to know of a network: its name, how to run it unchanged, what it puts out."""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from warnings import warn

import timm
import torch
from torch import Tensor, int64, nn

from refinecam.errors import InputError

MISFIT = re.compile("should be the same|same dtype|same device|expected scalar type|not implemented for")
CHANNELS = re.compile(r"expected input\[([\d, ]+)\] to have (\d+) channels")


def check_backbone(name: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        InputError: with names that are close to it.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4) or timm.list_models(f"{name}*")[:3]
        raise InputError(f"backbone: timm has no model named {name!r}; close to it: {', '.join(close) or 'none'}")


def data_config(name: str) -> dict[str, Any]:
    """What timm says of a network's images: ``input_size``, ``crop_pct``, ``mean``, ``std`` and ``interpolation``.

    Raises:
        InputError: if timm does not know the name.
    """
    check_backbone(name)
    config = timm.models.get_pretrained_cfg(name)
    return timm.data.resolve_data_config(pretrained_cfg=config.to_dict() if config else {"input_size": (3, 224, 224)})


def takes_any_size(name: str) -> bool:
    """Whether images of other sizes go through the same network, as a crop curriculum needs it."""
    config = timm.models.get_pretrained_cfg(name)
    return config is None or not config.fixed_input_size or name.startswith("swin")


def check_model(model: nn.Module) -> None:
    """Refuse what is no network.

    Raises:
        InputError: naming its type.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected a torch.nn.Module, got a {type(model).__name__}")


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put the model into eval mode and each module back into its own afterwards, whatever happens."""
    check_model(model)
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
    with torch.no_grad(), explained_misfit(model, images):
        return model(images)


@contextmanager
def explained_misfit(model: nn.Module, images: Tensor) -> Iterator[None]:
    """Say why the model failed at the images, where their type, device or channels are the reason.

    Raises:
        InputError: instead of PyTorch's error, with the remedy.
    """
    try:
        yield
    except RuntimeError as error:
        weight = next((p for p in model.parameters() if p.is_floating_point()), images)
        other = (weight.dtype, weight.device) != (images.dtype, images.device)
        if other and MISFIT.search(str(error)):
            raise InputError(
                f"images: {images.dtype} on {images.device}, but the model's weights are {weight.dtype} on "
                f"{weight.device}; use images.to({str(weight.device)!r}, {weight.dtype})"
            ) from error
        wanted = CHANNELS.search(str(error))
        if wanted and wanted[1] == ", ".join(map(str, images.shape)):
            turned = "; images.permute(0, 3, 1, 2) puts them first" if str(images.shape[3]) == wanted[2] else ""
            raise InputError(
                f"images: {tuple(images.shape)} has {images.shape[1]} channels, the model takes {wanted[2]}{turned}"
            ) from error
        raise


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
    if not isinstance(images, Tensor):
        raise InputError(f"images: expected a tensor (N, C, H, W), got a {type(images).__name__}")
    if images.ndim != 4 or not images.is_floating_point():
        alone = "; one image alone: images.unsqueeze(0)" if images.ndim == 3 else ""
        whole = "" if images.is_floating_point() else "; divide by 255 and normalize as in the model's training"
        raise InputError(
            f"images: expected a float tensor (N, C, H, W), got {images.dtype} {tuple(images.shape)}{alone}{whole}"
        )
    if not isinstance(targets, Tensor):
        raise InputError(f"targets: expected one class for each image, torch.tensor([…]), got {targets!r:.60}")
    if targets.dtype != int64 or targets.shape != images.shape[:1]:
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
    if len(logits) > 1 and ((logits >= 0).all() & ((logits.float().sum(1) - 1).abs() < 1e-3).all()):
        warn(
            "model: it seems to put out probabilities, of which the scores take the softmax once more; take its own "
            "softmax away, or return their logarithm",
            stacklevel=2,
        )


def first_logits(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """The logits of images that the model has not seen yet, of which it may not be able to make any.

    Raises:
        InputError: for images that do not fit the model, outputs that are no logits, or targets out of range.
    """
    with explained_misfit(model, images):
        logits = model(images.clone())  # a first in-place module must not write into the caller's
    check_logits(logits, targets)
    return logits
