"""The network of an evaluation, by whatever names it."""

from pathlib import Path
from typing import NamedTuple

from torch import nn

from refinecam.core.errors import InputError
from refinecam.models.backbones import create_backbone
from refinecam.models.checkpoints import SHIPPED, build_network, load_into, read_weights
from refinecam.models.foreign import IMAGENET, network_by_name


class Chosen(NamedTuple):
    """A network and what is known of it.

    Attributes:
        network: in eval mode.
        title: for tables.
        image_size: side of its images; None for the network's own.
        normalize: whether its images were normalized in training; None where nobody says.
        path: of its weights, where they are a file.
    """

    network: nn.Module
    title: str
    image_size: int | None
    normalize: bool | None = None
    path: Path | None = None


def choose_network(
    backbone: str | None,
    checkpoint: str | None,
    network: str | None,
    image_size: int | None = None,
    pretrained: bool = True,
) -> Chosen:
    """Build the network that a backbone, a checkpoint or a function names.

    Args:
        backbone: timm name; alone, with timm's ImageNet weights.
        checkpoint: weights, by file or by name.
        network: ``package.module.function``; with a checkpoint its state dict.
        image_size: side of the images.
        pretrained: false leaves out the weights that would be fetched for a backbone or torchvision's function.

    Raises:
        InputError: if none is named, two are, or weights do not fit.
    """
    if network is not None:
        if backbone is not None:
            raise InputError(f"network: {network} and backbone {backbone} are two networks; leave one out")
        made = network_by_name(network, pretrained and checkpoint is None)
        if checkpoint is not None:
            load_into(made, checkpoint, network)
        return Chosen(made, network, image_size)
    if checkpoint is not None:
        weights = read_weights(checkpoint, backbone, image_size)
        path = weights.path
        own = path.parent == SHIPPED or checkpoint == IMAGENET
        file = Path(checkpoint).stem if own else f"{path.parent.name}/{path.name}"
        title = f"{weights.backbone} ({file})"
        return Chosen(build_network(weights), title, weights.image_size, weights.normalize, path)
    if backbone is not None:
        made = create_backbone(backbone, pretrained, image_size=image_size).eval()
        return Chosen(made, f"{backbone} (ImageNet)", image_size)
    raise InputError("checkpoint: name trained weights, a backbone for its ImageNet weights, or a network")
