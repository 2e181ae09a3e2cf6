"""Folded networks give the same logits, follow the weights, and leave no trace; what cannot be folded runs as it is."""

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from refinecam.attribution import LayerCAM, RefineCAM
from refinecam.core import folding, running
from refinecam.core.folding import FEWEST, folded
from refinecam.core.running import fast_forward
from refinecam.metrics.functional import arcc, road

TIMM = ("resnet18", "tf_efficientnet_lite0", "mobilenetv3_small_050", "regnetx_002", "densenet121", "mobilenetv2_050")


class Divided(nn.Linear):
    """What it does depends on more than its state."""

    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features)
        self.by = [2.0]

    def forward(self, x):
        return super().forward(x) / self.by[0]


def with_statistics(network):
    """Batch norms as after training: none is the identity."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.running_var, module.bias, module.running_mean):
                value.data.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return network.eval()


@pytest.fixture
def network():
    return with_statistics(timm.create_model("resnet18", num_classes=5))


@pytest.fixture
def images():
    return torch.randn(FEWEST, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def plain(network, images):
    with torch.no_grad():
        return network(images)


def assert_same(network, images):
    expected = plain(network, images)
    largest = float(expected.abs().max())
    torch.testing.assert_close(fast_forward(network, images), expected, rtol=1e-5, atol=1e-5 * largest)


@pytest.mark.parametrize("name", TIMM)
def test_same_logits(name, images):
    network = with_statistics(timm.create_model(name, num_classes=5))
    assert folded(network, images) is not network
    assert_same(network, images)


def test_same_logits_of_torchvision(images):
    network = with_statistics(torchvision.models.resnet18(num_classes=5))
    assert folded(network, images) is not network
    assert_same(network, images)


def test_norms_are_gone(network, images):
    kinds = [type(module).__name__ for name, module in folded(network, images).named_modules() if "norm" not in name]
    assert kinds.count("_Convolution") == 20
    assert "BatchNorm2d" not in kinds


def test_follows_the_weights(network, images):
    fast_forward(network, images)
    for change in (
        lambda: network.conv1.weight.data.mul_(1.5),  # which no version counter sees
        lambda: network.layer1[0].bn1.running_mean.add_(0.3),
        lambda: network.load_state_dict({k: v * 0.9 for k, v in network.state_dict().items()}),
        lambda: setattr(network, "fc", nn.Linear(512, 7)),
        lambda: setattr(network.layer2[0], "conv1", nn.Conv2d(64, 128, 3, 2, 1)),
        lambda: setattr(network, "conv1", nn.Conv2d(3, 64, 3, 2, 1, bias=False)),
        lambda: setattr(network, "act1", nn.GELU()),
        lambda: setattr(network.layer1[0].bn1, "eps", 0.5),
        lambda: [setattr(network.layer4[1].conv1, name, (2, 2)) for name in ("padding", "dilation")],
        lambda: setattr(network, "forward_features", lambda x, own=network.forward_features: 2 * own(x)),
        lambda: timm.utils.freeze(network, ["bn1", "layer1"]) or network.layer2[0].bn1.bias.data.add_(1),
        lambda: network.load_state_dict({k: v * 0.8 for k, v in network.state_dict().items()}),
    ):
        before = plain(network, images)
        change()
        assert not torch.equal(plain(network, images)[:, :5], before)
        assert_same(network, images)


def test_attributes_of_any_kind(network, images):
    network.class_names, network.note = np.array(["a", "b"]), {}
    assert_same(network, images)
    assert folded(network, images) is not network


def test_follows_the_type(network, images):
    """Also decides anew: what comes first does not count for later."""
    with torch.autocast("cpu", torch.bfloat16):
        assert folded(network, images) is network
    assert folded(network, images) is not network
    assert_same(network.double(), images.double())
    network.bfloat16()
    assert folded(network, images.bfloat16()) is network
    assert_same(network.float(), images)


@pytest.mark.parametrize("why", ["few images", "training", "hook", "own part", "half", "no norm", "patched", "kept"])
def test_what_is_not_folded(why, network, images):
    if why == "few images":
        images = images[: FEWEST - 1]
    elif why == "training":
        network.layer1[0].bn1.train()
    elif why == "hook":
        network.layer1.register_forward_hook(lambda *args: None)
    elif why == "own part":
        network.fc = Divided(network.fc)
    elif why == "kept":
        network.layer1.last = {"cpu": torch.zeros(1)}
    elif why == "half":
        network, images = network.bfloat16(), images.bfloat16()
    elif why == "no norm":
        network = timm.create_model("vgg11", num_classes=5).eval()
    elif why == "patched":
        network.layer1[0].forward = lambda x: x
    assert folded(network, images) is network


def test_what_cannot_be_traced_runs_as_it_is(network, images, monkeypatch):
    monkeypatch.setattr(folding, "_fold", lambda model, images: 1 / 0)
    assert folded(network, images) is network
    wrong = copy.deepcopy(network)
    wrong.fc.weight.data.neg_()
    monkeypatch.setattr(folding, "_fold", lambda model, images: wrong)  # other logits than the network's
    other = copy.deepcopy(network)
    assert folded(other, images) is other


@pytest.mark.parametrize("name", ["resnet18", "levit_128s", "tf_efficientnet_lite0", "convnext_atto"])
def test_no_trace_is_left(name):
    network, images = with_statistics(timm.create_model(name, num_classes=5)), torch.randn(FEWEST, 3, 224, 224)
    keys, modules = list(network.state_dict()), list(network.modules())
    plain(network, images)
    attributes = [{k: v for k, v in vars(module).items() if not k.startswith("_")} for module in modules]
    fast_forward(network, images)
    assert list(network.state_dict()) == keys
    assert list(network.modules()) == modules
    assert [{k: v for k, v in vars(m).items() if not k.startswith("_")} for m in modules] == attributes
    pickle.dumps(network)
    watched = weakref.ref(network)
    del network, modules, attributes
    gc.collect()
    assert watched() is None


def test_threads_with_a_network_each(images):
    networks = [with_statistics(timm.create_model("resnet18", num_classes=5)) for _ in range(3)]
    expected = [plain(network, images) for network in networks]
    with ThreadPoolExecutor(6) as pool:
        found = [pool.submit(fast_forward, network, images) for network in networks]
        beside = [pool.submit(plain, network, images) for network in networks]
    for result, own, values in zip(found, beside, expected, strict=True):
        torch.testing.assert_close(result.result(), values, rtol=1e-4, atol=1e-3)
        assert torch.equal(own.result(), values)


def test_scores_are_those_of_the_network_itself(network, images, monkeypatch):
    cam, targets = RefineCAM(LayerCAM()), [0] * len(images)
    maps = cam(network, images, targets)
    found = road(network, images, targets, maps), arcc(network, images, targets, maps, cam)
    monkeypatch.setattr(running, "folded", lambda model, images: model)
    expected = road(network, images, targets, maps), arcc(network, images, targets, maps, cam)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
