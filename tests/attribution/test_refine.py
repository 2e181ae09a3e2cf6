from decimal import Decimal, localcontext
from math import prod
from typing import get_args

import pytest
import torch

from refinecam.attribution import GradCAMPlusPlus, HalfCAM, LayerCAM, RefineCAM
from refinecam.attribution.method import normalize
from refinecam.attribution.refine import Aggregator, aggregate
from tests.conftest import SIZE


def inverse_exp_mean(values):
    if min(values) == 0:
        return 0.0
    with localcontext() as context:
        context.prec, context.Emax = 40, 10**12
        return float(1 / (sum((1 / Decimal(value)).exp() for value in values) / len(values)).ln())


DEFINITIONS = {
    "product": prod,
    "geometric_mean": lambda values: prod(values) ** (1 / len(values)),
    "inverse_exp_mean": inverse_exp_mean,
    "identity": lambda values: values[0],
}


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
    torch.testing.assert_close(RefineCAM(LayerCAM(), stage=first)(network, *batch), normalize(expected))


@pytest.mark.parametrize("aggregator", get_args(Aggregator))
def test_aggregators_equal_their_definitions(aggregator, backbones, batch):
    """Pixel by pixel in Python's own numbers."""
    network = backbones["resnet18"]
    for first in (0, 2):
        factors = [LayerCAM(stage)(network, *batch)[0, 0, ::7, ::7].flatten().tolist() for stage in range(first, 4)]
        values = [DEFINITIONS[aggregator](pixel) for pixel in zip(*factors, strict=True)]
        found = aggregate([torch.tensor(factor) for factor in factors], aggregator)
        torch.testing.assert_close(found, torch.tensor(values), atol=1e-6, rtol=1e-4)
        whole = aggregate([LayerCAM(stage)(network, *batch) for stage in range(first, 4)], aggregator)
        refined = RefineCAM(LayerCAM(), aggregator, stage=first)
        assert refined.aggregator == aggregator
        torch.testing.assert_close(refined(network, *batch), normalize(whole), atol=1e-5, rtol=0)


@pytest.mark.parametrize("aggregator", ["product", "geometric_mean", "inverse_exp_mean"])
def test_aggregators_are_stable_down_to_zero(aggregator):
    values = torch.tensor([0.0, 1e-45, 1e-38, 1e-20, 1e-6, 0.005, 0.0113, 0.5, 1.0])
    found = aggregate([values, values, values], aggregator)
    assert found.isfinite().all()
    assert (found.diff() >= 0).all()
    if aggregator != "product":  # a mean of equal values is that value, where float32 has its inverse
        torch.testing.assert_close(found[3:], values[3:], rtol=1e-5, atol=0)
    with_zero = aggregate([values, torch.zeros_like(values)], aggregator)
    assert with_zero.abs().max() == 0


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
    assert RefineCAM(LayerCAM(), layers=["layer3", "layer4"]).name == "RefineCAM(LayerCAM, layer3, layer4)"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RefineCAM(HalfCAM()), "cam: RefineCAM works around a CAM"),
        (lambda: RefineCAM(LayerCAM(stage=2)), r"leave the stage out of LayerCAM\(stage=2\).*RefineCAM\(…, stage=2\)"),
        (lambda: RefineCAM(LayerCAM(), layers=5), "layers: expected a list of layers or their names"),
        (lambda: RefineCAM(LayerCAM(), layers="layer1"), "layers: expected a list of layers or their names"),
        (lambda: RefineCAM(LayerCAM(), aggregator="sum"), "aggregator: expected one of"),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("stage", [4, -5, "layer9"])
def test_bad_stage(stage, backbones, batch):
    with pytest.raises(
        ValueError, match=r"no stage .* to refine from; there are 0|no layer named .layer9.; close to it: layer4"
    ):
        RefineCAM(LayerCAM(), stage=stage)(backbones["resnet18"], *batch)
