"""The data module: its splits, loaders and options."""

import json
from collections import Counter

import lightning as L
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from refinecam.core.errors import InputError
from refinecam.data import FunnyBirdsDataModule, JointTransform
from refinecam.data.funnybirds.module import _in_turn
from tests.data.funnybirds.files import SIZE, ready


def test_birds_drawn_anew_are_others(copied):
    first = FunnyBirdsDataModule(folder=str(copied)).identity()
    assert FunnyBirdsDataModule(folder=str(copied), batch_size=3).identity() == first
    classes = json.loads((copied / "classes.json").read_text())
    classes[0]["parts"], classes[1]["parts"] = classes[1]["parts"], classes[0]["parts"]
    (copied / "classes.json").write_text(json.dumps(classes))
    assert FunnyBirdsDataModule(folder=str(copied)).identity() != first


def test_validation_images_are_training_images_that_are_not_trained_on(folder):
    module = ready(folder=str(folder), image_size=SIZE, val_share=0.3, interventions=True, batch_size=2)
    sets = module.datasets
    assert {name: found.split for name, found in sets.items()} == {"train": "train", "val": "train", "test": "test"}
    assert sorted(sets["train"].positions + sets["val"].positions) == list(range(15))
    assert Counter(sets["val"].labels[i] for i in sets["val"].positions) == {0: 2, 1: 2, 2: 2}
    seen = torch.cat([batch["index"] for batch in module.val_dataloader()])
    assert seen.tolist() == sets["val"].positions
    batch = next(iter(module.val_dataloader()))
    first = int(seen[0])
    assert torch.equal(batch["image"][0], to_tensor(Image.open(folder / f"train/{first // 5}/{first:06d}.png"))[:3])
    assert set(batch) == {"image", "label", "index"}
    batches = list(module.test_dataloader())
    assert [batch["objects"].tolist() for batch in batches] == [[0, 1], [3]]
    assert "part_map" in batches[0]  # which the interventions' scores need
    assert module.classes == ("class 0", "class 1", "class 2")
    assert module.bird_classes == json.loads((folder / "classes.json").read_text())


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.5, 2), (0.99, 4)])
def test_every_class_is_validated_and_trained_on(folder, share, expected):
    module = FunnyBirdsDataModule(folder=str(folder), val_share=share)
    module.setup("fit")
    assert Counter(module.datasets["val"].labels[i] for i in module.datasets["val"].positions) == dict.fromkeys(
        range(3), expected
    )


def test_a_class_with_one_image_is_only_trained_on(copied):
    entries = json.loads((copied / "dataset_train.json").read_text())[:6]
    (copied / "dataset_train.json").write_text(json.dumps(entries))
    module = FunnyBirdsDataModule(folder=str(copied))
    module.setup("fit")
    assert 5 in module.datasets["train"].positions
    assert len(module.datasets["val"]) == 1


def test_first_test_images_are_of_different_classes(folder):
    labels = torch.cat([batch["label"] for batch in ready(folder=str(folder), image_size=SIZE).test_dataloader()])
    assert len({*labels[:3].tolist()}) == 3
    assert _in_turn(range(6), [0, 0, 0, 1, 1, 2]) == [0, 3, 5, 1, 4, 2]


def test_fewer_images_are_spread_over_the_classes(folder):
    whole, few = (ready(folder=str(folder), train_size=n, test_size=2) for n in (None, 6))
    assert Counter(i // 5 for i in few.datasets["train"].positions) == {0: 2, 1: 2, 2: 2}
    assert few.datasets["val"].positions == whole.datasets["val"].positions
    assert len(few.datasets["test"]) == 2


def test_normalization_and_size(folder):
    found = [FunnyBirdsDataModule(folder=str(folder), image_size=None, normalize=normalize) for normalize in (0, 1)]
    own = JointTransform.for_backbone("resnet18")
    assert [module.transform.canvas for module in found] == [own.image_size] * 2  # nothing is cropped
    assert [module.transform.image_size for module in found] == [own.image_size] * 2
    assert [module.transform.mean for module in found] == [(0.0, 0.0, 0.0), own.mean]
    assert [module.transform.std for module in found] == [(1.0, 1.0, 1.0), own.std]


class Recorder(L.LightningModule):
    """Writes down which images it was trained on."""

    def __init__(self):
        super().__init__()
        self.seen = {0: [], 1: []}

    def training_step(self, batch):
        self.seen[self.current_epoch] += batch["index"].tolist()

    def configure_optimizers(self):
        return None


@pytest.mark.parametrize("reloaded", [0, 1])
@pytest.mark.filterwarnings("ignore:`training_step` returned", "ignore:`LightningModule.configure_optimizers`")
@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader`")
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_training_is_in_another_order_every_epoch(folder, reloaded):
    module, model = FunnyBirdsDataModule(folder=str(folder), image_size=16, batch_size=4), Recorder()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", limit_val_batches=0, reload_dataloaders_every_n_epochs=reloaded, **quiet
    )
    trainer.fit(model, module)
    for seen in model.seen.values():
        assert len(set(seen)) == len(seen) == 12
        assert set(seen) <= set(module.datasets["train"].positions)
    assert model.seen[0] != model.seen[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_share": 0.0}, "val_share: expected a share between 0 and 1, got 0.0"),
        ({"val_share": 1.0}, "val_share"),
        ({"batch_size": 0}, "batch_size: expected a whole number"),
        ({"image_size": 0}, "image_size: expected a whole number"),
        ({"train_size": 13}, "train_size: there are only 12 images, got 13"),
        ({"test_size": 4}, "test_size: there are only 3 images, got 4"),
        ({"folder": "nowhere/birds"}, "there is no folder nowhere/birds; download true"),
        ({"backbone": "resnet19"}, "no model named 'resnet19'"),
    ],
)
def test_options_that_cannot_be_used(folder, options, message):
    with pytest.raises(InputError, match=message):
        ready(**{"folder": str(folder), **options})
