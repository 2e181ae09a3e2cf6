import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from refinecam.core.seeding import generator
from refinecam.data.shapes import backgrounds
from refinecam.data.shapes.backgrounds import Backgrounds, impute_regions, perlin, turn_and_zoom
from refinecam.data.shapes.scenes import CrowdScenes, crowd_scene


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


def test_pictures_prepared_by_several_processes_are_the_same(monkeypatch):
    scenes, processes = CrowdScenes(5, 0, "train"), []
    monkeypatch.setattr(backgrounds, "PICTURES_A_PROCESS", 2)
    monkeypatch.setattr(
        backgrounds,
        "DataLoader",
        lambda *args, **options: processes.append(options["num_workers"]) or DataLoader(*args, **options),
    )
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = Backgrounds(scenes, 64)
        torch.set_num_threads(2)
        state = torch.get_rng_state()
        together = Backgrounds(scenes, 64)
    finally:
        torch.set_num_threads(threads)
    assert processes == [0, 2]
    assert torch.equal(state, torch.get_rng_state())
    for i in range(5):
        scene = crowd_scene(generator(0, "train/scene", i))
        assert np.array_equal(alone.pictures[i], cv2.resize(scene, (64, 64), interpolation=cv2.INTER_AREA))
    assert np.array_equal(together.pictures, alone.pictures)
    assert np.array_equal(together.versions, alone.versions)


def test_any_picture_size_fills_the_canvas():
    bank = Backgrounds([np.zeros((30, 90, 3), np.uint8), np.zeros((500, 200, 3), np.uint8)], 64)
    for index in range(10):
        assert bank.view(generator(0, "view", index)).shape == (64, 64, 3)
        assert bank.view(generator(0, "view", index), 20).shape == (20, 20, 3)


def test_bad_share():
    with pytest.raises(ValueError, match="imputed: expected a share"):
        Backgrounds([], 64, imputed=1.5)


def test_augmented_views_have_the_same_size_and_other_colors_and_are_seeded():
    picture = np.zeros((80, 120, 3), np.uint8)
    picture[..., 0] = 200  # all red
    bank = Backgrounds([picture], 64, imputed=0, augment=True)
    plain = Backgrounds([picture], 64, imputed=0)
    views = [bank.view(generator(0, "view", i), 40) for i in range(60)]
    assert all(view.shape == (40, 40, 3) and view.dtype == np.uint8 for view in views)
    assert np.array_equal(views[3], bank.view(generator(0, "view", 3), 40))
    strongest = [int(view.mean((0, 1)).argmax()) for view in views]
    assert {0, 1, 2} == set(strongest)
    assert {int(plain.view(generator(0, "view", i), 40).mean((0, 1)).argmax()) for i in range(60)} == {0}


def test_turned_views_keep_the_picture_and_mirror_it_at_its_borders():
    rng = np.random.default_rng(0)
    picture = np.repeat(np.arange(90, dtype=np.uint8)[:, None, None], 90, 1).repeat(3, 2)
    views = [turn_and_zoom(picture, 50, rng) for _ in range(40)]
    assert all(view.shape == (50, 50, 3) for view in views)
    assert max(view.max() for view in views) <= 89  # nothing is invented
    slopes = [np.hypot(*np.gradient(view[..., 0].astype(float))).mean() for view in views]
    assert 0.5 < min(slopes) < 0.8  # zoomed in to 1.6 times the size
    assert 1.1 < max(slopes) < 1.6  # and out to 0.7 times
