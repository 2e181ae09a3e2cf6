import pytest
import torch
from scipy.stats import kstest

from refinecam.attribution import LIME, All1sCAM, HalfCAM, KernelSHAP, RandomCAM


@pytest.mark.parametrize("method", [RandomCAM, LIME, KernelSHAP])
@pytest.mark.parametrize("seed", [-1, 1.5, "x"])
def test_what_is_no_seed(method, seed):
    with pytest.raises(ValueError, match="seed: expected a whole number, at least 0, got"):
        method(seed=seed)


def test_random_map_is_uniform_and_belongs_to_its_image(tiny_net, images, targets):
    maps = RandomCAM()(tiny_net, images, targets)
    assert kstest(maps.flatten().numpy(), "uniform").pvalue > 1e-3
    assert torch.equal(RandomCAM()(tiny_net, images[2:4], targets[2:4]), maps[2:4])
    assert not torch.equal(RandomCAM(seed=1)(tiny_net, images, targets), maps)
    # another image, another map: a masked image is not recognized
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


@pytest.mark.parametrize("method", [RandomCAM(), HalfCAM(), All1sCAM()], ids=repr)
def test_the_model_is_not_even_asked(method, tiny_net, images, targets):
    tiny_net.train()
    tiny_net.forward = None
    state = torch.get_rng_state()
    assert method(tiny_net, images, targets).shape == (5, 1, 24, 32)
    assert method(tiny_net, images[:0], targets[:0]).shape == (0, 1, 24, 32)
    with torch.inference_mode():
        method(tiny_net, images, targets)
    assert torch.equal(state, torch.get_rng_state())
    assert all(module.training for module in tiny_net.modules())
    with pytest.raises(ValueError, match="targets: expected an int64 tensor"):
        method(tiny_net, images, targets.float())
