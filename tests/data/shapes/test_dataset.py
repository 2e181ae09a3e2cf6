import cv2
import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency
from torch.utils.data import DataLoader

from refinecam.core.seeding import generator
from refinecam.data import JointTransform, ShapesDataset
from refinecam.data.shapes.backgrounds import Backgrounds
from refinecam.data.shapes.dataset import CONTROLS
from refinecam.data.shapes.drawing import BANDS, REACH
from refinecam.data.shapes.scenes import crowd_scene
from tests.conftest import BACKBONES


@pytest.fixture(scope="module")
def pictures():
    return [crowd_scene(generator(0, "test", i)) for i in range(3)]


@pytest.fixture(scope="module")
def dataset(pictures):
    transform = JointTransform(64, 73)
    return ShapesDataset([Backgrounds(pictures, 73)], transform, "train", 60)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_mask_is_what_was_painted_in_every_backbones_image(backbone, pictures):
    transform = JointTransform.for_backbone(backbone)
    dataset = ShapesDataset([Backgrounds(pictures, transform.canvas)], transform, "test", 12)
    for index in range(12):
        sample, drawing = dataset[index], dataset.draw(index)
        mask = sample["mask"].bool()
        assert mask.shape == (1, transform.image_size, transform.image_size)
        colors = transform.denormalize(sample["image"]) * 255
        painted = colors[:, mask[0]].round().int()
        assert (painted == torch.tensor(drawing.color)[:, None]).all()
        # and outside the mask nothing was painted
        untouched = drawing.mask[..., 0] == 0
        assert np.array_equal(drawing.image[untouched], drawing.background[untouched])
        # no pixel of the shape is lost to the crop
        assert mask.sum() == drawing.mask.sum()


def test_label_is_independent_of_every_other_factor(dataset):
    drawings = [dataset.draw(index) for index in range(3000)]
    labels = np.array([d.label for d in drawings])
    assert np.bincount(labels).tolist() == [500] * 6
    backgrounds = np.array([d.background[::8, ::8].mean() for d in drawings])
    factors = {
        **{f"color {c}": np.array([d.color[i] for d in drawings]) for i, c in enumerate("rgb")},
        "color mod 8": np.array([d.color[0] % 8 for d in drawings]),
        "size": np.array([d.size for d in drawings]),
        "band": np.array([d.band for d in drawings]),
        "x": np.array([d.center[0] for d in drawings]),
        "y": np.array([d.center[1] for d in drawings]),
        "rotation": np.array([d.rotation for d in drawings]),
        "wall": np.array([d.wall / d.size for d in drawings]),
        "ratio": np.array([d.ratio for d in drawings]),
        "corner": np.array([d.corner / d.size for d in drawings]),
        "background": backgrounds,
    }
    for name, values in factors.items():
        edges = np.unique(np.quantile(values, np.linspace(0, 1, 7)[1:-1]))
        table = np.zeros((6, len(edges) + 1))
        np.add.at(table, (labels, np.searchsorted(edges, values, side="right")), 1)
        table = table[:, table.sum(0) > 0]
        assert chi2_contingency(table).pvalue > 1e-3, name
    # place does not depend on size either
    table = np.zeros((3, 4))
    x = factors["x"]
    np.add.at(table, (factors["band"], np.searchsorted(np.quantile(x, (0.25, 0.5, 0.75)), x)), 1)
    assert chi2_contingency(table).pvalue > 1e-3


def test_clutter_alone_does_not_find_the_shape():
    """Neither the busiest nor the calmest region is where the shape is."""
    pictures = [crowd_scene(generator(0, "clutter", i)) for i in range(8)]
    dataset = ShapesDataset([Backgrounds(pictures, 236)], JointTransform(224, 236), "train", 300)
    hits = []
    for index in range(300):
        drawing = dataset.draw(index)
        edges = np.abs(np.diff(drawing.image.astype(int), axis=1)).sum(2)[:, 6:-6] > 40
        density = cv2.blur(edges.astype(np.float32), (25, 25))
        places = [np.unravel_index(f(density), density.shape) for f in (np.argmax, np.argmin)]
        x, y = drawing.center
        hits.append([np.hypot(px + 6 - x, py - y) < drawing.size / 2 for py, px in places])
    assert (np.mean(hits, 0) < 0.25).all()


