import pytest
import torch

from refinecam.attribution import GradCAMPlusPlus, HalfCAM, LayerCAM, RefineCAM
from refinecam.attribution.method import normalise
from tests.conftest import SIZE


@pytest.fixture(scope="module")
def batch():
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2)), torch.tensor([1, 4])


@pytest.mark.parametrize("first", [0, 1, 2, 3, -2, "layer3"])
def test_is_the_product_of_the_stage_and_all_deeper_ones(first, backbones, batch):
    network = backbones["resnet18"]
    start = 2 if first == "layer3" else first % 4
    expected = torch.ones(2, 1, SIZE, SIZE)
    for stage in range(start, 4):
        expected = expected * LayerCAM(stage)(network, *batch)
    torch.testing.assert_close(RefineCAM(LayerCAM(), stage=first)(network, *batch), normalise(expected))


def test_one_forward_and_one_backward(backbones, batch):
    network = backbones["resnet18"]
    calls = []
    handle = network.conv1.register_forward_hook(lambda *args: calls.append(1))
    RefineCAM(GradCAMPlusPlus())(network, *batch)
    handle.remove()
    assert len(calls) == 1


def test_names():
    cam = RefineCAM(GradCAMPlusPlus())
    assert (cam.name, cam.stage, cam.aggregator) == ("RefineCAM(GradCAM++)", 0, "product")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RefineCAM(HalfCAM()), "cam: RefineCAM works around a CAM"),
        (lambda: RefineCAM(LayerCAM(), layers=5), "layers: expected a list of layers' names"),
        (lambda: RefineCAM(LayerCAM(), layers="layer1"), "layers: expected a list of layers' names"),
        (lambda: RefineCAM(LayerCAM(), aggregator="sum"), "aggregator: expected one of"),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("stage", [4, -5, "layer9"])
def test_bad_stage(stage, backbones, batch):
    with pytest.raises(ValueError, match=r"no stage .* to refine from; there are 0"):
        RefineCAM(LayerCAM(), stage=stage)(backbones["resnet18"], *batch)
