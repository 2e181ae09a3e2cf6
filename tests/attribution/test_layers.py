"""Stages, layers by name, and the layouts of what they put out."""

import numpy as np
import pytest
import timm
import torch
import torchvision

from refinecam.attribution import GradCAM, LayerCAM, RefineCAM
from refinecam.attribution.layers import stage_layers, stages
from tests.attribution.oracle import STAGES, TARGETS
from tests.conftest import BACKBONES


@pytest.mark.parametrize("name", BACKBONES)
def test_stages_are_those_of_the_protocol(name, backbones):
    assert stage_layers(backbones[name]) == STAGES[name]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (7, r"no stage 7; there are 0 \(layer1\), 1 \(layer2\)"),
        ("layer9", "no layer named 'layer9'; close to it: layer4"),
        ("x", "no layer named 'x'; there are, for example"),
        ("global_pool.flatten", "no map in layout NCHW"),
        ("fc", "no map in layout NCHW; take a layer that puts out a map, before any pooling"),
        (1.5, "stage: expected an index or a layer's name, got 1.5"),
        (None, "stage: expected an index or a layer's name, got None"),
    ],
)
def test_bad_stage(stage, message, backbones, batch):
    with pytest.raises(ValueError, match=message):
        GradCAM(stage)(backbones["resnet18"], batch, torch.tensor(TARGETS))


class NoMap(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.flat = torch.nn.Flatten()
        self.head = torch.nn.Linear(3 * 24 * 32, 6)

    def forward(self, x):
        return self.head(self.flat(x))


def test_model_without_maps(images, targets):
    with pytest.raises(ValueError, match="NoMap does not describe its stages, and none of its layers puts out a map"):
        GradCAM()(NoMap(), images, targets)
    with pytest.raises(
        ValueError, match=r"an image of 224x224 px does not go through NoMap .* pass images of its size"
    ):
        stages(NoMap())


def test_layer_that_does_not_run(tiny_net, images, targets):
    tiny_net.unused = torch.nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match="layer 'unused' did not run"):
        GradCAM("unused")(tiny_net, images, targets)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("swin_tiny_patch4_window7_224", "patch_embed.proj"),
        ("swin_tiny_patch4_window7_224", "layers.2"),
        ("convnext_tiny", "stages.0.blocks.1.norm"),
        ("convnext_tiny", "stages.0.blocks.1.mlp"),
        ("convnext_tiny", "stages.1.downsample.0"),
        ("vgg11", "features.4"),
    ],
)
def test_layers_of_any_layout_give_square_maps(name, layer, backbones, batch):
    raw = GradCAM().raw(backbones[name], batch, torch.tensor(TARGETS), [layer])[0]
    assert raw.shape[1] == 1
    assert raw.shape[2] == raw.shape[3]


