"""Reading trained weights back."""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from refinecam.errors import InputError
from refinecam.models.backbones import create_backbone


def load_network(checkpoint: str | Path, backbone: str, image_size: int | None = None) -> nn.Module:
    """Load the network that :class:`~refinecam.models.Classifier` trained.

    Args:
        checkpoint: file written by a training run.
        backbone: timm name of the network; must be the one in the file.
        image_size: side of the images, where not the backbone's own.

    Returns:
        The network in eval mode, on the CPU.

    Raises:
        InputError: if the file is missing, is no checkpoint of a classifier, or belongs to another backbone or image
            size.
    """
    content = read_checkpoint(checkpoint, backbone)
    num_classes, trained_size = (content["hyper_parameters"].get(key) for key in ("num_classes", "image_size"))
    if trained_size != image_size:
        sizes = [f"{size} px" if size else "the backbone's own size" for size in (trained_size, image_size)]
        remedy = trained_size or "null"
        raise InputError(
            f"checkpoint: {checkpoint} was trained at {sizes[0]}, not at {sizes[1]}; use --model.image_size {remedy}"
        )
    network = create_backbone(backbone, pretrained=False, num_classes=num_classes, image_size=image_size)
    prefix = "network."
    weights = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise InputError(f"checkpoint: {checkpoint} does not fit {backbone!r}: {reason}") from error
    return network.eval()


def read_checkpoint(checkpoint: str | Path, backbone: str) -> dict[str, Any]:
    """Read a checkpoint that train.py wrote and make sure that it belongs to ``backbone``.

    Raises:
        InputError: if it is missing, unreadable, of another origin or of another backbone.
    """
    path = Path(checkpoint)
    if not path.is_file():
        raise InputError(f"checkpoint: there is no file {path}; train.py writes one, or name another")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0]
        raise InputError(
            f"checkpoint: {path} cannot be read as weights ({reason}); name a .ckpt that train.py wrote"
        ) from error
    found = content.get("hyper_parameters", {}).get("backbone") if isinstance(content, dict) else None
    if found is None or "state_dict" not in content:
        raise InputError(f"checkpoint: {path} was not written by train.py: it has no weights and backbone")
    if found != backbone:
        raise InputError(f"checkpoint: {path} holds a {found!r}, not a {backbone!r}; use --model.backbone {found}")
    return content
