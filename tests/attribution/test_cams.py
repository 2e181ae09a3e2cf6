"""Each CAM against grad-cam 1.5.7 on each of the four backbones, and its contract."""

import contextlib
import copy
import gc

import pytest
import pytorch_grad_cam as oracle
import timm
import torch
import torchvision
from pytorch_grad_cam.refine_cam import RefineCAM as OracleRefineCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from refinecam.attribution import (
    LIME,
    DeepLift,
    GradCAM,
    GradCAMPlusPlus,
    GuidedGradCAM,
    InputXGradient,
    IntegratedGradients,
    KernelSHAP,
    LayerCAM,
    RefineCAM,
    ScoreCAM,
    ShapleyCAM,
)
from refinecam.attribution.layers import stage_layers
from refinecam.attribution.method import normalise
from tests.attribution.oracle import STAGES, TARGETS, by_oracle
from tests.conftest import BACKBONES, SIZE, AwkwardNet, TinyNet

CAMS = {GradCAM: oracle.GradCAM, GradCAMPlusPlus: oracle.GradCAMPlusPlus, LayerCAM: oracle.LayerCAM}


@pytest.fixture(scope="module")
def batch():
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", BACKBONES)
def test_stages_are_those_of_the_protocol(name, backbones):
    assert stage_layers(backbones[name]) == STAGES[name]


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("cam", CAMS)
def test_equals_the_oracle_at_every_stage(cam, name, backbones, batch):
    network = backbones[name]
    for stage, layer in enumerate(STAGES[name]):
        expected = by_oracle(CAMS[cam], network, name, batch, [layer])
        found = cam(stage=stage)(network, batch, torch.tensor(TARGETS))
        # normalised again, because the oracle divides by the range plus 1e-7
        torch.testing.assert_close(found, normalise(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("cam", CAMS)
def test_refined_map_equals_the_oracle(cam, name, backbones, batch):
    network = backbones[name]
    reshape = (lambda t: t.permute(0, 3, 1, 2)) if "swin" in name else None
    modules = [network.get_submodule(layer) for layer in STAGES[name]]
    refined = OracleRefineCAM(network, modules, reshape_transform=reshape, base_method=CAMS[cam])
    expected = torch.from_numpy(refined(batch, [ClassifierOutputTarget(t) for t in TARGETS])).unsqueeze(1)
    for base in refined.base_cam_per_layer:
        base.activations_and_grads.release()
    found = RefineCAM(cam())(network, batch, torch.tensor(TARGETS))
    torch.testing.assert_close(found, normalise(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "cam",
    [
        GradCAM(),
        GradCAMPlusPlus(),
        LayerCAM("stem"),
        ScoreCAM(chunk=7),
        ShapleyCAM(),
        GuidedGradCAM("stem"),
        RefineCAM(LayerCAM(), layers=["stem", "deep"]),
        RefineCAM(ScoreCAM(), "inverse_exp_mean", layers=["stem", "deep"]),
        InputXGradient(),
        IntegratedGradients(steps=5, chunk=7),
        DeepLift(),
        LIME(samples=40, segments=8, chunk=7, alpha=1e-5),
        KernelSHAP(samples=40, segments=8, chunk=7),
    ],
    ids=repr,
)
class TestContract:
    @pytest.fixture(params=[TinyNet, AwkwardNet])
    def tiny_net(self, request):
        torch.manual_seed(0)
        return request.param().eval()

    @pytest.fixture(autouse=True)
    def _last_stage(self, cam):
        if getattr(cam, "stage", None) == -1:
            cam.stage = "deep"

    def test_batch_equals_its_samples(self, cam, tiny_net, images, targets):
        together = cam(tiny_net, images, targets)
        alone = torch.cat([cam(tiny_net, images[i : i + 1], targets[i : i + 1]) for i in range(len(images))])
        assert together.shape == (5, 1, 24, 32)
        assert together.amin((1, 2, 3)).eq(0).all()
        assert together.amax((1, 2, 3)).eq(1).all()
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)

    def test_training_mode_and_no_grad_do_not_matter(self, cam, tiny_net, images, targets):
        expected = cam(tiny_net, images, targets)
        tiny_net.train()
        with torch.no_grad():
            assert torch.equal(cam(tiny_net, images, targets), expected)
        assert all(module.training for module in tiny_net.modules())

    def test_frozen_model_gives_the_same_map(self, cam, tiny_net, images, targets):
        expected = cam(tiny_net, images, targets)
        tiny_net.requires_grad_(False)
        torch.testing.assert_close(cam(tiny_net, images, targets), expected)
        assert not any(p.requires_grad for p in tiny_net.parameters())

    @pytest.mark.parametrize("trouble", ["none", "wrong target", "failing forward", "failing later forward"])
    def test_leaves_no_trace(self, cam, tiny_net, images, targets, trouble):
        tiny_net.deep.train()
        given, names = images.clone(), [set(vars(module)) | {"forward"} for module in tiny_net.modules()]
        random = torch.get_rng_state()
        before = {k: v.clone() for k, v in tiny_net.state_dict().items()}
        if trouble == "wrong target":
            with pytest.raises(ValueError, match="targets: class 9 is not one of the model's 6 classes"):
                cam(tiny_net, images, torch.tensor([0, 9, 0, 0, 0]))
        elif trouble == "failing forward":
            tiny_net.head.forward = lambda x: 1 / 0
            with pytest.raises(ZeroDivisionError):
                cam(tiny_net, images, targets)
        elif trouble == "failing later forward":
            whole, calls = tiny_net.head.forward, []
            tiny_net.head.forward = lambda x: whole(x) if calls.append(1) or len(calls) < 3 else 1 / 0
            with contextlib.suppress(ZeroDivisionError):  # some need no more than two
                cam(tiny_net, images, targets)
        else:
            cam(tiny_net, images, targets)
        for module in tiny_net.modules():
            for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
                assert not getattr(module, hooks)
        assert [set(vars(module)) | {"forward"} for module in tiny_net.modules()] == names
        assert torch.equal(images, given)
        assert torch.equal(torch.get_rng_state(), random)
        assert tiny_net.stem[2].inplace
        assert tiny_net.deep[1].inplace
        assert tiny_net.deep.training
        assert not tiny_net.stem.training
        assert all(p.requires_grad and p.grad is None for p in tiny_net.parameters())
        assert all(torch.equal(v, before[k]) for k, v in tiny_net.state_dict().items())

    def test_inference_mode_is_refused_where_gradients_are_needed(self, cam, tiny_net, images, targets):
        if any(name in repr(cam) for name in ("ScoreCAM", "LIME", "KernelSHAP")):
            expected = cam(tiny_net, images, targets)
            with torch.inference_mode():
                torch.testing.assert_close(cam(tiny_net, images, targets), expected)
            return
        with torch.inference_mode(), pytest.raises(ValueError, match=r"Trainer\(inference_mode=False\)"):
            cam(tiny_net, images, targets)

    def test_one_bad_image_spoils_only_its_own_map(self, cam, tiny_net, images, targets):
        expected = cam(tiny_net, images, targets)
        images = images.clone()
        images[0, :, 2:20, 3:28] = torch.nan
        maps = cam(tiny_net, images, targets)
        torch.testing.assert_close(maps[1:], expected[1:])
        assert not maps[0].isfinite().all()

    def test_half_precision_and_channels_last(self, cam, tiny_net, images, targets):
        expected = cam(tiny_net, images, targets)
        last = copy.deepcopy(tiny_net).to(memory_format=torch.channels_last)
        found = cam(last, images.contiguous(memory_format=torch.channels_last), targets)
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
        with torch.autocast("cpu", torch.bfloat16):
            found = cam(tiny_net, images, targets)
        assert found.dtype == torch.float32
        both = torch.stack([found.flatten(), expected.flatten()])
        assert torch.corrcoef(both)[0, 1] > 0.9

    def test_empty_batch(self, cam, tiny_net, images, targets):
        assert cam(tiny_net, images[:0], targets[:0]).shape == (0, 1, 24, 32)

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            (torch.zeros(5), "targets: expected an int64 tensor"),
            (torch.zeros(4, dtype=torch.int64), "targets: expected an int64 tensor"),
            (torch.tensor([0, 0, 0, 0, -1]), "targets: class -1 is not one of"),
        ],
    )
    def test_bad_target(self, cam, tiny_net, images, target, message):
        with pytest.raises(ValueError, match=message):
            cam(tiny_net, images, target)

    def test_bad_image(self, cam, tiny_net, targets):
        with pytest.raises(ValueError, match="images: expected a float tensor"):
            cam(tiny_net, torch.zeros(5, 3, 24, 32, dtype=torch.uint8), targets)


