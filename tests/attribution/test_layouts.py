"""Layers of known layout are never doubted for their proportions, and one network may have several layouts.

Reported for grad-cam: jacobgil/pytorch-grad-cam#452 (images of one row), #84, #426 and #511 (tokens).
"""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock

from refinecam.attribution import GradCAM, GradCAMPlusPlus, LayerCAM, RefineCAM, ScoreCAM, ShapleyCAM, stages
from refinecam.attribution.layouts import layout_of
from refinecam.core.errors import InputError


class Spectrograms(nn.Module):
    """Strides differ by direction: 32 x 256 becomes 32 x 64, 16 x 16 and 8 x 4."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, (1, 4), 1), nn.BatchNorm2d(32), nn.ReLU())
        self.middle = BasicBlock(32, 32, (2, 4), nn.Sequential(nn.Conv2d(32, 32, 1, (2, 4)), nn.BatchNorm2d(32)))
        self.deep = nn.Sequential(nn.Conv2d(32, 24, 3, (2, 4), 1), nn.Sequential(nn.BatchNorm2d(24), nn.ReLU()))
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        return self.head(self.deep(self.middle(self.stem(x))).mean((2, 3)))


class Hybrid(nn.Module):
    """A convolutional stem, tokens behind it, and a grid with the channels last."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU())
        self.mix = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.grid = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 12), nn.GELU())
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        x = self.stem(x)
        tokens = self.mix(x.flatten(2).transpose(1, 2))
        return self.head(self.grid(tokens.unflatten(1, x.shape[2:])).mean((1, 2)))


@pytest.fixture
def sounds():
    torch.manual_seed(0)
    return Spectrograms().eval(), torch.randn(2, 1, 32, 256), torch.tensor([1, 3])


LAYERS = {"stem": (32, 64), "stem.2": (32, 64), "middle": (16, 16), "middle.bn2": (16, 16), "deep": (8, 4)}


@pytest.mark.parametrize("cam", [GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM, ShapleyCAM])
def test_strides_that_differ_by_direction(cam, sounds):
    for layer, sides in LAYERS.items():
        (raw,) = cam().raw(*sounds, [layer])
        assert raw.shape[2:] == sides
        torch.testing.assert_close(cam(layer)(*sounds), cam(layer, layout="NCHW")(*sounds))
    refined = RefineCAM(cam(), layers=["stem", "middle", "deep"])(*sounds)
    factors = [cam(layer)(*sounds) for layer in ("stem", "middle", "deep")]
    product = torch.stack(factors).prod(0)
    peak = product.amax((1, 2, 3), keepdim=True)
    torch.testing.assert_close(refined, product / torch.where(peak > 0, peak, 1), atol=1e-5, rtol=1e-4)


def test_stages_of_such_a_network(sounds):
    network, images, targets = sounds
    found = [(stage.layout, stage.rows, stage.columns) for stage in stages(network, images)]
    assert found == [("NCHW", 32, 64), ("NCHW", 16, 16), ("NCHW", 8, 4)]
    assert RefineCAM(LayerCAM())(network, images, targets).shape == images.shape


def test_layouts_of_one_network(images, targets):
    torch.manual_seed(0)
    network, layers = Hybrid().eval(), ["stem", "mix", "grid"]
    targets = targets % 5
    found = LayerCAM().maps(network, images, targets, layers)
    layouts = {"stem": "NCHW", "mix": "tokens", "grid": "NHWC"}
    for layer, maps in zip(layers, found, strict=True):
        torch.testing.assert_close(maps, LayerCAM(layer, layout=layouts[layer])(network, images, targets))
    declared = RefineCAM(LayerCAM(layout=layouts), layers=layers)
    automatic = RefineCAM(LayerCAM(), layers=layers)(network, images, targets)
    torch.testing.assert_close(declared(network, images, targets), automatic)
    partly = LayerCAM(layout={"mix": "tokens"}).maps(network, images, targets, layers)
    assert all(torch.equal(a, b) for a, b in zip(partly, found, strict=True))
    with pytest.raises(InputError, match="layout: no layer named 'mixed'; name those of the model"):
        LayerCAM("stem", layout={"mixed": "tokens"})(network, images, targets)
    with pytest.raises(InputError, match=r"layout: expected .* a dict of layers and theirs, got \{'mix': 'NWHC'\}"):
        LayerCAM(layout={"mix": "NWHC"})


class Wide(nn.Module):
    """Channels that no layer puts out alone, beside a head of their width."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 24, 3, 4, 1), nn.Conv2d(3, 24, 3, 4, 1)
        self.join, self.gate, self.head = nn.Identity(), nn.Linear(48, 32), nn.Linear(48, 6)

    def forward(self, x):
        both = self.join(torch.cat([self.one(x), self.two(x)], 1))
        return self.head(both.mean((2, 3))) + self.gate(both.mean((2, 3))).mean()


def test_proportions_come_before_widths():
    """48 channels of 32 x 32: no convolution has 48, but a linear layer has 32."""
    torch.manual_seed(0)
    network, images = Wide().eval(), torch.randn(2, 3, 128, 128)
    found = LayerCAM("join")(network, images, [1, 2])
    torch.testing.assert_close(found, LayerCAM("join", layout="NCHW")(network, images, [1, 2]))


@pytest.mark.parametrize(
    ("kind", "shape", "expected"),
    [
        (lambda: nn.Conv2d(3, 8, 1), (2, 8, 16, 16), "NCHW"),
        (lambda: nn.Linear(3, 16), (2, 8, 8, 16), "NHWC"),
        (lambda: nn.LayerNorm(16), (2, 8, 8, 16), "NHWC"),
        (lambda: nn.LayerNorm([8, 16, 16]), (2, 8, 16, 16), "NCHW"),
        (lambda: timm.layers.LayerNorm2d(32), (2, 32, 64, 64), "NCHW"),  # where channels could be rows
        (lambda: timm.layers.LayerNormAct2d(32), (2, 32, 64, 64), "NCHW"),
        (lambda: torchvision.models.convnext.LayerNorm2d(32), (2, 32, 64, 64), "NCHW"),
        (lambda: timm.layers.Mlp(8, 16, use_conv=True), (2, 8, 16, 16), "NCHW"),
        (lambda: timm.layers.Mlp(8, 16), (2, 16, 16, 8), "NHWC"),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()), (2, 8, 8, 2), "NCHW"),  # other strides
        (lambda: nn.Sequential(nn.Linear(3, 6), nn.GELU()), (2, 4, 16, 6), "NHWC"),
        (nn.Identity, (2, 5, 16, 16), "NCHW"),  # nothing but the proportions
        (nn.Identity, (2, 16, 16, 5), "NHWC"),
    ],
)
def test_what_says_the_layout(kind, shape, expected):
    network = nn.Sequential(kind())
    assert layout_of(network, "0", torch.zeros(shape), torch.zeros(2, 3, 64, 64)) == expected
