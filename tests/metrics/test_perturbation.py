"""Insertion and deletion against a transcription of their definition, step by step."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from scipy.ndimage import correlate1d

from refinecam.attribution import HalfCAM, RandomCAM
from refinecam.metrics import Deletion, MapEvaluation
from refinecam.metrics.functional import deletion, increase_in_confidence, insertion, perturbation_curve
from tests.conftest import TinyNet
from tests.metrics.test_functional import chance


def blurred(image):
    window = np.exp(-0.5 * (np.arange(-5, 6) / 5) ** 2)
    rows = correlate1d(image.double().numpy(), window / window.sum(), axis=1, mode="mirror")
    return torch.from_numpy(correlate1d(rows, window / window.sum(), axis=2, mode="mirror")).float()


def slow(model, image, target, m, kind, steps, fill):
    """The curve of one map without equal pixels."""
    total, found = m.numel(), []
    order = m.flatten().argsort(descending=True)
    for step in range(steps + 1):
        moved = torch.zeros(total, dtype=torch.bool)
        moved[order[: round(step / steps * total)]] = True
        gone = (moved if kind == "deletion" else ~moved).view(m.shape)
        if fill == "imputed":
            if gone.all():
                perturbed = torch.zeros_like(image)
            else:
                perturbed = NoisyLinearImputer(noise=0)(image.clone(), (~gone[0]).float()) if gone.any() else image
        else:
            perturbed = torch.where(gone, blurred(image) if fill == "blur" else torch.tensor(0.0), image)
        found.append(chance(model, perturbed, target))
    return found


@pytest.mark.parametrize("fill", ["mean", "blur", "imputed"])
@pytest.mark.parametrize("kind", ["insertion", "deletion"])
def test_equals_its_definition(kind, fill, tiny_net, images, targets):
    maps = RandomCAM()(tiny_net, images, targets)
    evaluation = MapEvaluation(tiny_net, images, targets, maps)
    curve, area = perturbation_curve(evaluation, kind, 6, fill)
    expected = torch.tensor([slow(tiny_net, *row, kind, 6, fill) for row in zip(images, targets, maps, strict=True)])
    torch.testing.assert_close(curve, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(area, torch.from_numpy(np.trapezoid(expected.numpy(), dx=1 / 6)), atol=1e-4, rtol=0)
    assert (curve[:, 0] - curve[:, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("score", [insertion, deletion])
def test_batch_equals_its_images(score, tiny_net, images, targets):
    """Also for maps of equal pixels."""
    for maps in (RandomCAM()(tiny_net, images, targets), HalfCAM()(tiny_net, images, targets)):
        alone = [score(tiny_net, images[i : i + 1], targets[i : i + 1], maps[i : i + 1]) for i in range(5)]
        torch.testing.assert_close(score(tiny_net, images, targets, maps), torch.cat(alone), atol=1e-5, rtol=0)


def test_a_broken_map_spoils_only_itself(tiny_net, images, targets):
    maps = RandomCAM()(tiny_net, images, targets)
    expected = deletion(tiny_net, images, targets, maps)
    maps[2, 0, 0, 0] = torch.nan
    found = deletion(tiny_net, images, targets, maps)
    assert found.isnan().tolist() == [False, False, True, False, False]
    torch.testing.assert_close(found[:2], expected[:2])


def test_bad_input(tiny_net, images, targets):
    maps = RandomCAM()(tiny_net, images, targets)
    with pytest.raises(ValueError, match="fill: expected one of mean, blur, imputed, got 'zeros'"):
        deletion(tiny_net, images, targets, maps, fill="zeros")
    with pytest.raises(ValueError, match="steps: expected a whole number, at least 1, got 0"):
        insertion(tiny_net, images, targets, maps, steps=0)
    with pytest.raises(ValueError, match="steps: expected"):
        Deletion(steps=0).update(MapEvaluation(tiny_net, images, targets, maps))


def test_increase_in_confidence(images, targets):
    torch.manual_seed(2)
    network = TinyNet().eval()
    maps = RandomCAM()(network, images, targets)
    expected = [
        float(chance(network, x, t) < chance(network, x * m, t)) for x, t, m in zip(images, targets, maps, strict=True)
    ]
    assert 0 < sum(expected) < 5
    assert increase_in_confidence(network, images, targets, maps).tolist() == expected
