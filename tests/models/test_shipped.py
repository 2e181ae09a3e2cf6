"""The weights in checkpoints/ are as accurate on the data drawn today as their cards say."""

from math import sqrt

import pytest
import torch

from refinecam.data import ShapesDataModule
from refinecam.models import build_network, read_weights
from refinecam.models.checkpoints import SHIPPED

STATED = {"shapes-resnet18": 0.993, "shapes-convnext_tiny": 0.905}
"""Accuracy on varied shapes over procedural scenes, from checkpoints/README.md."""


def test_every_shipped_network_has_a_stated_accuracy():
    assert {path.stem for path in SHIPPED.glob("*.safetensors")} == set(STATED)


@pytest.mark.parametrize("name", STATED)
def test_shipped_weights_are_as_accurate_as_stated(name):
    weights = read_weights(name)
    data = ShapesDataModule(weights.backbone, test_size=60, batch_size=12, held_out_scenes=6, seed=1)
    data.setup("test")
    network = build_network(weights)
    with torch.inference_mode():
        right = [network(batch["image"]).argmax(1) == batch["label"] for batch in data.test_dataloader()]
    error = 3 * sqrt(STATED[name] * (1 - STATED[name]) / 60)
    assert torch.cat(right).float().mean() >= STATED[name] - error