def test_a_shape_can_be_seen():
    """Its color differs from most of what it covers, even before a background of a few flat colors."""
    flat = np.full((256, 256, 3), 128, np.uint8)
    flat[:, ::2] = 90
    dataset = ShapesDataset([Backgrounds([flat], 236)], JointTransform(224, 236), "train", 400)
    drawings = [dataset.draw(i) for i in range(400)]
    hidden = [(np.abs(d.background[d.mask[..., 0] == 1].astype(int) - d.color) < 48).all(1).mean() for d in drawings]
    assert max(hidden) <= 0.25
    # and no more is asked than that: colors near those of the background are still drawn where one channel differs
    assert min(np.abs(np.array(d.color) - 128).min() for d in drawings) < 5


def test_sample_is_the_same_for_any_worker_count(dataset):
    alone = list(DataLoader(dataset, 7, num_workers=0))
    shared = list(DataLoader(dataset, 7, num_workers=2))
    for a, b in zip(alone, shared, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_drawing_leaves_the_global_generators_alone(dataset):
    torch.manual_seed(0)
    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    dataset[0]
    assert torch.equal(state, torch.random.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])


def test_splits_and_seeds_differ(pictures):
    transform = JointTransform(64, 73)
    bank = Backgrounds(pictures, 73)
    draws = {
        (split, seed): ShapesDataset([bank], transform, split, 6, seed).draw(0).color
        for split in ("train", "val", "test")
        for seed in (0, 1)
    }
    assert len(set(draws.values())) == 6


def test_offset_continues_the_same_endless_data_set(pictures):
    transform, bank = JointTransform(64, 73), Backgrounds(pictures, 73)
    whole = ShapesDataset([bank], transform, "train", 12)
    second = ShapesDataset([bank], transform, "train", 6, offset=6)
    assert torch.equal(whole[8]["image"], second[2]["image"])
    assert second[2]["index"] == 8


@pytest.mark.parametrize("fill", [False, True])
def test_crops_hold_the_whole_shape(pictures, fill):
    transform, bank = JointTransform(224, 256), Backgrounds(pictures, 256)
    crops = ShapesDataset([bank], transform, "train", 60, crop=48, fill=fill)
    for index in range(60):
        drawing = crops.draw(index)
        assert drawing.image.shape == (48, 48, 3)
        mask = drawing.mask[..., 0]
        assert mask[[0, -1]].sum() + mask[:, [0, -1]].sum() == 0  # nothing is cut off
        assert mask.any()
        assert 2 * REACH * drawing.size <= 0.9 * 48 + 1e-9
        if fill:
            assert 2 * REACH * drawing.size >= 24


def test_bad_input(pictures):
    bank = Backgrounds(pictures, 73)
    with pytest.raises(
        ValueError, match="bands: shapes of 256 px, on a canvas of 256 px, reach over 107 px of images of 64 px"
    ):
        ShapesDataset([bank], JointTransform(64, 73), "train", 6, bands=((200, 256),))
    with pytest.raises(ValueError, match="crop: expected 1 to 73 pixels"):
        ShapesDataset([bank], JointTransform(64, 73), "train", 6, crop=100)
    with pytest.raises(ValueError, match="style: paper has the paper's own sizes"):
        ShapesDataset([bank], JointTransform(64, 73), "train", 6, style="paper", crop=32)
    with pytest.raises(IndexError, match="index 6 is outside"):
        ShapesDataset([bank], JointTransform(64, 73), "train", 6)[6]


