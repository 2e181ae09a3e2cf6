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
        backbone: its name.
        checkpoint: name of its weights; empty where they came with it.
        image_size: side of its images; None for the network's own.
        normalize: whether its images were normalized in training; None where nobody says.
        path: of its weights, where they are a file.
    """

    network: nn.Module
    backbone: str
    checkpoint: str
    image_size: int | None
    normalize: bool | None = None
    path: Path | None = None

    @property
    def title(self) -> str:
        """For tables."""
        return f"{self.backbone} ({self.checkpoint})" if self.checkpoint else self.backbone


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
        return Chosen(made, network, Path(checkpoint or "").name, image_size)
    if checkpoint is not None:
        weights = read_weights(checkpoint, backbone, image_size)
        path = weights.path
        own = path.parent == SHIPPED or checkpoint == IMAGENET
        file = Path(checkpoint).stem if own else f"{path.parent.name}/{path.name}"
        built = build_network(weights)
        return Chosen(built, weights.backbone, file, weights.image_size, weights.normalize, path)
    if backbone is not None:
        made = create_backbone(backbone, pretrained, image_size=image_size).eval()
        return Chosen(made, backbone, "ImageNet", image_size)
    raise InputError("checkpoint: name trained weights, a backbone for its ImageNet weights, or a network")