def test_record_survives_an_in_place_activation(tiny_net, images, targets):
    """The stem's batch norm is followed by an in-place ReLU, which must not overwrite the record."""
    raw = GradCAM().raw(tiny_net, images, targets, ["stem.1"])[0]
    tiny_net.stem[2].inplace = False
    torch.testing.assert_close(raw, GradCAM().raw(tiny_net, images, targets, ["stem.1"])[0])
    assert raw.amin() < 0  # raw maps keep their sign


def test_a_map_without_contrast_is_zero(tiny_net, images, targets):
    torch.nn.init.zeros_(tiny_net.head.weight)
    assert GradCAM("deep")(tiny_net, images, targets).abs().max() == 0


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (7, r"no stage 7; there are 0 \(layer1\), 1 \(layer2\)"),
        ("layer9", "no layer named 'layer9'; there are, for example"),
        ("global_pool.flatten", "no map in layout NCHW"),
        ("fc", "no map in layout NHWC"),
        (1.5, "stage: expected an index or a layer's name, got 1.5"),
        (None, "stage: expected an index or a layer's name, got None"),
    ],
)
def test_bad_stage(stage, message, backbones, batch):
    with pytest.raises(ValueError, match=message):
        GradCAM(stage)(backbones["resnet18"], batch, torch.tensor(TARGETS))


