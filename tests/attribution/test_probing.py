"""Stages of networks that describe them, and of those that are probed, by architecture."""

import pytest
import timm
import torch
import torchvision

from refinecam.attribution import GradCAM, LayerCAM, RefineCAM
from refinecam.attribution.layers import stage_layers, stages
from tests.attribution.oracle import TARGETS

TIMM = {
    "resnet18": (56, 28, 14, 7),
    "regnetx_002": (56, 28, 14, 7),
    "densenet121": (56, 28, 14, 7),
    "mobilenetv3_small_100": (56, 28, 14, 7),
    "efficientnet_b0": (56, 28, 14, 7),
    "tf_efficientnet_lite0": (56, 28, 14, 7),
    "repvgg_a0": (56, 28, 14, 7),
    "ghostnet_100": (56, 28, 14, 7),
    "dla34": (56, 28, 14, 7),
    "res2net50_26w_4s": (56, 28, 14, 7),
    "hrnet_w18_small": (56, 28, 14, 7),
    "inception_v3": (71, 35, 17, 8),
    "convnext_atto": (56, 28, 14, 7),
    "poolformer_s12": (56, 28, 14, 7),
    "pvt_v2_b0": (56, 28, 14, 7),
    "mobilevit_xxs": (64, 32, 16, 8),
    "edgenext_xx_small": (64, 32, 16, 8),
    "focalnet_tiny_srf": (56, 28, 14, 7),
    "davit_tiny": (56, 28, 14, 7),
    "fastvit_t8": (64, 32, 16, 8),
    "swinv2_tiny_window8_256": (64, 32, 16, 8),
    "twins_svt_small": (56, 28, 14, 7),
    "efficientformer_l1": (56, 28, 14, 7),
    "hiera_tiny_224": (56, 28, 14, 7),
    "levit_128s": (14, 7, 4),
    "visformer_tiny": (28, 14, 7),
    "volo_d1_224": (28, 14, 14, 14),
    "mixer_s32_224": (7, 7, 7, 7),
    "resmlp_12_224": (14, 14, 14, 14),
    "deit_tiny_patch16_224": (14, 14, 14, 14),
    "xcit_nano_12_p16_224": (14, 14, 14, 14),
    "tnt_s_patch16_224": (14, 14, 14, 14),
}
TORCHVISION = {
    "vgg11": (56, 28, 14, 7),
    "resnet50": (56, 28, 14, 7),
    "swin_t": (56, 28, 14, 7),
    "convnext_tiny": (56, 28, 14, 7),
    "densenet121": (56, 28, 14, 7),
    "mobilenet_v3_small": (56, 28, 14, 7),
    "efficientnet_b0": (56, 28, 14, 7),
    "regnet_y_400mf": (56, 28, 14, 7),
    "vit_b_32": (7, 7, 7, 7),
    "inception_v3": (71, 35, 17, 8),
    "googlenet": (56, 28, 14, 7),
    "shufflenet_v2_x0_5": (56, 28, 14, 7),
}


@pytest.mark.parametrize("name", TIMM)
def test_refinecam_works_on_timm(name):
    _check_stages(timm.create_model(name, num_classes=6), TIMM[name])


@pytest.mark.parametrize("name", TORCHVISION)
def test_refinecam_works_on_torchvision(name):
    options = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    network = torchvision.models.get_model(name, num_classes=6, **options)
    _check_stages(network, TORCHVISION[name], 299 if name == "inception_v3" else 224)


def _check_stages(network, rows, size=None):
    network.eval()
    torch.manual_seed(0)
    for parameter in network.parameters():
        if not parameter.any():  # heads and the ends of residual branches that start at 0 hand no gradient on
            torch.nn.init.normal_(parameter, std=0.1)
    size = size or network.pretrained_cfg["input_size"][-1]
    image = torch.rand(1, 3, size, size)
    assert tuple(stage.rows for stage in stages(network, image)) == rows
    assert [stage.layer for stage in stages(network, image)] == stage_layers(network)
    raw = GradCAM().raw(network, image, torch.tensor([3]), stage_layers(network))
    assert all(result.abs().max() > 0 for result in raw)
    assert RefineCAM(LayerCAM())(network, image, 3).shape == (1, 1, size, size)
    assert not any(module._forward_hooks for module in network.modules())


def test_stages_of_torchvision_are_those_of_timm(backbones, batch):
    """The same weights in both: what is probed in one is described in the other."""
    network = torchvision.models.resnet18(num_classes=6).eval()
    network.load_state_dict(backbones["resnet18"].state_dict())
    assert stage_layers(network) == stage_layers(backbones["resnet18"])
    cam = RefineCAM(LayerCAM())
    torch.testing.assert_close(cam(network, batch, TARGETS), cam(backbones["resnet18"], batch, TARGETS))


def test_network_behind_a_normalization_has_its_own_stages(backbones, batch):
    network = backbones["swin_tiny_patch4_window7_224"]
    behind = torch.nn.Sequential(torch.nn.Identity(), network)
    assert stage_layers(behind) == [f"1.{name}" for name in stage_layers(network)]
    normalized = torch.nn.Sequential(torchvision.transforms.Normalize([0.5] * 3, [0.2] * 3), NoDescription(network))
    assert len(stage_layers(normalized, batch)) == 4
    assert "0" not in stage_layers(normalized, batch)


class NoDescription(torch.nn.Module):
    """One level more than is looked through."""

    def __init__(self, network):
        super().__init__()
        self.inner = torch.nn.Sequential(network)

    def forward(self, x):
        return self.inner(x)


def test_stages_are_not_remembered_from_a_head_that_starts_at_0():
    network = torchvision.models.vit_b_32(num_classes=6).eval()
    image = torch.rand(1, 3, 224, 224)
    before = stage_layers(network, image)
    torch.nn.init.normal_(network.heads[0].weight)
    after = stage_layers(network, image)
    assert before[-1] == "encoder.layers.encoder_layer_11"
    assert after[-1] == "encoder.layers.encoder_layer_11.ln_1"
    assert GradCAM()(network, image, 3).max() == 1


class Wrapper(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x * 1.0)


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, torch.compile, Wrapper, lambda n: torch.compile(Wrapper(n))])
def test_wrapped_networks_have_the_same_stages(wrap, backbones, batch):
    network = backbones["swin_tiny_patch4_window7_224"]
    for cam in (LayerCAM(), LayerCAM(1), RefineCAM(LayerCAM())):
        torch.testing.assert_close(cam(wrap(network), batch, TARGETS), cam(network, batch, TARGETS))
