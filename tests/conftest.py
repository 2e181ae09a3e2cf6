"""What many tests share."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test depends on the network

import cv2
import numpy as np
import pytest
import timm
import torch
from torch import nn

from refinecam.cli import evaluate, train
from refinecam.data.funnybirds.writer import write_birds
from refinecam.models import create_backbone
from tests.command_lines import evaluate_args, train_args

BACKBONES = ("vgg11", "resnet18", "swin_tiny_patch4_window7_224", "convnext_tiny")
SIZE = 96


class TinyNet(nn.Module):
    """A two-stage network that computes in no time, with a batch norm, an in-place ReLU and a dropout."""

    def __init__(self, classes: int = 6) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.deep = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(inplace=True))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(12, classes)

    def forward(self, x):
        return self.head(self.drop(self.deep(self.stem(x)).mean((2, 3))))


class AwkwardNet(TinyNet):
    """As tiny, with what trips methods up: a first module that writes into its input, an activation that runs twice, a
    pooling right behind an activation, and a softmax."""

    def __init__(self, classes: int = 6) -> None:
        super().__init__(classes)
        self.stem = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(inplace=True))
        self.deep = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 1, 1))
        self.softmax = nn.Softmax(1)

    def forward(self, x):
        features = self.deep(self.stem[2](self.stem(x) - 0.1))
        return self.head(self.drop(self.softmax(features.mean((2, 3)) * 5)))


@pytest.fixture
def tiny_net():
    torch.manual_seed(0)
    return TinyNet().eval()


@pytest.fixture
def images():
    return torch.randn(5, 3, 24, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def targets():
    return torch.tensor([0, 3, 5, 3, 1])


@pytest.fixture(scope="session")
def backbones():
    """The four networks with random weights, for images of 96 px; VGG11 with a narrow head.

    Its own, of 120 million weights, comes after every stage and took most of the time of its tests.
    """
    networks = {}
    for name in BACKBONES:
        torch.manual_seed(0)
        if name == "vgg11":
            networks[name] = timm.create_model(name, num_classes=6, mlp_ratio=1 / 32).eval()
        else:
            networks[name] = create_backbone(name, pretrained=False, num_classes=6, image_size=SIZE).eval()
    return networks


@pytest.fixture(scope="session")
def batch():
    """Three images for the backbones."""
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def page_folder(tmp_path):
    """Six pages of two tiles each."""
    rng = np.random.default_rng(0)
    for page in range(6):
        for tile in range(2):
            image = cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (80, 64))
            cv2.imwrite(str(tmp_path / f"book1_s{page}_{tile * 256}_0.jpg"), image)
    return tmp_path


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Folder of a tiny training."""
    folder = tmp_path_factory.mktemp("trained")
    train(train_args(folder))
    return folder


@pytest.fixture(scope="session")
def evaluated(trained, tmp_path_factory):
    """Folder of an evaluation of it."""
    output = tmp_path_factory.mktemp("evaluated")
    evaluate(evaluate_args(trained, output))
    return output


@pytest.fixture(scope="session")
def birds(tmp_path_factory):
    """Twelve kinds of our birds, in FunnyBirds' layout."""
    folder = tmp_path_factory.mktemp("birds") / "data"
    write_birds(folder, classes=12, train_per_class=3, test_per_class=1, seed=0, size=64, progress=False)
    return folder
