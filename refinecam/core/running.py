"""Running a network without leaving a trace: modes, memory layout, chunks, and what its errors mean."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from numbers import Integral
from threading import Lock, RLock
from typing import Any
from warnings import warn
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DataParallel, DistributedDataParallel

from refinecam.core.checks import check_input, check_logits, check_model, warn_of_bytes, warn_of_probabilities
from refinecam.core.errors import InputError
from refinecam.core.folding import folded
from refinecam.core.memory import chunk_size, in_room

Method = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""An attribution method, as scores see it: model, images and targets to maps (N, 1, H, W)."""
Targets = Tensor | Sequence[int] | np.ndarray | int | None
"""Classes as people give them: one for each image, one for all, or None for the predicted ones."""
MISFIT = re.compile("should be the same|same dtype|same device|expected scalar type|not implemented for")
_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_LOCKS_LOCK = Lock()
CHANNELS = re.compile(r"expected input\[([\d, ]+)\] to have (\d+) channels")


def bare(model: nn.Module) -> nn.Module:
    """The network inside of DataParallel, DistributedDataParallel and torch.compile, on whose layers hooks run."""
    while isinstance(model, DataParallel | DistributedDataParallel | OptimizedModule):
        model = model._orig_mod if isinstance(model, OptimizedModule) else model.module
    return model


@contextmanager
def owned(model: nn.Module) -> Iterator[None]:
    """Keep other threads away from a model, whose hooks and modes belong to whoever runs it."""
    check_model(model)
    with _LOCKS_LOCK:
        lock = _LOCKS.setdefault(bare(model), RLock())
    with lock:
        yield


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put the model into eval mode, and each module back into its own afterwards, whatever happens.

    A model in eval mode is not touched. Otherwise ``eval()`` and, from the outermost module inwards, ``train(mode)``
    are called, which may do work: an adapter merges its weights there. Other threads wait.
    """
    with owned(model):
        modes = [(module, module.training) for module in model.modules()]
        if not any(training for _, training in modes):
            yield
            return
        try:
            model.eval()
            yield
        finally:
            for module, training in modes:
                if module.training != training:
                    module.train(training)
            for module, training in modes:  # a train() of its own may have left others as they were
                module.training = training


@contextmanager
def eagerly(model: nn.Module) -> Iterator[None]:
    """Run every module as it is, so that its hooks run: not as compiled, nor in pieces to save memory, as timm can."""
    pieces: list[Any] = [module for module in model.modules() if getattr(module, "grad_checkpointing", False) is True]
    compiled = any(
        isinstance(module, OptimizedModule) or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )
    for module in pieces:
        module.grad_checkpointing = False
    try:
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            yield
    finally:
        for module in pieces:
            module.grad_checkpointing = True


def check_not_scripted(model: nn.Module, names: Sequence[str], argument: str) -> None:
    """Refuse modules on which no hook runs, because they are scripted or traced, or inside of one that is.

    Raises:
        InputError: with the remedy.
    """
    for name in names:
        inside = [name[: dot.start()] for dot in re.finditer(r"\.", name)]
        if any(isinstance(model.get_submodule(part), torch.jit.ScriptModule) for part in ("", *inside, name)):
            raise InputError(
                f"{argument}: {name or 'the model'} is scripted or traced, so nothing inside of it can be recorded; "
                "pass the module that it was made of"
            )


def fast_forward(model: nn.Module, images: Tensor) -> Any:
    """Run the model on images, without gradients, with batch norms folded, in the memory layout that is fastest.

    On a CPU that is channels last, for timm's networks; others may fail on it (``view`` does), so theirs is kept.
    Where memory runs out, fewer go at once. The model gets a copy, as its first layer may write into it.
    """
    fastest = images.device.type == "cpu" and hasattr(model, "pretrained_cfg")
    layout = torch.channels_last if fastest else torch.preserve_format
    with torch.no_grad(), explained_misfit(model, images):
        network = folded(model, images)
        return in_room(lambda part: network(part.clone(memory_format=layout)), images)


@contextmanager
def explained_misfit(model: nn.Module, images: Tensor) -> Iterator[None]:
    """Say why the model failed at the images, where their type, device or channels are the reason.

    Raises:
        InputError: instead of PyTorch's error, with the remedy.
    """
    try:
        yield
    except TypeError as error:
        if "forward() missing" not in str(error):
            raise
        raise InputError(
            f"model: its forward takes more than the images ({error}); wrap it in a module whose forward(images) gives "
            "it the rest"
        ) from error
    except AssertionError as error:
        if "match model" not in str(error) and "Wrong image" not in str(error):
            raise
        # timm's and torchvision's, for images of another size than a transformer's
        raise InputError(
            f"images: {tuple(images.shape)} does not fit the model: {error}; resize the images, or make the model for "
            "their size, in timm with img_size=… or dynamic_img_size=True"
        ) from error
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


def first_logits(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """The logits of images that the model has not seen yet, of which it may not be able to make any.

    Raises:
        InputError: for images that do not fit the model, outputs that are no logits, or targets out of range.
    """
    with explained_misfit(model, images):
        logits = model(images.clone())  # a first in-place module must not write into the caller's
    check_logits(logits, targets)
    warn_of_probabilities(logits)
    return logits


def warn_of_mixing(model: nn.Module, images: Tensor) -> None:
    """Warn of a batch norm without running statistics, in which the images of a batch change each other's maps."""
    for name, module in model.named_modules() if len(images) > 1 else ():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            warn(
                f"model: layer {name!r} has no running statistics, so what it makes of an image depends on the others "
                "of its batch; explain images one by one for maps of their own",
                stacklevel=1,  # one place, so that it is said once
            )
            return


def as_targets(model: nn.Module, images: Tensor, targets: Targets) -> Tensor:
    """Classes as the methods and the scores need them, int64, shape (N,); the images are looked at, too.

    Raises:
        InputError: if images or targets do not fit.
    """
    check_model(model)
    check_input(images, None)
    warn_of_bytes(images)
    warn_of_mixing(model, images)
    if targets is None:
        with eval_mode(model), torch.no_grad():
            classes = torch.zeros(len(images), dtype=torch.int64, device=images.device)
            parts = zip(*(values.split(chunk_size(images)) for values in (images, classes)), strict=True)
            logits = partial(in_room, partial(first_logits, model))
            return torch.cat([logits(*part).argmax(1) for part in parts]) if len(images) else classes
    if isinstance(targets, Integral) and not isinstance(targets, bool):
        return torch.full((len(images),), int(targets), device=images.device)
    if isinstance(targets, Tensor) and targets.ndim == 0 and targets.dtype == torch.int64:
        return targets.expand(len(images)).to(images.device)
    if isinstance(targets, list | tuple | np.ndarray):
        try:
            targets = torch.as_tensor(np.asarray(targets))
        except (TypeError, ValueError):
            pass
        else:
            whole = not targets.is_floating_point() and targets.dtype != torch.bool
            targets = targets.to(images.device, torch.int64 if whole else targets.dtype)
    check_input(images, targets)
    return targets  # type: ignore[return-value]
