import multiprocessing

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from refinecam.data import CropStage, ShapesDataModule
from refinecam.data.shapes.dataset import BANDS, ShapesDataset


@pytest.fixture(scope="module")
def module():
    module = ShapesDataModule(
        image_size=48,
        train_size=12,
        val_size=7,
        test_size=7,
        batch_size=4,
        scenes=4,
        held_out_scenes=2,
        curriculum=[
            CropStage(24, share=0.4, fill=True, train_size=18),
            CropStage(32, share=0.2, bands=[(20, 25), (20, 25), (40, 50)]),
        ],
    )
    for stage in ("fit", "test"):
        module.setup(stage)
    return module


def test_batches(module):
    batch = next(iter(module.test_dataloader()))
    assert batch["image"].shape == (4, 3, 48, 48)
    assert batch["image"].dtype == torch.float32
    assert batch["mask"].shape == (4, 1, 48, 48)
    assert set(batch["mask"].unique().tolist()) == {0.0, 1.0}
    assert batch["label"].dtype == batch["index"].dtype == torch.int64
    assert batch["index"].tolist() == [0, 1, 2, 3]


def test_other_background_pictures_are_other_images(tmp_path):
    found = []
    for shade in (9, 200, 200):
        for page in range(3):
            Image.new("RGB", (64, 64), (shade, 9 * page, 0)).save(tmp_path / f"{page}.png")
        module = ShapesDataModule(image_size=48, backgrounds=str(tmp_path), imputed=0)
        module.setup("test")
        found.append(module.identity())
    assert found[0] != found[1] == found[2]


def test_curriculum_grows_and_never_repeats_a_sample(module):
    sets = [module.training_set(epoch, epoch / 5) for epoch in range(5)]
    assert [s.crop for s in sets] == [24, 24, 32, None, None]
    assert [s.fill for s in sets] == [True, True, False, False, False]
    assert [len(s) for s in sets] == [18, 18, 12, 12, 12]
    assert [s.offset for s in sets] == [0, 18, 36, 54, 72]
    assert [len(s.bands) for s in sets] == [3] * 5
    assert sets[2].bands == ((20, 25), (20, 25), (40, 50))
    assert sets[1].bands == sets[3].bands == BANDS


