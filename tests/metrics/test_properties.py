"""What holds of every score for any map: ranges, undefined values, and what must not change it."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refinecam.metrics import MapEvaluation, parse_scores
from refinecam.metrics.base import SCORES
from refinecam.metrics.functional import complexity, cosine_similarity, pointing_game, road, roc_auc
from tests.conftest import TinyNet

HEIGHT, WIDTH = 12, 16
RANGES = {"road": (-1, 1)}  # of the others [0, 1]
QUICK = settings(max_examples=25, deadline=None, derandomize=True)
torch.manual_seed(0)
NETWORK = TinyNet().eval()
IMAGES, TARGETS = torch.randn(2, 3, HEIGHT, WIDTH), torch.tensor([1, 4])


@st.composite
def some_maps(draw):
    """Two maps: noise, plateaus, sparse ones, ones that are nearly 0 or 1 everywhere, or constant ones."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    kind = draw(st.sampled_from(["noise", "plateaus", "sparse", "low", "high", "constant"]))
    noise = torch.rand(2, 1, HEIGHT, WIDTH, generator=generator)
    return {
        "noise": noise,
        "plateaus": (noise * 3).round() / 3,
        "sparse": noise * (noise > 0.97),
        "low": noise * 1e-6,
        "high": 1 - noise * 1e-6,
        "constant": noise[:, :, :1, :1].expand_as(noise).clone(),
    }[kind]


@st.composite
def some_masks(draw):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    return (torch.rand(2, 1, HEIGHT, WIDTH, generator=generator) < draw(st.sampled_from([0.02, 0.5, 0.98]))).float()


def invert(model, images, targets):
    """An attribution method of no sense."""
    return (images.mean(1, keepdim=True) - images.mean()).sigmoid()


@QUICK
@given(some_maps(), some_masks())
def test_scores_are_in_their_range_or_undefined(maps, masks):
    evaluation = MapEvaluation(NETWORK, IMAGES, TARGETS, maps, invert, masks=masks)
    constant = maps.amin((1, 2, 3)) == maps.amax((1, 2, 3))
    for metric in parse_scores(list(SCORES)):
        scores = metric.per_image(evaluation)
        low, high = RANGES.get(metric.name, (0, 1))
        assert scores[constant].isnan().all(), metric.name
        defined = scores[scores.isfinite()]
        assert ((defined >= low - 1e-6) & (defined <= high + 1e-6)).all(), (metric.name, scores)
        if not metric.needs_masks:
            assert scores[~constant].isfinite().all(), metric.name


@QUICK
@given(some_maps(), some_masks(), st.floats(0.1, 0.9))
def test_ground_truth_scores_do_not_change_with_the_scale(maps, masks, factor):
    for score in (cosine_similarity, roc_auc, pointing_game):  # iou breaks ties by the map's own values
        torch.testing.assert_close(score(maps * factor, masks), score(maps, masks), atol=1e-4, rtol=0, equal_nan=True)
    torch.testing.assert_close(complexity(maps * factor), complexity(maps) * factor, atol=1e-5, rtol=1e-4)


@QUICK
@given(some_maps(), st.permutations([0, 1]))
def test_order_of_the_images_does_not_matter(maps, order):
    scores = road(NETWORK, IMAGES, TARGETS, maps)
    torch.testing.assert_close(road(NETWORK, IMAGES[order], TARGETS[order], maps[order]), scores[order])


def test_road_goes_by_rank_up_to_ties():
    """A strictly monotone change leaves the ranks, so ROAD, as they are, unless it makes ties of what was none."""
    maps = (
        torch.linspace(0, 1, HEIGHT * WIDTH)[torch.randperm(HEIGHT * WIDTH)]
        .reshape(1, 1, HEIGHT, WIDTH)
        .repeat(2, 1, 1, 1)
    )
    before = road(NETWORK, IMAGES, TARGETS, maps)
    torch.testing.assert_close(road(NETWORK, IMAGES, TARGETS, maps**0.5), before)
    torch.testing.assert_close(road(NETWORK, IMAGES, TARGETS, 0.2 + 0.5 * maps), before)
    flat = 1 - (1 - maps) * 1e-6  # differences below one part in 100,000 are ties
    assert not torch.allclose(road(NETWORK, IMAGES, TARGETS, flat), before, atol=1e-4)
