"""What the reader makes of the official layout."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from refinecam.data import FunnyBirdsDataModule
from refinecam.data.funnybirds import FunnyBirds
from refinecam.data.funnybirds.dataset import collate
from refinecam.data.funnybirds.parts import PART_COLORS, PARTS
from tests.data.funnybirds.files import SIZE, as_is, save

SHARED = Path(__file__).parents[4] / "shared" / "data" / "funnybirds"


def test_values_are_those_of_the_official_reader(folder):
    found = FunnyBirds(folder, "test", as_is(), part_maps=True)
    assert len(found) == 3
    for index in range(3):
        sample = found[index]
        assert (sample["label"], sample["index"]) == (index, index)
        assert set(sample) == {"image", "label", "index", "part_map"}
        image, part_map = (Image.open(folder / name / f"{index}/{index:06d}.png") for name in ("test", "test_part_map"))
        assert torch.equal(sample["image"], to_tensor(image)[:3])
        assert torch.equal(sample["part_map"], torch.from_numpy(np.array(part_map)[..., :3]).permute(2, 0, 1).float())


@pytest.mark.parametrize("size", [224, 64])
def test_part_maps_keep_their_colors_and_their_place_when_resized(copied, size):
    part_map = np.zeros((256, 256, 3), np.uint8)
    squares = [(slice(0, 61), slice(30, 77)), (slice(100, 171), slice(130, 256)), (slice(203, 256), slice(0, 90))]
    colors = [PART_COLORS["foot"][1], PART_COLORS["eye"][0], PART_COLORS["wing"][0]]
    for square, color in zip(squares, colors, strict=True):
        part_map[square] = color
    for index, square in enumerate(squares):
        image = np.zeros((256, 256, 3), np.uint8)
        image[square] = 255
        save(copied / f"test/{index}/{index:06d}.png", image)
        save(copied / f"test_part_map/{index}/{index:06d}.png", part_map)
    for sample, color in zip(FunnyBirds(copied, "test", as_is(size), part_maps=True), colors, strict=True):
        pixels = sample["part_map"].permute(1, 2, 0)
        assert pixels.shape == (size, size, 3)
        assert {tuple(c) for c in pixels.reshape(-1, 3).unique(dim=0).int().tolist()} == {(0, 0, 0), *colors}
        of_part = (pixels == torch.tensor(color)).all(2)
        of_image = sample["image"][0] > 0.5
        for box in (torch.Tensor.amin, torch.Tensor.amax):
            part, white = (box(mask.nonzero(), 0) for mask in (of_part, of_image))
            assert (part - white).abs().max() <= 1


def test_interventions_are_in_the_order_of_the_parts(folder):
    found = FunnyBirds(folder, "test", as_is(), part_maps=True, interventions=True)[2]
    assert found["subsets"].shape == (32, 3, SIZE, SIZE)
    for subset, scene in enumerate(found["subsets"]):
        color = [100 * (subset >> place & 1) for place in range(5)]
        assert (scene[:, 5, 5] * 255).round().int().tolist() == [color[0] + 2, color[1], color[2]]
        assert (scene[:2, 0, 0] * 255).round().int().tolist() == color[3:]
    named = Image.open(folder / "test_interventions/2/000002/body_beak_wing.png")
    assert torch.equal(found["subsets"][0b10001], to_tensor(named)[:3])
    assert (found["removals"][:, :, 7, 7] * 255).round().int().tolist() == [[2, 10, 77], [2, 11, 77], [2, 12, 77]]


@pytest.mark.parametrize(("places", "objects"), [([0, 1, 2], [0, 1, 3]), ([0], [0]), ([2, 0], [3, 0])])
def test_batches_of_samples_with_different_numbers_of_objects(folder, places, objects):
    samples = list(FunnyBirds(folder, "test", as_is(), True, True, keep=places))
    batch = collate(samples)
    assert batch["index"].tolist() == batch["label"].tolist() == places
    assert batch["objects"].tolist() == objects
    assert batch["objects"].dtype == batch["index"].dtype == torch.int64
    assert batch["image"].shape == batch["part_map"].shape == (len(places), 3, SIZE, SIZE)
    assert batch["subsets"].shape == (len(places), 32, 3, SIZE, SIZE)
    assert batch["removals"].shape == (sum(objects), 3, SIZE, SIZE)
    for sample, removals in zip(samples, batch["removals"].split(objects), strict=True):
        assert torch.equal(sample["removals"], removals)
    assert "objects" not in collate(list(FunnyBirds(folder, "test", as_is())))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs FunnyBirds")
def test_original_images():
    module = FunnyBirdsDataModule(folder=str(SHARED), interventions=True, batch_size=5)
    module.setup("test")
    body = torch.tensor([170.0, 170.0, 170.0])[:, None, None]
    for batch in module.test_dataloader():
        assert batch["image"].shape[1:] == (3, 256, 256)
        assert torch.equal(batch["subsets"][:, 31], batch["image"])  # nothing is removed
        assert (batch["part_map"] == body).all(1).any((1, 2)).all()
        for scene, part_map in zip(batch["subsets"], batch["part_map"], strict=True):
            changed = torch.stack([(scene[31] != scene[31 - (1 << place)]).any(0) for place in range(5)])
            for place, part in enumerate(PARTS):
                sides = [(part_map == torch.tensor(c)[:, None, None]).all(0) for c in PART_COLORS[part]]
                of_part = torch.stack(sides).any(0)
                if of_part.sum() > 9:  # of all parts, it is this one that is no longer there without it
                    shares = changed[:, of_part].float().mean(1)
                    assert shares.argmax() == place
                    assert shares[place] > 0.3  # a black pupil may lie on a black shadow
