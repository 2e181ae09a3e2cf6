import copy

import captum.attr
import pytest
import torch
import torchvision
from torch import nn

from refinecam.attribution import DeepLift, InputXGradient, IntegratedGradients
from refinecam.attribution.method import normalize
from tests.conftest import BACKBONES, SIZE


@pytest.fixture(scope="module")
def batch():
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5)), torch.tensor([0, 4])


def as_map(values):
    return normalize(values.sum(1, keepdim=True).abs())


@pytest.mark.parametrize("name", BACKBONES)
def test_input_x_gradient_equals_its_definition(name, backbones, batch):
    image, target = batch[0].clone().requires_grad_(), batch[1]
    score = sum(backbones[name](image)[i, c] for i, c in enumerate(target))
    (gradient,) = torch.autograd.grad(score, image)
    found = InputXGradient()(backbones[name], *batch)
    torch.testing.assert_close(found, as_map((image * gradient).detach()), atol=1e-4, rtol=0)


def test_integrated_gradients_equal_a_fine_sum(tiny_net, images, targets):
    """The integral as the mean over a thousand midpoints."""
    total = torch.zeros_like(images)
    for step in range(1000):
        point = (images * (step + 0.5) / 1000).requires_grad_()
        score = tiny_net(point).gather(1, targets[:, None]).sum()
        total += torch.autograd.grad(score, point)[0] / 1000
    found = IntegratedGradients(steps=200)(tiny_net, images, targets)
    torch.testing.assert_close(found, as_map(images * total), atol=0.02, rtol=0)


@pytest.mark.parametrize("chunk", [2, 5, 12, 1000])
def test_chunk_bounds_the_forwards_and_does_not_change_the_map(chunk, tiny_net, images, targets):
    expected = IntegratedGradients(steps=20)(tiny_net, images, targets)
    sizes = []
    handle = tiny_net.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    found = IntegratedGradients(steps=20, chunk=chunk)(tiny_net, images, targets)
    handle.remove()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert max(sizes) <= chunk


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BACKBONES[2:])
def test_deep_lift_equals_captum(name, backbones, batch):
    """Image by image, on the networks without a pooling behind an activation, where captum's own rule does not hold."""
    explainer = captum.attr.DeepLift(backbones[name])
    values = [
        explainer.attribute(batch[0][i : i + 1].clone().requires_grad_(), target=batch[1][i : i + 1]) for i in range(2)
    ]
    found = DeepLift()(backbones[name], *batch)
    torch.testing.assert_close(found, as_map(torch.cat(values).detach()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["vgg11", "resnet18", "torchvision"])
def test_deep_lift_explains_the_whole_difference(name, backbones, batch):
    """Summation to delta: what a ReLU network's attributions must add up to; torchvision's runs each ReLU twice."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=6).eval() if name == "torchvision" else backbones[name]
    network = copy.deepcopy(network)
    if name != "vgg11":  # captum's rule loses something where windows overlap
        network.maxpool = nn.MaxPool2d(2)
    for module in network.modules():  # as trained: a zero image is not zero in every layer
        for parameter in (getattr(module, key, None) for key in ("bias", "running_mean")):
            if isinstance(parameter, torch.Tensor):
                torch.nn.init.normal_(parameter, std=0.2)
    found = []

    class Kept(DeepLift):
        def attribute(self, *arguments):
            found.append(super().attribute(*arguments))
            return found[-1]

    Kept()(network, *batch)
    with torch.no_grad():
        difference = (network(batch[0]) - network(torch.zeros_like(batch[0]))).gather(1, batch[1][:, None]).squeeze(1)
    torch.testing.assert_close(found[0].detach().sum((1, 2, 3)), difference, rtol=1e-3, atol=1e-4)


def test_deep_lift_of_a_network_that_cannot_be_traced(images, targets):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.head = nn.ReLU(), nn.Linear(3, 6)

        def forward(self, x):
            return self.head(self.relu(self.relu(x) - 0.1)) if x.mean() else self.head(x)

    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Twice()).eval()
    with pytest.raises(ValueError, match=r"DeepLift needs '2.relu' to run once in a forward"):
        DeepLift()(network, images, targets)


@pytest.mark.parametrize("options", [{"steps": 0}, {"chunk": 0}, {"steps": 2.5}, {"chunk": True}])
def test_bad_options(options):
    with pytest.raises(ValueError, match="expected a whole number, at least 1, got"):
        IntegratedGradients(**options)
