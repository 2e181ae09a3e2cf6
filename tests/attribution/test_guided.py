import copy

import captum.attr
import pytest
import torch

from refinecam.attribution import GradCAM, GuidedGradCAM
from refinecam.attribution.guided import guided_backpropagation
from refinecam.attribution.method import normalize, resize
from tests.attribution.oracle import STAGES, TARGETS
from tests.conftest import BACKBONES, SIZE


@pytest.fixture(scope="module")
def batch():
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5)), torch.tensor(TARGETS)


def without_in_place(network):
    """A copy for captum, whose hooks refuse in-place modules."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    return network


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BACKBONES)
def test_guided_backpropagation_equals_captum(name, backbones, batch):
    found = guided_backpropagation(backbones[name], *batch)
    network = without_in_place(backbones[name])
    expected = captum.attr.GuidedBackprop(network).attribute(batch[0].clone().requires_grad_(), target=batch[1])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stage", [0, 3])
@pytest.mark.parametrize("name", ["vgg11", "resnet18", "convnext_tiny"])
def test_equals_captum(name, stage, backbones, batch):
    """Captum knows no channels-last layers, so not for Swin."""
    found = GuidedGradCAM(stage)(backbones[name], *batch)
    network = without_in_place(backbones[name])
    layer = network.get_submodule(STAGES[name][stage])
    explainer = captum.attr.GuidedGradCam(network, layer)
    product = explainer.attribute(batch[0].clone().requires_grad_(), batch[1], interpolate_mode="bilinear")
    torch.testing.assert_close(found, normalize(product.sum(1, keepdim=True).abs()), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("stage", "side"), [(0, SIZE // 4), (3, SIZE // 32)])
def test_swin_sums_over_its_channels(stage, side, backbones, batch):
    network = backbones["swin_tiny_patch4_window7_224"]
    guided = guided_backpropagation(network, *batch).sum(1, keepdim=True).abs()
    (coarse,) = GradCAM().raw(network, *batch, [STAGES["swin_tiny_patch4_window7_224"][stage]])
    assert coarse.shape == (3, 1, side, side)
    expected = normalize(resize(coarse.relu(), (SIZE, SIZE)) * guided)
    torch.testing.assert_close(GuidedGradCAM(stage)(network, *batch), expected, atol=1e-6, rtol=0)
