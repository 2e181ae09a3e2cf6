import torch
from scipy.stats import kstest

from refinecam.attribution import All1sCAM, HalfCAM, RandomCAM


def test_random_map_is_uniform_and_belongs_to_its_image(tiny_net, images, targets):
    maps = RandomCAM()(tiny_net, images, targets)
    assert kstest(maps.flatten().numpy(), "uniform").pvalue > 1e-3
    assert torch.equal(RandomCAM()(tiny_net, images[2:4], targets[2:4]), maps[2:4])
    assert not torch.equal(RandomCAM(seed=1)(tiny_net, images, targets), maps)
    # another image, another map: a masked image is not recognised
    other = RandomCAM()(tiny_net, images * maps, targets)
    correlation = torch.corrcoef(torch.stack([maps.flatten(), other.flatten()]))[0, 1]
    assert correlation.abs() < 0.1


def test_half_map(tiny_net, images, targets):
    maps = HalfCAM()(tiny_net, images, targets)
    values, counts = maps[0].unique(return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    assert counts.tolist() == [1, 24 * 32 - 2, 1]


def test_all_ones_map(tiny_net, images, targets):
    maps = All1sCAM()(tiny_net, images, targets)
    values, counts = maps[0].unique(return_counts=True)
    assert values.tolist() == [0.0, 1.0]
    assert counts.tolist() == [1, 24 * 32 - 1]
