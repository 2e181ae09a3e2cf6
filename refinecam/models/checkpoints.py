"""Trained weights: what train.py wrote, and what is shipped with the project by name."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from refinecam.core.backbones import data_config
from refinecam.core.errors import InputError
from refinecam.core.files import write_file
from refinecam.models.backbones import create_backbone
from refinecam.models.foreign import IMAGENET, IMAGENET_BACKBONE, class_count, fitted, imagenet_file, unwrapped

_INSTALLED = Path(__file__).parents[1] / "checkpoints"
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "checkpoints"
"""Shipped weights: in the installed package or, of a checkout, beside it."""
PREFIX = "network."
DESCRIPTION = ("backbone", "num_classes", "image_size", "normalize")
LARGEST = 10**6
"""Of a number of classes, or a side of images, that a file may name."""


class Weights(NamedTuple):
    """A network's weights and what is needed to build it.

    Attributes:
        backbone: timm name of the network.
        num_classes: number of classes.
        image_size: side of the images in training, None for the backbone's own.
        state: the network's ``state_dict``.
        path: the file they come from.
        normalize: whether images were normalized in training; otherwise their colors were in [0, 1].
    """

    backbone: str
    num_classes: int
    image_size: int | None
    state: dict[str, Tensor]
    path: Path
    normalize: bool = True

    def load_into(self, network: nn.Module) -> None:
        """Copy them into a network.

        Raises:
            InputError: if they do not fit.
        """
        try:
            network.load_state_dict(self.state)
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise InputError(f"checkpoint: {self.path} does not fit {self.backbone!r}: {reason}") from error


def load_network(checkpoint: str | Path, backbone: str | None = None, image_size: int | None = None) -> nn.Module:
    """Load a trained network.

    Args:
        checkpoint: file written by train.py (``.ckpt``) or exported (``.safetensors``), a state dict of timm's or
            torchvision's network of this ``backbone``, or the name of weights that come with the project:
            ``"shapes-resnet18"``, ``"imagenet-efficientnet_lite0"`` with the extra ``refinecam[imagenet]``.
        backbone: timm name of the network; for files that say it, if it is to be made sure of.
        image_size: side of the images, likewise.

    Returns:
        The network in eval mode, on the CPU.

    Raises:
        InputError: if the file is missing, holds no weights, or belongs to another backbone or image size.
    """
    return build_network(read_weights(checkpoint, backbone, image_size))


def build_network(weights: Weights, any_size: bool = False) -> nn.Module:
    """The network of these weights, in eval mode; ``any_size`` as in :func:`create_backbone`."""
    network = create_backbone(weights.backbone, False, weights.num_classes, weights.image_size, any_size)
    weights.load_into(network)
    return network.eval()


def read_weights(checkpoint: str | Path, backbone: str | None = None, image_size: int | None = None) -> Weights:
    """Read weights and make sure that they are of the expected backbone and image size, where these are given.

    Raises:
        InputError: if the file is missing, unreadable, of another origin, backbone or image size.
    """
    if backbone is not None and not isinstance(backbone, str):
        raise InputError(f"backbone: expected a timm name, got {backbone!r}")
    path = find_checkpoint(checkpoint)
    if str(checkpoint) == IMAGENET:
        backbone = backbone or IMAGENET_BACKBONE
    read = _read_safetensors if path.suffix == ".safetensors" else _read_pickle
    weights = read(path, backbone, image_size)
    if backbone is not None and weights.backbone != backbone:
        raise InputError(
            f"checkpoint: {path} holds a {weights.backbone!r}, not a {backbone!r}; "
            f"use backbone {weights.backbone}, or a checkpoint of {backbone!r}"
        )
    if image_size is not None:
        trained = weights.image_size or data_config(weights.backbone)["input_size"][-1]
        if trained != image_size:
            raise InputError(
                f"checkpoint: {path} was trained at {trained} px, not at {image_size} px; use image_size {trained}"
            )
    return weights


def check_colors(argument: str, value: object, normalized: bool, of_data: bool) -> None:
    """Refuse data of other colors than those that weights have seen.

    Args:
        argument: what named the weights.
        value: the name that it gave.
        normalized: whether their training normalized its images.
        of_data: whether the data are.

    Raises:
        InputError: if the images are not of the kind.
    """
    if normalized != of_data:
        seen = "normalized images" if normalized else "colors in [0, 1]"
        raise InputError(
            f"{argument}: {value} was trained on {seen}, which these data are not; give other weights or, with "
            f"FunnyBirds, normalize {str(normalized).lower()}"
        )


def find_checkpoint(checkpoint: str | Path) -> Path:
    """The file of a checkpoint that is given by path, or by name if it is shipped.

    Raises:
        InputError: with the names that there are, if there is no such file.
    """
    path = Path(checkpoint)
    shipped = SHIPPED / f"{checkpoint}.safetensors"
    if path.is_file() or shipped.is_file():
        return path if path.is_file() else shipped
    if str(checkpoint) == IMAGENET:
        return imagenet_file()
    names = ", ".join([*sorted(path.stem for path in SHIPPED.glob("*.safetensors")), IMAGENET])
    raise InputError(
        f"checkpoint: there is no file {path}; train.py writes one, or name weights of the project: {names}"
    )


def export_weights(weights: Weights, path: str | Path) -> None:
    """Write weights as safetensors in half precision; vectors, such as normalization statistics, stay as they are."""
    state = {
        name: value.half().contiguous() if value.ndim > 1 and value.is_floating_point() else value.contiguous()
        for name, value in weights.state.items()
    }
    about = {name: getattr(weights, name) for name in DESCRIPTION}
    texts = {name: "" if value is None else str(value) for name, value in about.items()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_file(Path(path), lambda beside: save_file(state, beside, texts))


def _safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError) as error:
        raise InputError(f"checkpoint: {path} cannot be read as weights ({error}); fetch or export it again") from error


def _read_safetensors(path: Path, backbone: str | None, image_size: int | None) -> Weights:
    about, state = _safetensors(path)
    numbers = (about.get("num_classes", ""), about.get("image_size", "none") or "0")
    if "backbone" not in about or not all(n.isdecimal() and len(n) < 10 for n in numbers):
        return _read_plain(path, state, backbone, image_size)
    size = int(about["image_size"]) if about["image_size"] else None
    normalize = about.get("normalize", "True") == "True"
    return _described(Weights(about["backbone"], int(about["num_classes"]), size, state, path, normalize))


def _described(weights: Weights) -> Weights:
    """The weights, unless what their file says of them cannot be."""
    sizes = (weights.num_classes, 1 if weights.image_size is None else weights.image_size)
    whole = all(isinstance(size, int) and not isinstance(size, bool) and 0 < size <= LARGEST for size in sizes)
    if not whole or not isinstance(weights.backbone, str) or not isinstance(weights.normalize, bool):
        about = ", ".join(f"{name} {value!r:.50}" for name, value in weights._asdict().items() if name in DESCRIPTION)
        raise InputError(f"checkpoint: {weights.path} says of its weights {about}, which cannot be; export them again")
    return weights


def _pickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm and torchvision keep their options so
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler's own are of a dozen types, depending on what the bytes happen to mean
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0]
        raise InputError(
            f"checkpoint: {path} cannot be read as weights ({reason}); name a .ckpt that train.py wrote, or a state "
            "dict"
        ) from error


def _read_pickle(path: Path, backbone: str | None, image_size: int | None) -> Weights:
    content = _pickle(path)
    about, data = _section(content, "hyper_parameters"), _section(content, "datamodule_hyper_parameters")
    if about.get("backbone") is None or about.get("num_classes") is None or "state_dict" not in content:
        return _read_plain(path, content, backbone, image_size)
    state = {k.removeprefix(PREFIX): v for k, v in _state_of(content, path).items() if k.startswith(PREFIX)}
    normalize = data.get("normalize", True)  # shapes always are
    return _described(Weights(about["backbone"], about["num_classes"], about.get("image_size"), state, path, normalize))


def _section(content: Any, name: str) -> Mapping[str, Any]:
    section = content.get(name) if isinstance(content, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def load_into(network: nn.Module, checkpoint: str | Path, name: str) -> None:
    """Load a state dict into a network that is there.

    Args:
        network: with the architecture of the weights.
        checkpoint: file of the state dict.
        name: of the network, for messages.

    Raises:
        InputError: if they do not fit.
    """
    path = find_checkpoint(checkpoint)
    content = _safetensors(path)[1] if path.suffix == ".safetensors" else _pickle(path)
    network.load_state_dict(fitted(_state_of(content, path), network, path, name))


def _state_of(content: Any, path: Path) -> dict[str, Tensor]:
    state = unwrapped(content)
    if state is None:
        kind = type(content).__name__
        raise InputError(f"checkpoint: {path} holds a {kind} that is no state dict; save network.state_dict()")
    return state


def _read_plain(path: Path, content: Any, backbone: str | None, image_size: int | None) -> Weights:
    """Weights that do not say what network they are of."""
    state = _state_of(content, path)
    if backbone is None:
        raise InputError(f"checkpoint: {path} does not say what network it is of; name it with backbone")
    classes = class_count(state, backbone)
    if classes is None or not 0 < classes <= LARGEST:
        raise InputError(f"checkpoint: {path} has no layer with weights for classes; save network.state_dict()")
    network = create_backbone(backbone, False, classes, image_size)
    return Weights(backbone, classes, image_size, fitted(state, network, path, backbone), path)
