import numpy as np
import pytest

from refinecam.data.backgrounds import Backgrounds, impute_regions, perlin
from refinecam.data.scenes import crowd_scene
from refinecam.seeding import generator


def test_scenes_are_deterministic_and_busy():
    first, again, other = (crowd_scene(generator(0, "scene", i)) for i in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (256, 256, 3)
    edges = np.abs(np.diff(first.astype(int), axis=1)).sum(2) > 30
    assert edges.mean() > 0.1  # hundreds of figures leave edges everywhere


def test_perlin_regions_cover_their_share_in_few_pieces():
    image = crowd_scene(generator(0, "scene", 0), 128)
    for version in impute_regions(image, generator(0, "regions", 0), 4):
        changed = (version != image).any(2).mean()
        assert 0.15 < changed < 0.72  # flat patches stay as they are


def test_perlin_noise_is_smooth_and_seeded():
    noise = perlin(generator(0, "p", 0), (64, 64))
    assert np.array_equal(noise, perlin(generator(0, "p", 0), (64, 64)))
    assert np.abs(np.diff(noise, axis=0)).max() < 0.2
    assert noise.std() > 0.1


def test_share_of_imputed_views():
    picture = np.zeros((40, 40, 3), np.uint8)
    bank = Backgrounds([picture], 40, imputed=0.5)
    bank.versions = [[np.full((40, 40, 3), 255, np.uint8)]]
    seen = [bank.view(generator(0, "view", i)).mean() > 127 for i in range(400)]
    assert 0.4 < np.mean(seen) < 0.6


def test_any_picture_size_fills_the_canvas():
    bank = Backgrounds([np.zeros((30, 90, 3), np.uint8), np.zeros((500, 200, 3), np.uint8)], 64)
    for index in range(10):
        assert bank.view(generator(0, "view", index)).shape == (64, 64, 3)
        assert bank.view(generator(0, "view", index), 20).shape == (20, 20, 3)


def test_bad_share():
    with pytest.raises(ValueError, match="imputed: expected a share"):
        Backgrounds([], 64, imputed=1.5)
