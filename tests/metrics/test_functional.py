"""Every score against a transcription of its definition, slow and close to the formula."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from scipy.stats import pearsonr

from refinecam.attribution import All1sCAM, GradCAM, HalfCAM, LayerCAM, RandomCAM, RefineCAM
from refinecam.core.errors import InputError
from refinecam.metrics import ROAD, Coherency, MapEvaluation
from refinecam.metrics.functional import (
    adcc,
    arcc,
    average_drop,
    coherency,
    complexity,
    cosine_similarity,
    noisy_linear_imputation,
    road,
)

CAM = RefineCAM(LayerCAM(), layers=["stem", "deep"])
METHODS = {"refined": CAM, "plain": GradCAM("deep"), "random": RandomCAM(), "half": HalfCAM()}


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


@pytest.fixture
def maps(method, tiny_net, images, targets):
    return method(tiny_net, images, targets)


def chance(model, image, target):
    with torch.no_grad():
        logits = model(image[None])[0].double()
    return (logits.exp() / logits.exp().sum())[target].item()


def slow_average_drop(model, image, target, m):
    before, after = chance(model, image, target), chance(model, image * m, target)
    return max(0.0, before - after) / before


def slow_coherency(model, image, target, m, cam):
    again = cam(model, (image * m)[None], target[None])[0]
    return (pearsonr(m.flatten().double(), again.flatten().double()).statistic + 1) / 2


def slow_road(model, image, target, m, percentiles):
    """Without noise; for maps without ties."""
    total, height, width = 0.0, *m.shape[1:]
    order = m.flatten().argsort().tolist()
    for p in percentiles:
        count = round(height * width * p / 100)
        chances = []
        for gone in (order[:count], order[len(order) - count :]):
            missing = torch.zeros(height * width, dtype=torch.bool)
            missing[gone] = True
            filled = NoisyLinearImputer(noise=0)(image.clone(), (~missing).float().view(height, width))
            chances.append(chance(model, filled, target))
        total += chances[0] - chances[1]
    return total / len(percentiles)


def harmonic(*terms):
    return 0.0 if min(terms) <= 0 else len(terms) / sum(1 / term for term in terms)


def test_average_drop(maps, tiny_net, images, targets):
    expected = [slow_average_drop(tiny_net, *row) for row in zip(images, targets, maps, strict=True)]
    torch.testing.assert_close(average_drop(tiny_net, images, targets, maps), torch.tensor(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1, 7, 7), (5, 1, 32, 48)])
def test_complexity(shape):
    maps = torch.rand(shape)
    expected = [sum(abs(v) for v in m.flatten().tolist()) / m.numel() for m in maps]
    torch.testing.assert_close(complexity(maps), torch.tensor(expected))


def test_coherency_of_images_that_are_masked_before_normalization(tiny_net, images, targets):
    method = LayerCAM("stem")
    maps = method(tiny_net, images, targets)
    mean, std = torch.tensor([0.4, 0.5, 0.6])[:, None, None], torch.tensor([0.2, 0.3, 0.1])[:, None, None]
    masked = ((images * std + mean) * maps - mean) / std
    again = method(tiny_net, masked, targets)
    expected = [(pearsonr(m.flatten(), a.flatten())[0] + 1) / 2 for m, a in zip(maps, again, strict=True)]
    evaluation = MapEvaluation(tiny_net, images, targets, maps, method, black=-mean / std)
    score = Coherency(masking="before")
    np.testing.assert_allclose(score.per_image(evaluation).numpy(), expected, atol=1e-5)
    default = Coherency().per_image(evaluation)
    assert (score.per_image(evaluation) - default).abs().max() > 1e-3
    gray = MapEvaluation(tiny_net, images, targets, maps, method, black=torch.zeros(3, 1, 1))
    assert torch.equal(score.per_image(gray), default)
    with pytest.raises(InputError, match="black: masking before normalization needs"):
        score.score(MapEvaluation(tiny_net, images, targets, maps, method))


def test_coherency_by_the_rule_of_the_papers_code(tiny_net, images, targets):
    refined = CAM
    maps = refined(tiny_net, images, targets)
    whole = LayerCAM().maps(tiny_net, images, targets, ["stem", "deep"])
    first = LayerCAM("stem")(tiny_net, images * maps, targets)
    again = torch.stack([first, *whole[1:]]).prod(0)
    expected = [(pearsonr(m.flatten(), a.flatten())[0] + 1) / 2 for m, a in zip(maps, again, strict=True)]
    evaluation = MapEvaluation(tiny_net, images, targets, maps, refined)
    found = Coherency(recomputed="first").per_image(evaluation)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert (found - Coherency().per_image(evaluation)).abs().max() > 1e-3
    plain = MapEvaluation(tiny_net, images, targets, whole[0], LayerCAM("stem"))  # has nothing but a first factor
    assert torch.equal(Coherency(recomputed="first").score(plain), Coherency().score(plain))


def test_coherency(maps, method, tiny_net, images, targets):
    expected = [slow_coherency(tiny_net, *row, method) for row in zip(images, targets, maps, strict=True)]
    found = coherency(tiny_net, images, targets, maps, method)
    torch.testing.assert_close(found, torch.tensor(expected).float(), atol=1e-5, rtol=0)


def test_adcc(maps, method, tiny_net, images, targets):
    expected = [
        harmonic(
            slow_coherency(tiny_net, *row, method),
            1 - row[2].mean().item(),
            1 - slow_average_drop(tiny_net, *row),
        )
        for row in zip(images, targets, maps, strict=True)
    ]
    found = adcc(tiny_net, images, targets, maps, method)
    torch.testing.assert_close(found, torch.tensor(expected).float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("percentiles", [(20, 40, 60, 80), (50,)])
def test_road(percentiles, tiny_net, images, targets):
    maps = RandomCAM()(tiny_net, images, targets)
    rows = zip(images, targets, maps, strict=True)
    expected = torch.tensor([slow_road(tiny_net, *row, percentiles) for row in rows])
    found = road(tiny_net, images, targets, maps, percentiles, noise=0)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert expected.abs().max() > 1e-3  # the network does react


def test_arcc(maps, method, tiny_net, images, targets):
    by_parts = zip(
        coherency(tiny_net, images, targets, maps, method).tolist(),
        complexity(maps).tolist(),
        road(tiny_net, images, targets, maps).tolist(),
        strict=True,
    )
    expected = [harmonic(c, 1 - k, min(1, max(0, r))) for c, k, r in by_parts]
    found = arcc(tiny_net, images, targets, maps, method)
    torch.testing.assert_close(found, torch.tensor(expected).float(), atol=1e-5, rtol=0)


def test_cosine_similarity():
    maps, masks = torch.rand(4, 1, 9, 5), (torch.rand(4, 1, 9, 5) > 0.5).float()
    a, b = maps.flatten(1).double().numpy(), masks.flatten(1).double().numpy()
    expected = [(x @ y) / (np.sqrt(x @ x) * np.sqrt(y @ y)) for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(cosine_similarity(maps, masks), torch.tensor(expected).float())
    torch.testing.assert_close(cosine_similarity(masks, masks), torch.ones(4))
    assert cosine_similarity(maps, torch.zeros_like(masks)).isnan().all()


def test_road_removes_exact_shares_of_maps_full_of_ties(tiny_net, images, targets):
    """All ties go in a random order, so a map that says nothing scores about 0, whatever its level."""
    copies = images[:1].expand(200, -1, -1, -1)
    chosen = targets[:1].expand(200)
    for cam in (HalfCAM(), All1sCAM()):
        maps = cam(tiny_net, copies, chosen)
        scores = road(tiny_net, copies, chosen, maps, index=range(200))
        assert len(scores.unique()) > 100  # another order for every index
        assert scores.mean().abs() < 4 * scores.std() / 200**0.5 + 1e-4


def test_road_is_seeded_by_index(tiny_net, images, targets):
    maps = HalfCAM()(tiny_net, images, targets)
    first = road(tiny_net, images, targets, maps, index=torch.tensor([4, 8, 15, 16, 23]))
    assert torch.equal(first, road(tiny_net, images, targets, maps, index=[4, 8, 15, 16, 23]))
    assert not torch.equal(first, road(tiny_net, images, targets, maps, index=[5, 8, 15, 16, 23]))
    assert not torch.equal(first, road(tiny_net, images, targets, maps, index=[4, 8, 15, 16, 23], seed=1))


@pytest.mark.parametrize("size", [1, 3])
def test_batch_equals_its_images(size, maps, method, tiny_net, images, targets):
    masks = (images[:, :1] > 0).float()

    def scores(rows):
        chosen = tiny_net, images[rows], targets[rows], maps[rows]
        return torch.stack(
            [
                average_drop(*chosen),
                complexity(maps[rows]),
                coherency(*chosen, method),
                adcc(*chosen, method),
                road(*chosen),
                arcc(*chosen, method),
                cosine_similarity(maps[rows], masks[rows]),
            ]
        )

    parts = [scores(slice(i, i + size)) for i in range(0, 5, size)]
    torch.testing.assert_close(torch.cat(parts, 1), scores(slice(None)), atol=1e-5, rtol=0)


def test_order_and_companions_do_not_matter(tiny_net, images, targets):
    """An image keeps its score wherever it stands, also for maps whose equal pixels go in a drawn order."""
    order, index = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([40, 8, 15, 16, 23])
    for cam in (HalfCAM(), CAM):
        maps = cam(tiny_net, images, targets)
        expected = arcc(tiny_net, images, targets, maps, cam, index=index)
        found = arcc(tiny_net, images[order], targets[order], maps[order], cam, index=index[order])
        torch.testing.assert_close(found, expected[order], atol=1e-5, rtol=0)


def test_model_and_global_generators_are_left_alone(tiny_net, images, targets):
    tiny_net.train()
    state = torch.random.get_rng_state()
    before = {k: v.clone() for k, v in tiny_net.state_dict().items()}
    arcc(tiny_net, images, targets, CAM(tiny_net, images, targets), CAM)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(module.training for module in tiny_net.modules())
    assert all(torch.equal(v, before[k]) for k, v in tiny_net.state_dict().items())
    assert all(p.grad is None for p in tiny_net.parameters())


class TestImputation:
    def test_equals_grad_cam_without_noise(self, images):
        missing = torch.rand(5, 1, 24, 32) < 0.5
        expected = torch.stack(
            [NoisyLinearImputer(noise=0)(x.clone(), (~m[0]).float()) for x, m in zip(images, missing, strict=True)]
        )
        found = noisy_linear_imputation(images, missing, noise=0)
        torch.testing.assert_close(found, expected.float(), atol=1e-4, rtol=0)

    def test_noise_is_on_missing_pixels_only(self, images):
        missing = torch.rand(5, 1, 24, 32) < 0.5
        noise = noisy_linear_imputation(images, missing) - noisy_linear_imputation(images, missing, noise=0)
        on, off = noise[missing.expand_as(noise)], noise[~missing.expand_as(noise)]
        assert off.abs().max() == 0
        assert on.std().item() == pytest.approx(0.01, rel=0.05)
        assert abs(on.mean().item()) < 0.0005


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (torch.zeros(5, 24, 32), r"maps: expected a float tensor \(N, 1, H, W\)"),
        (torch.zeros(5, 1, 24, 32, dtype=torch.int64), "maps: expected a float tensor"),
        (torch.zeros(5, 1, 24, 31), "maps: expected one map a pixel"),
        (torch.full((5, 1, 24, 32), 1.5), r"maps: expected values in \[0, 1\], got 1.5"),
        (torch.full((5, 1, 24, 32), -0.1), r"maps: expected values in \[0, 1\], got -0.1"),
    ],
)
def test_bad_maps(maps, message, tiny_net, images, targets):
    for f in (average_drop, road):
        with pytest.raises(ValueError, match=message):
            f(tiny_net, images, targets, maps)


def test_other_bad_input(tiny_net, images, targets):
    maps = torch.rand(5, 1, 24, 32)
    with pytest.raises(
        ValueError, match=r"evaluation: ROAD scores one MapEvaluation\(.*got Tensor; tensors go to the function road"
    ):
        ROAD().update(torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match="targets: expected an int64 tensor"):
        road(tiny_net, images, targets[:3], maps)
    with pytest.raises(ValueError, match="targets: class 6 is not one of the model's 6 classes"):
        road(tiny_net, images, targets + 1, maps)
    with pytest.raises(ValueError, match="index: expected a whole number, at least 0, or a name for each of 5"):
        road(tiny_net, images, targets, maps, index=[1, 2])
    with pytest.raises(ValueError, match="seed: expected a whole number, at least 0, got -1"):
        road(tiny_net, images, targets, maps, seed=-1)
    with pytest.raises(ValueError, match="percentiles: expected numbers"):
        road(tiny_net, images, targets, maps, percentiles=(0, 50))
    for noise in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="noise: expected a number from 0 on"):
            road(tiny_net, images, targets, maps, noise=noise)
        with pytest.raises(ValueError, match="noise: expected a number from 0 on"):
            noisy_linear_imputation(images, images[:, :1] > 0, noise=noise)
    with pytest.raises(ValueError, match="masks: expected the maps' shape"):
        cosine_similarity(maps, maps[:2])
    with pytest.raises(ValueError, match="masks: expected values 0 and 1"):
        cosine_similarity(maps, maps)
