"""Every method and score where the device has no float64, as Apple's have none.

The CPU stands for such a device: a mode refuses every float64 that is made there. What :func:`wide` makes is taken for
a tensor on the CPU, and may meet no tensor of the device but in a conversion back. Reported as pytorch/pytorch#122602
and pytorch/ignite#3326.
"""

from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from refinecam.attribution import parse_methods
from refinecam.core import precision
from refinecam.data.funnybirds import scores
from refinecam.metrics import SCORES, MapEvaluation, formulas
from refinecam.metrics.road import ROAD

METHODS = parse_methods(
    "GradCAM('deep'), GradCAM++('deep'), LayerCAM('deep'), ShapleyCAM('deep'), GuidedGradCAM('deep'), "
    "ScoreCAM('deep'), "
    "RefineCAM(LayerCAM, layers=['stem', 'deep']), InputXGradient, IntegratedGradients(steps=3), DeepLift, "
    "LIME(samples=6, segments=4), KernelSHAP(samples=6, segments=4), RandomCAM, HalfCAM, All1sCAM"
)


CONVERSIONS = (torch.ops.aten.copy_.default,)
"""Which may read the one device and write to the other."""


class WithoutDouble(TorchDispatchMode):
    """Refuses float64 but in what was made of it on purpose."""

    allowed = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        wide = [value.dtype == torch.float64 for value in given if value.is_floating_point()]
        if self.allowed or func in CONVERSIONS:
            return result
        if any(wide) and not all(wide):
            raise TypeError(f"{func}: tensors of two devices")
        if given and not any(wide) and any(getattr(v, "dtype", None) == torch.float64 for v in tree_leaves(result)):
            raise TypeError(f"{func}: the device has no float64")
        return result


@contextmanager
def device_without_double(monkeypatch):
    mode, made = WithoutDouble(), precision.wide

    def wide(values):
        mode.allowed += 1
        try:
            return made(values)
        finally:
            mode.allowed -= 1

    modules = {kind.__module__ for kind in SCORES.values()}
    modules |= {"refinecam.data.funnybirds.scores", "refinecam.data.funnybirds.evaluation"}
    modules |= {f"refinecam.metrics.{name}" for name in ("formulas", "ranking", "base")}
    for module in modules:
        if hasattr(__import__(module, fromlist=["x"]), "wide"):
            monkeypatch.setattr(f"{module}.wide", wide)
    with mode:
        yield


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.short_name)
def test_methods(method, tiny_net, images, targets, monkeypatch):
    expected = method(tiny_net, images, targets)
    with device_without_double(monkeypatch):
        found = method(tiny_net, images, targets)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", [*SCORES, "percentile"])
def test_scores(name, tiny_net, images, targets, monkeypatch):
    method = METHODS[2]
    maps, masks = method(tiny_net, images, targets), (images[:, :1] > 0).float()

    def value():
        metric = ROAD(ranking="percentile") if name == "percentile" else SCORES[name]()
        metric.update(MapEvaluation(tiny_net, images, targets, maps, method, masks=masks))
        return metric.compute()

    expected = value()
    with device_without_double(monkeypatch):
        found = value()
    torch.testing.assert_close(found, expected)


def test_scores_of_birds(images, monkeypatch):
    maps, part_maps = images[:, :1].sigmoid(), (images > 0).float()
    weights = torch.cat([part_maps, part_maps[:, :2]], 1)
    clean, without = images[:, 0, 0, 0], images[:, 0, 0, 1:6]

    def values():
        importance = scores.importance_of(maps, weights)
        important = scores.important_parts(maps, importance)
        irrelevant = scores.irrelevant_parts(clean, without)
        return [
            scores.distracted_share(important, irrelevant),
            scores.single_deletion(without, importance),
            scores.background_independence(clean, without),
        ]

    expected = values()
    with device_without_double(monkeypatch):
        found = values()
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)


def test_the_mode_refuses(images, monkeypatch):
    with device_without_double(monkeypatch):
        with pytest.raises(TypeError, match="no float64"):
            images.double()
        with pytest.raises(TypeError, match="two devices"):
            torch.mul(formulas.wide(images), images)


def test_where_sums_are_made(images, monkeypatch):
    monkeypatch.setattr(precision, "WITHOUT_DOUBLE", {"cpu"})
    assert precision.wide(images).dtype == torch.float64
    assert precision.narrow(precision.wide(images), images).dtype == torch.float32


def test_a_metric_stays_where_float64_is():
    def to_apple(value):
        if value.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return value.to("meta")

    metric = SCORES["road"]()
    assert metric._apply(to_apple) is metric
    assert metric.total.device.type == "cpu"
    metric.update(torch.tensor([0.5, 0.25]))
    assert float(metric.compute()) == 0.375
