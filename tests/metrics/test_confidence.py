"""Networks with several labels, metrics that plot, and what names an image.

Asked for as jacobgil/pytorch-grad-cam#436 and #232 (which class and how) and by torchmetrics' convention for ``plot``.
"""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from refinecam import explain, score
from refinecam.attribution import LayerCAM
from refinecam.core.errors import InputError
from refinecam.metrics import ARCC, MapEvaluation, functional
from refinecam.metrics.formulas import harmonic_mean

CAM = LayerCAM("deep")


@pytest.fixture
def maps(tiny_net, images, targets):
    return CAM(tiny_net, images, targets)


class Two(nn.Module):
    """Its softmax over a class and a constant 0 is the class's sigmoid."""

    def __init__(self, network, target):
        super().__init__()
        self.network, self.target = network, target

    def forward(self, x):
        logit = self.network(x)[:, self.target]
        return torch.stack([torch.zeros_like(logit), logit], 1)


@pytest.mark.parametrize("name", ["average_drop", "increase_in_confidence", "road", "insertion", "deletion"])
def test_sigmoid_is_the_softmax_of_a_class_against_zero(name, maps, tiny_net, images):
    function = getattr(functional, name)
    found = function(tiny_net, images, 3, maps, confidence="sigmoid")
    torch.testing.assert_close(found, function(Two(tiny_net, 3), images, 1, maps), atol=1e-6, rtol=0)
    if name != "increase_in_confidence":
        assert (found - function(tiny_net, images, 3, maps)).abs().max() > 1e-4


def test_sigmoid_in_the_scores_made_of_others(maps, tiny_net, images):
    given = tiny_net, images, 3, maps
    coherency, complexity = functional.coherency(*given, CAM), functional.complexity(maps)
    road = functional.road(*given, confidence="sigmoid").clamp(0, 1)
    torch.testing.assert_close(
        functional.arcc(*given, CAM, confidence="sigmoid").double(),
        harmonic_mean(coherency, 1 - complexity, road).double(),
    )
    drop = functional.average_drop(*given, confidence="sigmoid")
    torch.testing.assert_close(
        functional.adcc(*given, CAM, confidence="sigmoid").double(),
        harmonic_mean(coherency, 1 - complexity, 1 - drop).double(),
    )
    with torch.no_grad():
        chances = tiny_net(images[:1]).sigmoid()[0]
    explanation = explain(tiny_net, images[:1], 3, CAM, scores="road", confidence="sigmoid")
    assert explanation.top[0][2] == pytest.approx(float(chances.max()), abs=1e-6)
    table = score(*given, CAM, scores="road, arcc", confidence="sigmoid")
    np.testing.assert_allclose(table["road"], functional.road(*given, confidence="sigmoid"), atol=1e-6)
    one = nn.Sequential(tiny_net, nn.Linear(6, 1)).eval()  # a lone logit has a sigmoid, but no softmax
    assert functional.road(one, images, 0, maps, confidence="sigmoid").isfinite().all()
    with pytest.raises(InputError, match="one logit"):
        functional.road(one, images, 0, maps)
    with pytest.raises(InputError, match="confidence: expected one of softmax, sigmoid, got 'relu'"):
        functional.road(*given, confidence="relu")


def test_a_metric_plots(maps, tiny_net, images, targets):
    metric = ARCC()
    metric.update(MapEvaluation(tiny_net, images, targets, maps, CAM))
    _, axes = metric.plot({"GradCAM": torch.tensor(0.3), "LayerCAM": 0.7})
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.3, 0.7])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["GradCAM", "LayerCAM"]
    assert axes.get_xlabel() == "arcc (higher is better)"
    given = Figure().subplots()
    assert metric.plot({"a": 1.0}, ax=given) == (None, given)
    _, own = metric.plot()
    assert own.lines[0].get_ydata()[0] == pytest.approx(float(metric.compute()))


def test_names_are_identities(maps, tiny_net, images, targets):
    names = [f"{i}.jpg" for i in range(len(images))]
    found = functional.road(tiny_net, images, targets, maps, index=names)
    turned = functional.road(tiny_net, images.flip(0), targets.flip(0), maps.flip(0), index=names[::-1])
    torch.testing.assert_close(turned.flip(0), found)


def test_forward_with_several_inputs(images):
    class Pair(nn.Module):
        def forward(self, x, other):
            return (x + other).mean((2, 3))

    with pytest.raises(InputError, match=r"its forward takes more than the images .*'other'.*; wrap it in a module"):
        functional.average_drop(Pair(), images, None, images[:, :1].sigmoid())
