"""Maps and images at the edge of the definitions: constant, nearly full, not finite, worthless."""

import pytest
import torch

from refinecam.attribution import All1sCAM, RandomCAM
from refinecam.metrics.formulas import harmonic_mean
from refinecam.metrics.functional import adcc, arcc, average_drop, coherency, road
from tests.metrics.test_functional import CAM


def test_a_term_of_zero_gives_zero():
    terms = torch.tensor([0.5, 0.0, 1.0, torch.nan, -0.1]), torch.tensor([0.5, 0.5, 0.0, 0.5, 0.5])
    found = harmonic_mean(*terms, torch.ones(5))
    expected = torch.tensor([3 / 5, 0, 0, torch.nan, 0])
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_all_confidence_lost_gives_no_adcc(tiny_net, images, targets):
    class Loses(torch.nn.Module):
        """Sure of class 0 but on black images."""

        def forward(self, x):
            seen = (x.flatten(1).abs().sum(1) > 0).float()
            return torch.stack([1000 * seen, 1000 * (1 - seen)], 1)

    chosen, maps = torch.zeros(5, dtype=torch.int64), torch.zeros(5, 1, 24, 32)
    maps[:, :, 0, 0] = 1
    black = images.clone()
    black[:, :, 0, 0] = 0
    assert (average_drop(Loses(), black, chosen, maps) == 1).all()
    assert (adcc(Loses(), black, chosen, maps, lambda *args: maps) == 0).all()


def test_nearly_full_maps_are_nearly_worthless_and_not_nan(tiny_net, images, targets):
    maps = torch.ones(5, 1, 24, 32)
    maps[:, :, 0, 0] = 0
    maps[:, :, 0, 1] = 1 - 1e-7
    cam = All1sCAM()
    scores = [f(tiny_net, images, targets, maps, cam) for f in (adcc, arcc)]
    assert all(score.isfinite().all() and (score < 0.02).all() for score in scores)


def test_negative_road_gives_zero_arcc(tiny_net, images, targets):
    maps = RandomCAM()(tiny_net, images, targets)
    scores = road(tiny_net, images, targets, maps)
    worse = torch.where(scores[:, None, None, None] > 0, 1 - maps, maps)
    assert (road(tiny_net, images, targets, worse) < 0).any()
    found = arcc(tiny_net, images, targets, worse, RandomCAM())
    assert (found[road(tiny_net, images, targets, worse) <= 0] == 0).all()


def test_constant_map_has_no_coherency(tiny_net, images, targets):
    maps = CAM(tiny_net, images, targets)
    maps[1] = 0.5
    for f in (coherency, adcc, arcc):
        scores = f(tiny_net, images, targets, maps, CAM)
        assert scores.isnan().tolist() == [False, True, False, False, False]


def test_nothing_found_in_the_masked_image_is_no_correlation(tiny_net, images, targets):
    maps = CAM(tiny_net, images, targets)
    found = coherency(tiny_net, images, targets, maps, lambda model, image, target: torch.zeros_like(maps))
    assert found.tolist() == [0.5] * 5


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_map_that_is_not_finite_spoils_only_itself(value, tiny_net, images, targets):
    clean = CAM(tiny_net, images, targets)
    maps = clean.clone()
    maps[3, 0, 2, 2] = value
    for f in (average_drop, road):
        scores, expected = f(tiny_net, images, targets, maps), f(tiny_net, images, targets, clean)
        assert not scores[3].isfinite()
        keep = [0, 1, 2, 4]
        torch.testing.assert_close(scores[keep], expected[keep], atol=1e-6, rtol=0)
