"""ROAD and ARCC against the implementation in grad-cam 1.5.7, which halves ROAD and doubles it again in ARCC."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics import road as oracle_road
from pytorch_grad_cam.metrics.arcc import ARCC as OracleARCC
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

from refinecam.attribution import GradCAMPlusPlus
from refinecam.attribution.method import normalize
from refinecam.metrics.functional import arcc, road
from tests.conftest import SIZE


@pytest.fixture(scope="module")
def case(backbones):
    """A network that reacts: the head's random weights are scaled up."""
    network = backbones["resnet18"]
    with torch.no_grad():
        network.fc.weight *= 30
    images = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.avg_pool2d(images, 9, 1, 4) * 6
    yield network, images, network(images).argmax(1)
    with torch.no_grad():
        network.fc.weight /= 30


@pytest.fixture(autouse=True)
def _without_noise(monkeypatch):
    real = oracle_road.NoisyLinearImputer.__init__
    monkeypatch.setattr(oracle_road.NoisyLinearImputer, "__init__", lambda self: real(self, noise=0))


def test_road(case):
    network, images, targets = case
    maps = normalize(images.mean(1, keepdim=True))  # no ties, and not without influence
    oracle = oracle_road.ROADCombined([20, 40, 60, 80])
    chosen = [ClassifierOutputSoftmaxTarget(t) for t in targets.tolist()]
    with torch.no_grad():
        expected = 2 * np.array(oracle(images, maps[:, 0].numpy(), chosen, network))
    found = road(network, images, targets, maps, noise=0)
    assert np.abs(expected).max() > 0.02
    # the oracle keeps the pixel at the threshold where exact shares take it
    np.testing.assert_allclose(found.numpy(), expected, atol=5e-3)


def test_percentile_rule_is_the_oracles(case):
    """On maps whose pixels are mostly equal, too, where exact shares give another score."""
    network, images, targets = case
    smooth = normalize(images.mean(1, keepdim=True))
    steps = (smooth * 4).round() / 4
    sparse = (smooth - 0.7).clamp(min=0) / 0.3
    oracle = oracle_road.ROADCombined([20, 50, 60, 80, 90])
    chosen = [ClassifierOutputSoftmaxTarget(t) for t in targets.tolist()]
    for maps in (smooth, steps, normalize(sparse)):
        with torch.no_grad():
            expected = 2 * np.array(oracle(images, maps[:, 0].numpy(), chosen, network))
        options = {"percentiles": (80, 50, 40, 20, 10), "noise": 0}  # the oracle's count what stays
        found = road(network, images, targets, maps, ranking="percentile", **options)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
        if maps is not smooth:
            assert (found - road(network, images, targets, maps, **options)).abs().max() > 1e-3
    with pytest.raises(ValueError, match="ranking: expected one of exact, percentile, got 'rank'"):
        road(network, images, targets, smooth, ranking="rank")


def test_arcc(case):
    network, images, targets = case
    cam = GradCAMPlusPlus(stage=1)
    maps = cam(network, images, targets)
    chosen = [ClassifierOutputSoftmaxTarget(t) for t in targets.tolist()]

    class Again:
        """The method under test in the oracle's clothes, so that only the scores are compared."""

        def __call__(self, input_tensor, targets):
            return cam(network, input_tensor, case[2])[:, 0].numpy()

    with torch.no_grad():
        expected = OracleARCC(Again())(images, maps[:, 0].numpy(), chosen, network)
    assert expected.max() > 0.02
    found = arcc(network, images, targets, maps, cam, noise=0)
    np.testing.assert_allclose(found.numpy(), expected, atol=5e-3)
