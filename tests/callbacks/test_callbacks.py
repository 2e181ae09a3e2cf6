import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from refinecam.callbacks import FinalMetrics, TrainingPictures
from refinecam.core.errors import InputError
from refinecam.data import ShapesDataModule
from refinecam.models import Classifier
from tests.command_lines import read_events


def fit(tmp_path, logger, pictures):
    data = ShapesDataModule(
        image_size=64, train_size=8, val_size=6, test_size=6, batch_size=4, scenes=2, held_out_scenes=2, imputed=0.0
    )
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[pictures, FinalMetrics()],
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    model = Classifier("resnet18", pretrained=False, image_size=64)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    return trainer


def test_pictures_and_final_metrics_are_in_tensorboard(tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", default_hp_metric=False)
    trainer = fit(tmp_path, logger, TrainingPictures(images=2, methods="GradCAM, RandomCAM"))
    events = read_events(tmp_path / "version_0")
    images = {name: len(events.Images(name)) for name in events.Tags()["images"]}
    assert images == {"train/images": 1, "val/predictions": 2, "val/confusion": 2, "val/maps": 2}
    assert set(events.Tags()["scalars"]) >= {"final/test/accuracy", "val/accuracy"}
    assert trainer.callback_metrics["test/accuracy"] == events.Scalars("final/test/accuracy")[0].value


def test_training_goes_without_tensorboard(tmp_path):
    fit(tmp_path, CSVLogger(tmp_path), TrainingPictures(images=2, methods="GradCAM"))
    assert list(tmp_path.rglob("metrics.csv"))


def test_confusions_are_counted_for_each_validation_anew(tmp_path):
    pictures = TrainingPictures(images=1, methods="")
    fit(tmp_path, False, pictures)
    assert pictures.confusion is None
    logits = torch.eye(6)[[0, 1, 1]]
    batch = {"image": torch.zeros(3, 3, 8, 8), "label": torch.tensor([0, 1, 2])}
    pictures.on_validation_batch_end(None, None, logits, batch, 0)
    assert pictures.confusion.compute().trace() == 2
    assert pictures.confusion.compute()[2, 1] == 1


def test_a_stage_that_is_not_there_is_refused_at_once(tmp_path):
    with pytest.raises(InputError, match="stage: no stage 9"):
        fit(tmp_path, False, TrainingPictures(methods="GradCAM(stage=9)"))
