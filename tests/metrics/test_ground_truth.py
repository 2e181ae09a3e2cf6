"""Scores that compare with the ground truth, against scikit-learn and transcriptions of their definitions."""

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score, roc_auc_score

from refinecam.attribution import All1sCAM
from refinecam.attribution.method import normalize, resize
from refinecam.metrics.functional import cosine_similarity, iou, mass_accuracy, pointing_game, roc_auc
from refinecam.metrics.ranking import TIE, plateaus, relevance_ranks

SCORES = [cosine_similarity, iou, mass_accuracy, pointing_game, roc_auc]


@pytest.fixture
def case():
    """Smooth maps, maps full of equal values, and one like the object itself."""
    rng = torch.Generator().manual_seed(0)
    masks = (torch.rand(6, 1, 12, 17, generator=rng) < 0.2).float()
    maps = torch.rand(6, 1, 12, 17, generator=rng)
    maps[2:4] = (maps[2:4] * 3).round() / 3
    maps[5] = masks[5]
    return maps, masks


def rows(maps, masks):
    return [(m.flatten().double().numpy(), t.flatten().int().numpy()) for m, t in zip(maps, masks, strict=True)]


def test_roc_auc(case):
    expected = [roc_auc_score(t, m) for m, t in rows(*case)]
    torch.testing.assert_close(roc_auc(*case), torch.tensor(expected).float())


@pytest.mark.parametrize("size", [96, 224])
def test_roc_auc_of_products_whose_small_values_lie_dense(size):
    """Four smooth maps multiplied: most values are near 0, and each of them is nearly its neighbor."""
    coarse = torch.rand(3, 4, 7, 7, generator=torch.Generator().manual_seed(0))
    maps = normalize(resize(coarse, (size, size)).pow(8).prod(1, keepdim=True))
    assert (maps < 1e-5).float().mean() > 0.3
    masks = (resize(coarse[:, 1:2], (size, size)) > 0.6).float()
    expected = [roc_auc_score(t, m) for m, t in rows(maps, masks)]
    torch.testing.assert_close(roc_auc(maps, masks), torch.tensor(expected).float(), atol=1e-5, rtol=0)
    order = maps.flatten(1).gather(1, relevance_ranks(maps, 0, [0, 1, 2]).flatten(1).argsort(1))
    assert (order.diff(dim=1) >= -2 * TIE * order[:, 1:]).all()


def test_plateaus_are_no_wider_than_a_tie():
    """Chains of near values are cut; equal ones and their rounding errors stay together."""
    dense = torch.linspace(0.5, 0.6, 60_000, dtype=torch.float64)
    flat = torch.full((5000,), 0.25, dtype=torch.float64) * (1 + 1e-7 * torch.rand(5000, dtype=torch.float64))
    values = torch.cat([torch.zeros(100, dtype=torch.float64), flat.sort().values, dense])[None]
    level = plateaus(values)[0]
    assert (level[:100] == level[0]).all()
    assert (level[100:5100] == level[100]).all()
    assert level[99] < level[100]
    for name in level.unique()[::500]:
        members = values[0, level == name]
        assert members[-1] - members[0] <= 1.001 * TIE * members[0]
    assert len(level.unique()) > 10_000


def test_mass_accuracy(case):
    expected = [m[t == 1].sum() / m.sum() for m, t in rows(*case)]
    torch.testing.assert_close(mass_accuracy(*case), torch.tensor(expected).float())


def test_pointing_game(case):
    expected = [np.mean(t[m == m.max()]) for m, t in rows(*case)]
    assert len(set(expected)) > 2
    torch.testing.assert_close(pointing_game(*case), torch.tensor(expected).float())


def test_iou(case):
    maps, masks = case
    for k, (m, t) in enumerate(rows(maps, masks)):
        if k in (2, 3):  # equal values: any order may be drawn
            continue
        cut = np.zeros(len(t), int)
        cut[np.argsort(m)[len(t) - t.sum() :]] = 1
        assert iou(maps, masks)[k].item() == pytest.approx(jaccard_score(t, cut))
    assert iou(maps, masks)[5] == 1


def test_equal_pixels_are_drawn_by_seed_and_index(tiny_net):
    masks = (torch.rand(1, 1, 24, 32, generator=torch.Generator().manual_seed(0)) < 0.3).float().expand(300, -1, -1, -1)
    maps = All1sCAM()(tiny_net, torch.zeros(300, 3, 24, 32), torch.zeros(300, dtype=torch.int64))
    found = iou(maps, masks, index=range(300))
    assert torch.equal(found, iou(maps, masks, index=torch.arange(300)))
    assert not torch.equal(found, iou(maps, masks, index=range(300), seed=1))
    hits = 2 * found / (1 + found)  # the share of the object that was drawn
    assert hits.mean().item() == pytest.approx(masks[0].mean().item(), abs=0.01)


@pytest.mark.parametrize("score", SCORES)
def test_batch_equals_its_rows(score, case):
    maps, masks = case
    alone = torch.cat([score(maps[i : i + 1], masks[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(score(maps, masks), alone, atol=1e-6, rtol=0)
    assert score(maps[:0], masks[:0]).shape == (0,)


@pytest.mark.parametrize("score", SCORES)
def test_without_an_object_or_with_a_broken_map_there_is_no_score(score, case):
    maps, masks = (values.clone() for values in case)
    masks[1] = 0
    maps[4, 0, 3, 3] = torch.nan
    assert score(maps, masks).isnan().tolist() == [False, True, False, False, True, False]


@pytest.mark.parametrize("score", SCORES)
def test_bad_input(score, case):
    maps, masks = case
    with pytest.raises(ValueError, match="masks: expected the maps' shape"):
        score(maps, masks[:2])
    with pytest.raises(ValueError, match="masks: expected values 0 and 1"):
        score(maps, masks / 2)
    with pytest.raises(ValueError, match=r"maps: expected values in \[0, 1\]"):
        score(maps * 2, masks)
