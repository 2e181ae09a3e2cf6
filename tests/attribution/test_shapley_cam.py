import copy

import pytest
import pytorch_grad_cam
import torch
from torch import nn
from torch.autograd.functional import hvp

from refinecam.attribution import GradCAM, RefineCAM, ShapleyCAM
from refinecam.attribution.method import normalize
from refinecam.core.errors import InputError
from tests.attribution.oracle import STAGES, TARGETS, by_oracle
from tests.conftest import SIZE


class SmoothNet(nn.Module):
    """No ReLU anywhere: every layer has curvature above it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.GELU())
        self.deep = nn.Sequential(nn.Conv2d(6, 5, 3, 2, 1), nn.Tanh())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(5 * 6 * 8, 8), nn.GELU(), nn.Linear(8, 6))

    def forward(self, x):
        return self.head(self.deep(self.stem(x)))


@pytest.fixture
def smooth_net():
    torch.manual_seed(0)
    return SmoothNet().eval()


@pytest.mark.parametrize("layer", ["stem", "deep"])
def test_equals_its_definition(layer, smooth_net, images, targets):
    """Image by image, the Hessian-vector product by torch.autograd.functional."""
    rest = (lambda a: smooth_net.head(smooth_net.deep(a))) if layer == "stem" else smooth_net.head
    (found,) = ShapleyCAM().raw(smooth_net, images, targets, [layer])
    (plain,) = GradCAM().raw(smooth_net, images, targets, [layer])
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        activation = smooth_net.stem(image[None])
        activation = (activation if layer == "stem" else smooth_net.deep(activation)).detach()

        def score(a, target=target):
            return rest(a)[0, target]

        gradient = torch.autograd.functional.jacobian(score, activation)
        _, product = hvp(score, activation, activation)
        weight = (gradient - product / 2).mean((2, 3), keepdim=True)
        torch.testing.assert_close(found[i : i + 1], (weight * activation).sum(1, keepdim=True), atol=1e-6, rtol=1e-4)
        assert not torch.allclose(found[i], plain[i], rtol=0.01)


def test_layers_together_equal_layers_alone(smooth_net, images, targets):
    together = ShapleyCAM().raw(smooth_net, images, targets, ["stem", "deep"])
    alone = [ShapleyCAM().raw(smooth_net, images, targets, [layer])[0] for layer in ("stem", "deep")]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("name", ["vgg11", "resnet18", "convnext_tiny"])
def test_equals_the_oracle(name, backbones):
    """grad-cam's own fails on channels-last layers, so not for Swin."""
    batch = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))
    for stage in (0, 3):
        expected = by_oracle(pytorch_grad_cam.ShapleyCAM, backbones[name], name, batch, [STAGES[name][stage]])
        found = ShapleyCAM(stage)(backbones[name], batch, torch.tensor(TARGETS))
        torch.testing.assert_close(found, normalize(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("stage", [1, 3])
def test_swin_equals_finite_differences(stage, backbones):
    """The Hessian-vector product as the change of the gradient when the activations grow by a little."""
    name = "swin_tiny_patch4_window7_224"
    network, layer = copy.deepcopy(backbones[name]).double(), STAGES[name][stage]
    image, target = torch.randn(1, 3, SIZE, SIZE, dtype=torch.float64), torch.tensor([4])
    kept = {}

    def gradient_at(scale):
        def hook(module, args, output):
            kept["activation"] = output.detach()
            kept["scaled"] = (output.detach() * scale).requires_grad_()
            return kept["scaled"]

        handle = network.get_submodule(layer).register_forward_hook(hook)
        score = network(image)[0, 4]
        handle.remove()
        return torch.autograd.grad(score, kept["scaled"])[0]

    step = 1e-4
    product = (gradient_at(1 + step) - gradient_at(1 - step)) / (2 * step)
    weight = (gradient_at(1) - product / 2).mean((1, 2), keepdim=True)
    expected = (weight * kept["activation"]).sum(-1).unsqueeze(1)
    (found,) = ShapleyCAM().raw(network, image, target, [layer])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(("name", "same"), [("resnet18", True), ("swin_tiny_patch4_window7_224", False)])
def test_is_grad_cam_where_the_network_is_piecewise_linear(name, same, backbones):
    batch = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))
    arguments = (backbones[name], batch, torch.tensor(TARGETS[:2]))
    difference = (RefineCAM(ShapleyCAM())(*arguments) - RefineCAM(GradCAM())(*arguments)).abs().max()
    assert difference < 1e-5 if same else difference > 1e-3


def test_activation_without_a_second_derivative_is_named(images, targets):
    class Raw(torch.nn.Module):  # what is called below torch.nn.functional cannot be written in another way
        def forward(self, x):
            return torch.ops.aten.hardsigmoid(x)

    network = torch.nn.Sequential(*(torch.nn.Conv2d(3, 6, 3), Raw(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()))
    with pytest.raises(InputError, match="model: ShapleyCAM needs second derivatives"):
        ShapleyCAM("0")(network, images, targets)