def test_controls_change_the_shape_or_its_background_and_nothing_else(pictures):
    transform, bank = JointTransform(64, 73), Backgrounds(pictures, 73)
    plain = ShapesDataset([bank], transform, "test", 12)
    dataset = ShapesDataset([bank], transform, "test", 12, controls=True)
    for index in range(12):
        sample, drawing = dataset[index], dataset.draw(index)
        assert torch.equal(sample["image"], plain[index]["image"])
        shape = sample["mask"].bool().expand_as(sample["image"])
        images = sample["controls"]
        assert list(images) == list(CONTROLS)
        removed, other, gray = images.values()
        assert torch.equal(removed, transform(drawing.background, drawing.mask)["image"])
        for image in (other, gray):
            assert torch.equal(image[shape], sample["image"][shape])
            assert (image[~shape] != sample["image"][~shape]).float().mean() > 0.9
        assert (transform.denormalize(gray)[~shape] * 255).round().unique().tolist() == [128]
        factors = {name: tuple(values.tolist()) for name, values in sample["factors"].items()}
        assert factors["color"] == drawing.color
        assert factors["position"] == pytest.approx(drawing.center)
        assert factors["size"] == pytest.approx((drawing.size,))


@pytest.mark.parametrize("named", [1, 2])
def test_the_other_background_is_another_picture(named):
    flat = [np.full((73, 73, 3), gray, np.uint8) for gray in (60, 190)]
    bank = Backgrounds(flat, 73, imputed=0)
    bank.view = lambda rng, size, pick: flat[pick]  # without its jitter
    transform = JointTransform(64, 73)
    dataset = ShapesDataset([bank] * named, transform, "test", 20, controls=True)
    for index in range(20):
        other = transform.denormalize(dataset[index]["controls"]["other background"]) * 255
        shown = int(dataset.draw(index).background[0, 0, 0])
        assert other[0, 0, 0].round() == {60: 190, 190: 60}[shown]
    with pytest.raises(ValueError, match="controls: another background needs at least 2 pictures in the test split"):
        ShapesDataset([Backgrounds(flat[:1], 73, imputed=0)] * named, transform, "test", 20, controls=True)


def test_banks_give_as_many_samples_as_each_other(pictures):
    flat = [np.full((73, 73, 3), 128, np.uint8)]
    banks = [Backgrounds(p, 73, imputed=0) for p in (pictures, flat)]
    dataset = ShapesDataset(banks, JointTransform(64, 73), "train", 300)
    from_flat = sum(dataset.draw(index).background.std((0, 1)).max() < 1 for index in range(300))
    assert abs(from_flat - 150) < 40


def test_paper_style_follows_the_papers_code(pictures):
    """Sizes, positions and colors as FACTS of the public code, on a canvas of 256 px; the label independent of all."""
    bank, transform = Backgrounds(pictures, 256), JointTransform(224, 236)
    dataset = ShapesDataset([bank], transform, "test", 1200, style="paper")
    drawings = [dataset.draw(index) for index in range(1200)]
    places = [(80, 176), (80, 156), (40, 206)]
    for band, ((low, high), (first, end)) in enumerate(zip(BANDS, places, strict=True)):
        own = [d for d in drawings if d.band == band]
        assert {d.size for d in own} == set(range(low, high))
        assert all(d.wall == d.size // 5 for d in own)
        centers = {value for d in own for value in d.center}
        assert min(centers) == first
        assert max(centers) == end - 1
    assert np.bincount([d.label for d in drawings]).tolist() == [200] * 6
    values = np.array([d.color for d in drawings])
    assert values.min() == 0
    assert values.max() == 255
    sample, drawing = dataset[5], drawings[5]
    assert drawing.image.shape == (256, 256, 3)
    assert sample["image"].shape == (3, 224, 224)
    expected = transform(drawing.image, drawing.mask)
    assert torch.equal(sample["mask"], expected["mask"])
