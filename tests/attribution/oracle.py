"""Maps by grad-cam 1.5.7."""

from contextlib import contextmanager

import numpy as np
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

STAGES = {
    "vgg11": ["features.5", "features.10", "features.15", "features.20"],
    "resnet18": ["layer1", "layer2", "layer3", "layer4"],
    "swin_tiny_patch4_window7_224": [f"layers.{i}.blocks.{b}.norm1" for i, b in enumerate((1, 1, 5, 1))],
    "convnext_tiny": ["stages.0", "stages.1", "stages.2", "stages.3"],
}
TARGETS = [0, 4, 2]


@contextmanager
def few_gradients(network):
    """Spare grad-cam the gradients of the weights that it throws away, which take most of its time.

    It needs those of the first layer, to reach every other, and of the head, for second derivatives.
    """
    spared = list(network.parameters())[1:-2]
    for parameter in spared:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in spared:
            parameter.requires_grad_(True)


def by_oracle(kind, network, name, batch, layers):
    reshape = (lambda t: t.permute(0, 3, 1, 2)) if "swin" in name else None
    modules = [network.get_submodule(layer) for layer in layers]
    targets = [ClassifierOutputTarget(target) for target in TARGETS[: len(batch)]]
    with few_gradients(network), kind(network, modules, reshape_transform=reshape) as cam:
        maps = torch.from_numpy(np.asarray(cam(batch, targets))).unsqueeze(1)
        cam.activations_and_grads.gradients = []  # it cannot let go of some itself
    return maps
