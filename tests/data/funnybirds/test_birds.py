"""The renderer of our birds and the data sets that it writes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refinecam.core.errors import InputError
from refinecam.data import FunnyBirdsDataModule
from refinecam.data.funnybirds import writer
from refinecam.data.funnybirds.anatomy import VARIANTS
from refinecam.data.funnybirds.parts import BODY_COLOR, EMPTY_COLOR, PART_COLORS, PARTS, SUBSETS, object_color
from refinecam.data.funnybirds.render import CODES, FINER, GONE, LISTED, Scene
from refinecam.data.funnybirds.solids import KINDS, Camera, Solid
from refinecam.data.funnybirds.writer import draw_classes, draw_entry, write_birds

ROOT = Path(__file__).parents[3]
INSIDE = {
    "sphere": lambda p: (p**2).sum(0) <= 1,
    "cylinder": lambda p: (p[0] ** 2 + p[2] ** 2 <= 1) & (abs(p[1]) <= 1),
    "cone": lambda p: (p[0] ** 2 + p[2] ** 2 <= ((1 - p[1]) / 2) ** 2) & (abs(p[1]) <= 1),
    "box": lambda p: (abs(p) <= 1).all(0),
    "octahedron": lambda p: abs(p).sum(0) <= 1,
}


def entries(count, split="test", classes=6):
    birds = draw_classes(classes, 0)
    return [draw_entry(birds[i % classes], split, i, 3) for i in range(count)]


def shown(scene):
    return scene.finish(scene.draw())


def map_of(scene):
    return scene.part_map(scene.draw())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_rays_meet_a_solid_where_its_inside_begins(kind, seed):
    """Against small steps along each ray, and the normal against the distances of the neighboring rays."""
    rng = np.random.default_rng(seed)
    camera = Camera(rng.normal(size=3) * 60, 40)
    frame = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(8, 25, 3)
    solid = Solid(kind, rng.normal(size=3).astype(np.float32) * 4, frame.astype(np.float32), (0, 0, 0))
    everywhere = slice(0, 40), slice(0, 40)
    hit = camera.see(solid, *everywhere)
    origin, rays = camera.rays(*everywhere, np.eye(3, dtype=np.float32))
    steps = np.arange(1, 300, 0.1)
    expected = np.full((40, 40), np.inf)
    for row, column in np.ndindex(40, 40):
        points = origin[:, :, 0] + rays[:, row, column, None] * steps
        within = INSIDE[kind](np.linalg.inv(frame) @ (points - solid.center[:, None]))
        if within.any():
            expected[row, column] = steps[within.argmax()]
    agree = np.isfinite(expected) == np.isfinite(hit.distance)
    assert np.isfinite(expected).sum() > 50
    assert agree.mean() > 0.99  # the rest graze the edge, between two steps
    both = np.isfinite(expected) & np.isfinite(hit.distance)
    assert (np.abs(hit.distance - expected)[both] <= 0.11).all()
    rows, columns = camera.window(solid)
    outside = np.ones((40, 40), bool)
    outside[rows, columns] = False
    assert not np.isfinite(hit.distance[outside]).any()
    points = origin + rays * np.where(both, hit.distance, 0)
    normals = hit.normal / np.linalg.norm(hit.normal, axis=0)
    assert ((normals * rays).sum(0)[both] < 1e-3).all()  # it faces the camera
    step = points[:, :, 1:] - points[:, :, :-1]
    flat = both[:, 1:] & both[:, :-1]
    along = np.abs((step * (normals[:, :, 1:] + normals[:, :, :-1])).sum(0)) / np.linalg.norm(step, axis=0) / 2
    assert np.median(along[flat]) < 0.05  # and stands on the surface


def test_part_map_has_no_other_colors_and_lies_over_the_picture():
    known = {BODY_COLOR, EMPTY_COLOR, *sum(PART_COLORS.values(), ())}
    for entry in entries(6):
        scene = Scene(entry, 128)
        part_map, picture = map_of(scene), shown(scene)
        count = entry["bg_objects"].count(",")
        found = {tuple(color) for color in part_map.reshape(-1, 3).tolist()}
        assert found <= known | {object_color(i) for i in range(count)}
        empty = (part_map == EMPTY_COLOR).all(2)
        sky = (picture == (85, 85, 153)).all(2)
        assert (empty | ~sky).all()
        inner = empty[1:-1, 1:-1] & empty[:-2, 1:-1] & empty[2:, 1:-1] & empty[1:-1, :-2] & empty[1:-1, 2:]
        assert sky[1:-1, 1:-1][inner].mean() > 0.99


def test_every_variant_of_every_part_can_be_seen_and_differs_from_the_others():
    entry = entries(1)[0] | {"camera_distance": 250, "camera_pitch": 1.2, "camera_roll": 0.35}
    entry |= {f"bg_{name}": "" for name in LISTED}
    for part in PARTS:
        pictures = []
        for variant in VARIANTS[part]:
            scene = Scene(entry | {f"{part}_{key}": value for key, value in variant.items()}, 96)
            colors = map_of(scene)
            assert sum((colors == color).all(2).sum() for color in PART_COLORS[part]) >= 6, (part, variant)
            pictures.append(shown(scene))
        for i, picture in enumerate(pictures):
            assert all((picture != other).any() for other in pictures[:i]), part


def test_sets_of_parts_are_the_scene_drawn_with_them_alone():
    for entry in entries(2):
        subsets = Scene(entry, 64).subsets()
        assert len(subsets) == SUBSETS
        assert np.array_equal(subsets[-1], shown(Scene(entry, 64)))
        for subset in (0, 5, 22):
            without = {f"{p}_model": GONE for place, p in enumerate(PARTS) if not subset >> place & 1}
            assert np.array_equal(subsets[subset], shown(Scene(entry | without, 64)))


def test_without_an_object_only_its_pixels_change():
    changed = 0
    for entry in entries(4):
        scene = Scene(entry, 64)
        canvas, removals = scene.draw(), scene.removals()
        picture, codes = scene.finish(canvas), (canvas.paint >> 24).reshape(64, FINER, 64, FINER)
        assert len(removals) == entry["bg_objects"].count(",")
        for i, removal in enumerate(removals):
            there = (codes == CODES.index(object_color(i))).any((1, 3))
            differs = (removal != picture).any(2)
            assert not (differs & ~there).any()
            changed += differs.sum()
    assert changed > 100


def test_half_of_the_training_birds_miss_parts_and_no_test_bird_does():
    def missing(split, count):
        return [sum(e[f"{part}_model"] == GONE for part in PARTS) for e in entries(count, split)]

    train = missing("train", 400)
    share = np.mean([n > 0 for n in train])
    assert abs(share - 5 / 12) < 4 * np.sqrt(0.24 / 400)  # half of them lose 0 to 5
    assert set(train) == set(range(6))
    assert set(missing("test", 50)) == {0}


def test_classes_differ_and_have_pairs():
    for count, pairs in ((12, 9), (50, 50)):
        classes = draw_classes(count, 0)
        assert len({tuple(c["parts"].items()) for c in classes}) == count
        found = [writer.sensitivity_pair([c["parts"] for c in classes], label)[0] >= 0 for label in range(count)]
        assert sum(found) >= pairs


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "birds"
    write_birds(folder, classes=3, train_per_class=3, test_per_class=1, size=64, progress=False)
    return folder


def test_same_files_from_more_workers(birds, tmp_path):
    write_birds(tmp_path / "again", 3, 3, 1, size=64, workers=2, progress=False)
    names = sorted(path.relative_to(birds) for path in birds.rglob("*") if path.is_file())
    assert names == sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file())
    for name in names:
        assert (birds / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    write_birds(tmp_path / "other", 3, 3, 1, seed=1, size=64, progress=False)
    assert (birds / "classes.json").read_bytes() != (tmp_path / "other/classes.json").read_bytes()


def test_the_data_module_reads_what_was_drawn(birds):
    module = FunnyBirdsDataModule(folder=str(birds), image_size=64, interventions=True)
    module.setup("fit")
    module.setup("test")
    (batch,) = module.test_dataloader()
    entry = json.loads((birds / "dataset_test.json").read_text())[1]
    expected = shown(Scene(entry, 64))
    assert np.array_equal((batch["image"][1] * 255).round().byte().permute(1, 2, 0).numpy(), expected)
    assert np.array_equal((batch["subsets"][1, -1] * 255).round().byte().permute(1, 2, 0).numpy(), expected)
    assert batch["objects"].tolist()[1] == entry["bg_objects"].count(",")


def test_nothing_half_drawn_is_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(writer, "_save", full)
    with pytest.raises(InputError, match="cannot be written: no space left"):
        write_birds(tmp_path / "birds", 2, 1, 1, size=32, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 0}, "classes: expected a whole number, at least 1"),
        ({"classes": 2593}, "classes: there are 2592 combinations of parts, got 2593"),
        ({"size": -1}, "size: expected"),
        ({"workers": -1}, "workers: expected 0 or more"),
        ({"seed": -1}, "seed"),
    ],
)
def test_numbers_that_cannot_be_used(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        write_birds(tmp_path / "birds", progress=False, **options)
    assert not list(tmp_path.iterdir())


def test_command_draws_once_and_says_how_fast(tmp_path):
    command = [sys.executable, "-m", "refinecam.data.funnybirds", str(tmp_path / "birds"), "--size", "32"]
    command += ["--classes", "2", "--train-per-class", "1", "--test-per-class", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pictures in" in done.stdout
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert again.stderr.startswith("error: folder:")
    assert "is there already" in again.stderr