class TinyTransformer(torch.nn.Module):
    """Patches of 4 px, a class token and a register before them, one mixing layer that does not say its layout."""

    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 8, 4, 4)
        self.extra = torch.nn.Parameter(torch.randn(1, 2, 8))
        self.mix = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.rearranged = torch.nn.Identity()
        self.head = torch.nn.Linear(8, 6)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.mix(torch.cat([self.extra.expand(len(x), -1, -1), tokens], 1))
        grid = self.rearranged(tokens[:, 2:].unflatten(1, (x.shape[2] // 4, x.shape[3] // 4)))
        return self.head(grid.mean((1, 2)))


def test_declared_layouts_give_the_map_of_the_same_values(images, targets):
    torch.manual_seed(0)
    network = TinyTransformer().eval()
    by_tokens = LayerCAM("mix", layout="2+tokens")(network, images, targets)
    by_grid = LayerCAM("rearranged", layout="NHWC")(network, images, targets)
    assert by_tokens.shape == (5, 1, 24, 32)
    torch.testing.assert_close(by_tokens, by_grid)
    torch.testing.assert_close(LayerCAM("mix")(network, images, targets), by_grid)
    with pytest.raises(ValueError, match=r'no map in layout tokens; it would be one in layout="2\+tokens"'):
        LayerCAM("mix", layout="tokens")(network, images, targets)
    with pytest.raises(ValueError, match=r"layout: expected .*, got 'NWHC'"):
        GradCAM(layout="NWHC")


@pytest.mark.parametrize("size", [(96, 96), (96, 128)])
def test_swins_second_norm(size):
    """timm's Swin makes tokens of its stages there."""
    torch.manual_seed(0)
    network = timm.create_model(BACKBONES[2], pretrained=False, num_classes=6, img_size=size).eval()
    layers = ["layers.0.blocks.1.norm2", "layers.3.blocks.1.norm2"]
    raw = GradCAM().raw(network, torch.randn(2, 3, *size), torch.tensor([1, 2]), layers)
    assert [tuple(m.shape[2:]) for m in raw] == [(size[0] // 4, size[1] // 4), (size[0] // 32, size[1] // 32)]


def test_layout_is_the_one_with_the_images_proportions(backbones, batch):
    """Inside of ConvNeXt's MLPs channels are last, which nothing says; torchvision's 2d norm is a LayerNorm."""
    network, target = backbones["convnext_tiny"], torch.tensor(TARGETS)
    for layout in (None, "NHWC"):
        raw = GradCAM(layout=layout).raw(network, batch, target, ["stages.0.blocks.1.mlp.act"])[0]
        assert raw.shape == (3, 1, 24, 24)
    network = torchvision.models.convnext_tiny(num_classes=6).eval()
    assert GradCAM().raw(network, batch, target, ["features.0.1"])[0].shape == (3, 1, 24, 24)


@pytest.mark.parametrize("size", [(224, 224), (224, 320)])
@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("resnet50", (56, 28, 14, 7)),
        ("efficientnet_b0", (56, 28, 14, 7)),
        ("mobilenetv3_small_100", (56, 28, 14, 7)),
        ("densenet121", (56, 28, 14, 7)),
        ("convnext_small", (56, 28, 14, 7)),
        ("vit_small_patch16_224", (14, 14, 14, 14)),
    ],
)
def test_stages_of_other_networks(name, sides, size):
    """Layers come from what timm says of the network, also for images that are not square."""
    torch.manual_seed(0)
    options = {"dynamic_img_size": True} if name.startswith("vit") else {}
    network = timm.create_model(name, pretrained=False, num_classes=6, **options).eval()
    image, target = torch.randn(1, 3, *size), torch.tensor([2])
    layers = stage_layers(network)
    raw = GradCAM().raw(network, image, target, layers)
    assert [tuple(m.shape[2:]) for m in raw] == [(side, side * size[1] // size[0]) for side in sides]
    assert all(m.abs().max() > 0 for m in raw)
    assert RefineCAM(LayerCAM())(network, image, target).shape == (1, 1, *size)


def test_layer_by_its_name_in_a_wrapper_or_as_a_module(backbones, batch):
    network = backbones["resnet18"]
    expected = GradCAM("layer3")(network, batch, TARGETS)
    for model, stage in ((torch.nn.DataParallel(network), "module.layer3"), (network, network.layer3)):
        torch.testing.assert_close(GradCAM(stage)(model, batch, TARGETS), expected)
    assert GradCAM(network.layer3).title == "GradCAM, stage Sequential"
    with pytest.raises(ValueError, match="stage: the Linear given is not a layer of the model"):
        GradCAM(torch.nn.Linear(1, 1))(network, batch, TARGETS)
    for made in (
        lambda: GradCAM(network, [network.layer4[-1]]),
        lambda: GradCAM([network.layer4[-1]]),
        lambda: GradCAM(model=network, target_layers=[network.layer4]),
        lambda: RefineCAM(network, [network.layer3, network.layer4], base_method=LayerCAM),
    ):
        with pytest.raises(ValueError, match=r"CAM: the model goes into the call, .* LayerCAM\(model.layer4\[-1\]\)"):
            made()
    layers = [network.layer3, network.layer4]
    refined = RefineCAM(GradCAM(), layers=layers)
    expected = RefineCAM(GradCAM(), layers=["layer3", "layer4"])(network, batch, TARGETS)
    torch.testing.assert_close(refined(network, batch, TARGETS), expected)
    torch.testing.assert_close(RefineCAM(GradCAM(), stage=network.layer3)(network, batch, TARGETS), expected)


def test_numpy_numbers_and_second_names(tiny_net, images, targets):
    network = timm.create_model("resnet18", num_classes=6).eval()
    network.alias = network.layer2
    expected = LayerCAM("layer2")(network, images, targets)
    torch.testing.assert_close(LayerCAM("alias")(network, images, targets), expected)
    torch.testing.assert_close(LayerCAM(np.int64(1))(network, images, targets), expected)
    assert repr(LayerCAM(np.int64(1))) == repr(LayerCAM(1))
    refined = RefineCAM(LayerCAM(), stage=np.int64(-2))(network, images, targets)
    torch.testing.assert_close(refined, RefineCAM(LayerCAM(), stage=-2)(network, images, targets))


@pytest.mark.parametrize(
    ("name", "layers"), [("selecsls42b", 4), ("coat_tiny", 4), ("crossvit_tiny_240", 4), ("hrnet_w18_small", 4)]
)
def test_stages_that_timm_lists_but_that_are_no_maps(name, layers):
    """Lists of tensors, containers that do not run, and modules that do not exist: the network is probed instead."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=6).eval()
    found = stages(network)
    assert len(found) == layers
    size = network.pretrained_cfg["input_size"][1:]
    assert RefineCAM(LayerCAM())(network, torch.randn(1, 3, *size), torch.tensor([1])).shape == (1, 1, *size)


def test_tokens_are_no_grid_of_heads():
    """A norm inside of attention puts out (N, heads, tokens, channels), which is no map."""
    network = timm.create_model("mvitv2_tiny", num_classes=6).eval()
    assert not any("norm_v" in stage.layer for stage in stages(network))
    with pytest.raises(ValueError, match="no map in layout"):
        GradCAM("stages.2.blocks.0.attn.norm_v")(network, torch.randn(1, 3, 224, 224), torch.tensor([1]))
