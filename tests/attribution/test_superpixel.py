from functools import partial

import captum.attr
import numpy as np
import pytest
import torch
from captum._utils.models.linear_model import SkLearnLasso
from skimage.segmentation import slic

from refinecam.attribution import LIME, KernelSHAP, parse_methods
from refinecam.attribution.method import normalize
from refinecam.attribution.superpixel import superpixels
from refinecam.core.seeding import content_keys, generator


@pytest.fixture
def pictures():
    """Four flat quarters, so that the superpixels are known."""
    values = torch.tensor([[[-1.0, 1.0], [2.0, -2.0]], [[1.5, -1.0], [0.0, 2.0]]])
    return values[:, None].repeat_interleave(12, 2).repeat_interleave(16, 3).expand(2, 3, 24, 32).contiguous()


def blocks(height, width):
    """An image of flat squares, 8 px wide."""
    values = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(3))
    return values.repeat_interleave(8, 2).repeat_interleave(8, 3) * 4 - 2


class Linear(torch.nn.Module):
    """Class score = weighted sum of the image, so that its Shapley values are known."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(6, 3, 24, 32, generator=torch.Generator().manual_seed(0)) / 50)

    def forward(self, x):
        return torch.einsum("nchw,kchw->nk", x, self.weight)


def test_superpixels_equal_skimage():
    image = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))
    index = superpixels(image * 4 - 2, 20)
    assert index.shape == (40, 60)
    assert index.unique().tolist() == list(range(int(index.max()) + 1))
    picture = normalize(image[None])[0].permute(1, 2, 0).double().numpy()
    expected = slic(picture, n_segments=20, compactness=10, sigma=1, start_label=0)
    for region in np.unique(expected):  # the same regions, whatever their numbers
        assert len(index[torch.from_numpy(expected == region)].unique()) == 1


def test_kernel_shap_finds_the_shapley_values_of_a_linear_model(pictures):
    model, target = Linear(), torch.tensor([1, 4])
    found = KernelSHAP(samples=200, segments=4)(model, pictures, target)
    for i in range(2):
        index = superpixels(pictures[i], 4)
        parts = (pictures[i] * model.weight[target[i]]).sum(0).detach()
        exact = torch.stack([parts[index == k].sum() for k in range(int(index.max()) + 1)])
        torch.testing.assert_close(found[i, 0], normalize(exact[index].abs()[None, None])[0, 0], atol=1e-3, rtol=0)


def test_lime_ranks_the_parts_of_a_linear_model(pictures):
    model, target = Linear(), torch.tensor([1, 4])
    found = LIME(samples=300, segments=4)(model, pictures, target)
    for i in range(2):
        index = superpixels(pictures[i], 4)
        parts = (pictures[i] * model.weight[target[i]]).sum(0).detach()
        exact = torch.stack([parts[index == k].sum().abs() for k in range(int(index.max()) + 1)])
        assert found[i, 0][index == exact.argmax()].min() == 1


@pytest.mark.parametrize("method", [partial(LIME, alpha=1e-5), KernelSHAP])
def test_chunk_does_not_change_the_map(method, tiny_net, images, targets):
    expected = method(samples=30, segments=6)(tiny_net, images, targets)
    torch.testing.assert_close(
        method(samples=30, segments=6, chunk=1)(tiny_net, images, targets), expected, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("method", [partial(LIME, alpha=1e-5), KernelSHAP])
def test_seeded_and_without_a_trace_in_the_global_state(method, tiny_net, images, targets):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = method(samples=30, segments=6)(tiny_net, images, targets)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(method(samples=30, segments=6)(tiny_net, images, targets), first)
    assert not torch.equal(method(samples=30, segments=6, seed=1)(tiny_net, images, targets), first)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("method", "peer"), [(LIME, captum.attr.Lime), (KernelSHAP, captum.attr.KernelShap)], ids=["LIME", "KernelSHAP"]
)
def test_equals_captum_one_by_one(method, peer, backbones):
    """With the same superpixels and draws, and a logit that is not linear in them."""
    network, target = backbones["resnet18"], torch.tensor([2])
    image = blocks(64, 64)
    options = {"alpha": 1e-4} if method is LIME else {}
    found = method(samples=60, segments=40, **options)(network, image, target)
    (key,) = content_keys(image)
    torch.manual_seed(int(generator(0, method.__name__, key).integers(2**31)))
    model = {"interpretable_model": SkLearnLasso(alpha=1e-4)} if method is LIME else {}
    mask = superpixels(image[0], 40)[None, None]
    assert mask.max() > 2
    values = peer(network, **model).attribute(image, target=2, feature_mask=mask, n_samples=60)
    torch.testing.assert_close(found, normalize(values[:, :1].abs()), atol=1e-4, rtol=0)


def test_an_image_of_one_superpixel_has_no_contrast(tiny_net, targets):
    image = blocks(24, 32).expand(5, -1, -1, -1)
    for method in (LIME(samples=9, segments=1), KernelSHAP(samples=9, segments=1)):
        assert method(tiny_net, image, targets).abs().max() == 0


def test_a_logit_that_is_not_finite_spoils_only_its_own_map(tiny_net, images, targets):
    expected = KernelSHAP(samples=30, segments=6)(tiny_net, images, targets)

    class Overflowing(torch.nn.Module):
        def forward(self, x):
            logits = tiny_net(x)
            full = (x[:, 0, 0, 0] == images[1, 0, 0, 0])[:, None]  # the second image with its first superpixel
            return torch.where(full, logits * torch.inf, logits)

    found = KernelSHAP(samples=30, segments=6)(Overflowing(), images, targets)
    rest = [0, 2, 3, 4]
    torch.testing.assert_close(found[rest], expected[rest])
    assert found[1].isnan().all()


def test_defaults_preset_and_names():
    assert (LIME().samples, LIME().segments) == (None, 100)
    assert KernelSHAP(preset="paper").samples == 25
    default, paper = parse_methods("LIME, LIME(preset='paper')")
    assert (default.name, paper.name) == ("LIME", "LIME(samples=25)")


def test_ten_samples_a_superpixel(tiny_net):
    image, target = blocks(24, 32), torch.tensor([1])
    found = int(superpixels(image[0], 6).max()) + 1
    sizes = []
    handle = tiny_net.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    KernelSHAP(segments=6)(tiny_net, image, target)
    handle.remove()
    assert sum(sizes) >= 10 * max(6, found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples: expected a whole number, at least 1, got 0"),
        ({"segments": 0}, "segments: expected a whole number"),
        ({"alpha": -1}, "alpha: expected a number from 0 on, got -1"),
        ({"chunk": 0}, "chunk: expected a whole number"),
        ({"preset": "thesis"}, "preset: expected one of paper, None, got 'thesis'"),
        ({"preset": "paper", "samples": 9}, "samples: the preset 'paper' has its own"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        LIME(**options)