class Watch(L.LightningModule):
    """Notes what it is shown."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(1, 1), []

    def training_step(self, batch, batch_idx):
        self.seen += batch["index"].tolist()
        return self.layer.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_sees_samples_in_their_order_and_starts_workers_once_an_epoch(module, monkeypatch, workers):
    started, start = [], _MultiProcessingDataLoaderIter.__init__
    monkeypatch.setattr(
        _MultiProcessingDataLoaderIter, "__init__", lambda self, loader: started.append(loader) or start(self, loader)
    )
    monkeypatch.setattr(module, "num_workers", workers)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_epochs=5, limit_val_batches=0, reload_dataloaders_every_n_epochs=1, **options)
    before = multiprocessing.active_children()  # of other tests' loaders
    trainer.fit(model := Watch(), module)
    # the last samples of an epoch, too few for a batch of 4, are left out
    expected = [*range(16), *range(18, 34), *range(36, 48), *range(54, 66), *range(72, 84)]
    assert model.seen == expected
    assert len(started) == (5 if workers else 0)
    assert {*multiprocessing.active_children()} <= {*before}


def test_scenes_of_the_splits_differ(module):
    means = [picture.mean() for (bank,) in module.banks.values() for picture in bank.pictures]
    assert len(set(means)) == len(means)


def test_folder_of_backgrounds(page_folder):
    module = ShapesDataModule(image_size=48, backgrounds=str(page_folder))
    module.setup("fit")
    module.setup("test")
    assert {split: len(bank.pictures) for (split, _), (bank,) in module.banks.items()} == {
        "train": 8,
        "val": 2,
        "test": 2,
    }


def test_several_sources_of_backgrounds(page_folder):
    module = ShapesDataModule(image_size=48, backgrounds=["procedural", str(page_folder)], scenes=4, held_out_scenes=1)
    module.setup("fit")
    assert [len(bank.pictures) for bank in module.prepared("train")] == [4, 8]
    assert [len(bank.pictures) for bank in module.prepared("val")] == [1, 2]


def test_a_source_named_twice_is_prepared_once_and_drawn_twice():
    few = {"scenes": 2, "held_out_scenes": 2}
    once, twice = (ShapesDataModule(image_size=48, backgrounds=["procedural"] * n, **few) for n in (1, 2))
    for module in (once, twice):
        module.setup("fit")
    first, second = twice.prepared("train")
    assert first is second
    assert np.array_equal(first.pictures, once.prepared("train")[0].pictures)


def test_controls_are_in_test_batches_only():
    module = ShapesDataModule(image_size=48, scenes=4, held_out_scenes=2, controls=True)
    for stage in ("fit", "test"):
        module.setup(stage)
    assert "controls" not in next(iter(module.train_dataloader()))
    batch = next(iter(module.test_dataloader()))
    assert {name: tuple(images.shape) for name, images in batch["controls"].items()} == dict.fromkeys(
        module.expected_of_controls, (32, 3, 48, 48)
    )


def test_both_styles_are_tested_one_after_the_other_and_not_trained_on():
    few = {"image_size": 224, "test_size": 6, "batch_size": 12, "scenes": 2, "held_out_scenes": 2, "imputed": 0.0}
    module = ShapesDataModule(style="both", **few)
    module.setup("test")
    (batch,) = module.test_dataloader()
    assert batch["index"].tolist() == list(range(12))
    assert batch["style"].tolist() == [0] * 6 + [1] * 6
    alone = ShapesDataModule(style="paper", **{**few, "test_size": 12})
    alone.setup("test")
    assert torch.equal(batch["image"][6:], torch.stack([alone.dataset("test")[i]["image"] for i in range(6, 12)]))
    with pytest.raises(ValueError, match="style: both is for tests"):
        module.setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": [(50, 40)]}, "bands: expected"),
        ({"curriculum": [CropStage(16, 0.5, bands=[(0, 9)])]}, "bands: expected"),
        ({"backgrounds": []}, "backgrounds: the list is empty"),
        ({"scenes": 0}, "scenes: expected a whole number, at least 1"),
        ({"batch_size": 0}, "batch_size: expected a whole number, at least 1"),
        ({"image_size": -5}, "image_size: expected a whole number, at least 1"),
        ({"num_workers": -1}, "num_workers: expected a whole number, at least 0, got -1"),
        ({"curriculum": [CropStage(16, 0.5, train_size=0)]}, "train_size: expected a whole number, at least 1, got 0"),
        ({"curriculum": [CropStage(16, -1)]}, "share: expected a number from 0 to 1"),
        ({"curriculum": [CropStage(16, 0.5)] * 2}, "curriculum: its shares add up to 1, .* no time for whole images"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        ShapesDataModule(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": ((1, 2),)}, "bands: .*0.199 px.* at least 3.7 px"),
        ({"crop": 6, "fill": True}, "crop: .*2.1 px"),
        ({"crop": 6}, "crop: .*2.1 px"),
    ],
)
def test_shapes_that_are_too_small_to_draw(options, message, module):
    """They would be drawn until a color is visible, for ever."""
    module.setup("test")
    with pytest.raises(ValueError, match=message):
        ShapesDataset(module.prepared("test"), module.transform, "test", 4, **options)
    smallest = ShapesDataset(module.prepared("test"), module.transform, "test", 12, bands=((19, 19.1),))
    assert all(smallest[i]["mask"].any() for i in range(12))


def test_bad_input():
    with pytest.raises(ValueError, match="no model named 'resnet19'"):
        ShapesDataModule(backbone="resnet19")
    with pytest.raises(ValueError, match="test_size: expected a whole number, at least 1, got 0"):
        ShapesDataModule(test_size=0)
    with pytest.raises(ValueError, match=r"backgrounds for test are not there yet; call setup\('test'\) first"):
        ShapesDataModule().test_dataloader()
    with pytest.raises(ValueError, match=r"backgrounds for train are not there yet; call setup\('fit'\) first"):
        ShapesDataModule().train_dataloader()


def test_a_curriculum_of_a_training_without_an_end_is_refused(module):
    options = {"logger": False, "enable_checkpointing": False, "reload_dataloaders_every_n_epochs": 1}
    with pytest.raises(ValueError, match=r"curriculum: .* nothing says when this one ends"):
        L.Trainer(max_epochs=-1, **options).fit(Watch(), module)
    module.trainer = None


def test_training_batches_are_bytes_and_become_what_the_transform_gives():
    module = ShapesDataModule("resnet18", train_size=4, batch_size=4, scenes=2, held_out_scenes=2)
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].dtype == batch["mask"].dtype == torch.uint8
    found = module.on_after_batch_transfer(batch, 0)
    whole = ShapesDataset(module.prepared("train"), module.transform, "train", 4)
    assert torch.equal(found["image"], torch.stack([whole[i]["image"] for i in range(4)]))
    assert torch.equal(found["mask"], torch.stack([whole[i]["mask"] for i in range(4)]))
    others = next(iter(module.val_dataloader()))
    assert module.on_after_batch_transfer(others, 0) is others