def test_model_without_stages(tiny_net, images, targets):
    with pytest.raises(ValueError, match="TinyNet does not describe its stages; give layers by name"):
        GradCAM()(tiny_net, images, targets)


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
    with pytest.raises(ValueError, match='say so: layout="tokens"'):
        LayerCAM("mix")(network, images, targets)
    with pytest.raises(ValueError, match=r"the 50 tokens of layer 'mix', 0 of them before .* make no grid .* 24x32"):
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


def test_a_layout_that_cannot_be_right_is_refused(backbones, batch):
    """Inside of ConvNeXt's MLPs channels are last, which nothing tells; torchvision's 2d norm is a LayerNorm."""
    network, target = backbones["convnext_tiny"], torch.tensor(TARGETS)
    with pytest.raises(ValueError, match=r"layer 'stages.0.blocks.1.mlp.act' .* has not the proportions of 96x96"):
        GradCAM("stages.0.blocks.1.mlp.act")(network, batch, target)
    raw = GradCAM(layout="NHWC").raw(network, batch, target, ["stages.0.blocks.1.mlp.act"])[0]
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
        ("vit_tiny_patch16_224", (14, 14, 14, 14)),
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


def test_memory_stays_flat_and_nothing_is_kept(tiny_net, images, targets):
    cam = RefineCAM(LayerCAM(), layers=["stem", "deep"])
    gc.collect()
    cam(tiny_net, images, targets)
    before = sum(isinstance(o, torch.Tensor) for o in gc.get_objects())
    for _ in range(5):
        cam(tiny_net, images, targets)
    assert sum(isinstance(o, torch.Tensor) for o in gc.get_objects()) <= before
