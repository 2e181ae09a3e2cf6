"""Each CAM against grad-cam 1.5.7 on each of the four backbones."""

import gc

import pytest
import pytorch_grad_cam as oracle
import torch
from pytorch_grad_cam.refine_cam import RefineCAM as OracleRefineCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from refinecam.attribution import GradCAM, GradCAMPlusPlus, GuidedGradCAM, LayerCAM, RefineCAM, ScoreCAM, parse_methods
from refinecam.attribution.capture import record_layers
from refinecam.attribution.method import normalize
from refinecam.core.errors import InputError
from tests.attribution.oracle import STAGES, TARGETS, by_oracle, few_gradients
from tests.conftest import BACKBONES

CAMS = {GradCAM: oracle.GradCAM, GradCAMPlusPlus: oracle.GradCAMPlusPlus, LayerCAM: oracle.LayerCAM}


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("cam", CAMS)
def test_equals_the_oracle_at_every_stage(cam, name, backbones, batch):
    network = backbones[name]
    for stage, layer in enumerate(STAGES[name]):
        expected = by_oracle(CAMS[cam], network, name, batch, [layer])
        found = cam(stage=stage)(network, batch, torch.tensor(TARGETS))
        # normalized again, because the oracle divides by the range plus 1e-7
        torch.testing.assert_close(found, normalize(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("cam", CAMS)
def test_refined_map_equals_the_oracle(cam, name, backbones, batch):
    network = backbones[name]
    reshape = (lambda t: t.permute(0, 3, 1, 2)) if "swin" in name else None
    modules = [network.get_submodule(layer) for layer in STAGES[name]]
    refined = OracleRefineCAM(network, modules, reshape_transform=reshape, base_method=CAMS[cam])
    with few_gradients(network):
        expected = torch.from_numpy(refined(batch, [ClassifierOutputTarget(t) for t in TARGETS])).unsqueeze(1)
    for base in refined.base_cam_per_layer:
        base.activations_and_grads.release()
    found = RefineCAM(cam())(network, batch, torch.tensor(TARGETS))
    torch.testing.assert_close(found, normalize(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("cam", [LayerCAM(), GuidedGradCAM(), ScoreCAM()], ids=repr)
def test_maps_of_all_stages_are_those_of_each(cam, backbones, batch):
    network, images, targets = backbones["resnet18"], batch[:1, :, :48, :48], torch.tensor(TARGETS[:1])
    found = cam.maps(network, images, targets)
    for stage, maps in enumerate(found):
        torch.testing.assert_close(maps, type(cam)(stage)(network, images, targets))
    assert len(found) == 4
    for maps, expected in zip(cam.maps(network, images, targets, [-1, "layer2"]), (found[3], found[1]), strict=True):
        torch.testing.assert_close(maps, expected)


def test_record_survives_an_in_place_activation(tiny_net, images, targets):
    """The stem's batch norm is followed by an in-place ReLU, which must not overwrite the record."""
    raw = GradCAM().raw(tiny_net, images, targets, ["stem.1"])[0]
    tiny_net.stem[2].inplace = False
    torch.testing.assert_close(raw, GradCAM().raw(tiny_net, images, targets, ["stem.1"])[0])
    assert raw.amin() < 0  # raw maps keep their sign


def test_a_map_without_contrast_is_zero(tiny_net, images, targets):
    torch.nn.init.zeros_(tiny_net.head.weight)
    assert GradCAM("deep")(tiny_net, images, targets).abs().max() == 0


def test_memory_stays_flat_and_nothing_is_kept(tiny_net, images, targets):
    cam = RefineCAM(LayerCAM(), layers=["stem", "deep"])
    gc.collect()
    cam(tiny_net, images, targets)
    before = sum(isinstance(o, torch.Tensor) for o in gc.get_objects())
    for _ in range(5):
        cam(tiny_net, images, targets)
    assert sum(isinstance(o, torch.Tensor) for o in gc.get_objects()) <= before


def slow_weigh(kind, activation, gradient, epsilon):
    """One image's signed map, channel by channel; kind is the CAM's name."""
    total = 0
    for a, g in zip(activation.double(), gradient.double(), strict=True):
        if kind == "GradCAM":
            total = total + g.mean() * a
        elif kind == "LayerCAM":
            total = total + g.clamp(min=0) * a
        else:
            alpha = [x**2 / d if (d := 2 * x**2 + a.sum() * x**3 + epsilon) else 0 for x in g.flatten()]
            total = total + sum(w * max(x, 0) for w, x in zip(alpha, g.flatten(), strict=True)) * a
    return total


@pytest.mark.parametrize("activations", ["signed", "rectified", "centered"])
@pytest.mark.parametrize("cam", CAMS)
def test_what_is_weighted(cam, activations, tiny_net, images, targets):
    options = {"epsilon": 0.0} if cam is GradCAMPlusPlus else {}
    ((activation, gradient),) = record_layers(tiny_net, images, targets, ["stem.0"])
    assert (activation < 0).any()
    changed = {
        "signed": activation,
        "rectified": torch.where(activation > 0, activation, 0),
        "centered": (activation - activation.mean((2, 3), keepdim=True)).clamp(min=0),
    }[activations]
    expected = [slow_weigh(cam.__name__, *row, 0) for row in zip(changed, gradient, strict=True)]
    method = cam("stem.0", activations=activations, **options)
    (found,) = method.raw(tiny_net, images, targets, ["stem.0"])
    torch.testing.assert_close(found[:, 0].double(), torch.stack(expected), rtol=1e-3, atol=1e-7)
    assert (activations in method.name) == (activations != "signed")
    assert repr(parse_methods(repr(method))[0]) == repr(method)


def test_rectified_activations_are_the_same_after_a_relu(backbones, batch):
    for cam in CAMS:
        signed = cam(1)(backbones["resnet18"], batch, torch.tensor(TARGETS))
        assert torch.equal(cam(1, activations="rectified")(backbones["resnet18"], batch, torch.tensor(TARGETS)), signed)
        other = cam(1, activations="rectified")(backbones["convnext_tiny"], batch, torch.tensor(TARGETS))
        assert not torch.equal(other, cam(1)(backbones["convnext_tiny"], batch, torch.tensor(TARGETS)))


@pytest.mark.parametrize("options", [{"activations": "relu"}, {"epsilon": -1.0}, {"epsilon": "small"}])
def test_wrong_options(options):
    with pytest.raises(InputError, match=next(iter(options))):
        GradCAMPlusPlus(**options)
