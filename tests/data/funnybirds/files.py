"""A tiny FunnyBirds in its official layout."""

import itertools
import json

import numpy as np
from PIL import Image

from refinecam.data import FunnyBirdsDataModule, JointTransform
from refinecam.data.funnybirds.parts import PART_COLORS, PARTS

SIZE = 48
OBJECTS = ("", "3,", "0,4,1,")  # of the test images, as the official lists have them
COLORS = {color for side in PART_COLORS.values() for color in side}


def as_is(size=SIZE):
    return JointTransform(size, size, (0.0,) * 3, (1.0,) * 3, "bilinear")


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    alpha = np.full((*pixels.shape[:2], 1), 200, np.uint8)
    Image.fromarray(np.concatenate([pixels, alpha], 2)).save(path)


def plain(color):
    return np.broadcast_to(np.uint8(color), (SIZE, SIZE, 3))


def write_birds(folder):
    """Three classes with five training images and one test image each; noise, and a square of a random part."""
    rng = np.random.default_rng(0)
    classes = [{"class_idx": c, "parts": {part: (c + i) % 3 for i, part in enumerate(PARTS)}} for c in range(3)]
    lists = {
        "classes": classes,
        "dataset_train": [{"class_idx": i // 5, "bg_objects": "1,"} for i in range(15)],
        "dataset_test": [{"class_idx": c, "bg_objects": listed} for c, listed in enumerate(OBJECTS)],
    }
    for name, content in lists.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    for split in ("train", "test"):
        for index, entry in enumerate(lists[f"dataset_{split}"]):
            stem = f"{entry['class_idx']}/{index:06d}"
            image, part_map = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8), np.zeros((SIZE, SIZE, 3), np.uint8)
            part_map[10:30, 5:25] = sorted(COLORS)[index % len(COLORS)]
            save(folder / split / f"{stem}.png", image)
            save(folder / f"{split}_part_map" / f"{stem}.png", part_map)
    for index, entry in enumerate(lists["dataset_test"]):
        scenes = folder / "test_interventions" / str(entry["class_idx"]) / f"{index:06d}"
        for kept in (kept for size in range(6) for kept in itertools.combinations(sorted(PARTS), size)):
            color = [100 * (part in kept) for part in PARTS]
            pixels = plain([color[0] + index, color[1], color[2]]).copy()
            pixels[0, 0] = (color[3], color[4], 0)
            save(scenes / f"body_{'_'.join(kept)}.png", pixels)
        for i in range(entry["bg_objects"].count(",")):
            save(scenes / "background_interventions" / f"{i}.png", plain([index, 10 + i, 77]))


def ready(**options):
    """A data module with all of its splits."""
    module = FunnyBirdsDataModule(**options)
    for stage in ("fit", "test"):
        module.setup(stage)
    return module
