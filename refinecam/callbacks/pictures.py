"""What TensorBoard shows of a training."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchmetrics.classification import MulticlassConfusionMatrix
from torchvision.utils import make_grid

from refinecam.attribution import parse_methods
from refinecam.core.errors import check_counts
from refinecam.data import data_of
from refinecam.visualization import overlay_figure


class TrainingPictures(L.Callback):
    """Pictures at every epoch, for any TensorBoard logger.

    - ``train/images``: a batch of training images above their masks, whenever their size changes;
    - ``val/predictions``: fixed validation images with label, prediction and confidence;
    - ``val/maps``: their maps, epoch by epoch;
    - ``val/confusion``: the confusion matrix.

    Args:
        images: how many images each picture shows.
        methods: attribution methods for the maps, as one writes them in Python.
    """

    def __init__(self, images: int = 6, methods: str = "GradCAM++, LayerCAM, RefineCAM(GradCAM++)") -> None:
        check_counts(images=images)
        self.images, self.methods = images, parse_methods(methods)
        self.shown_size: tuple[int, ...] | None = None
        self.fixed: dict[str, Tensor] | None = None
        self.confusion: MulticlassConfusionMatrix | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse stages that the network does not have before any time is spent."""
        for method in self.methods:
            method.layers(pl_module.get_submodule("network"))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: dict[str, Tensor], batch_idx: int
    ) -> None:
        """Show the first batch of each size."""
        writer = _writer(trainer)
        size = tuple(batch["image"].shape[2:])
        if writer is None or batch_idx or size == self.shown_size:
            return
        self.shown_size = size
        images = data_of(trainer).colors(batch["image"][: 2 * self.images])
        rows = list(images.split(self.images))
        if "mask" in batch:
            masks = batch["mask"][: 2 * self.images].expand_as(images).split(self.images)
            rows = [row for pair in zip(rows, masks, strict=True) for row in pair]
        grid = make_grid(torch.cat(rows).float(), nrow=self.images, pad_value=1)
        writer.add_image("train/images", grid, trainer.global_step)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the confusions and keep the first images; ``outputs`` are the logits."""
        if self.fixed is None:
            shown = {name: batch[name] for name in ("image", "label", "mask") if name in batch}
            self.fixed = {name: value[: self.images].clone() for name, value in shown.items()}
        if self.confusion is None:
            self.confusion = MulticlassConfusionMatrix(outputs.shape[1]).to(outputs.device)
        self.confusion.update(outputs, batch["label"])

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw what this epoch's network makes of the fixed images."""
        if self.confusion is None or self.fixed is None:
            return
        confusion = self.confusion
        counts = confusion.compute()  # on every process: it gathers
        self.confusion = None
        writer = _writer(trainer)
        if writer is None or trainer.sanity_checking:
            return
        step = trainer.global_step
        classes = [str(name) for name in data_of(trainer).classes or range(len(counts))]
        figure, axes = confusion.plot(counts, add_text=len(classes) <= 20, labels=classes, cmap="Blues")
        figure.set_size_inches(2 + 0.5 * len(classes), 2 + 0.5 * len(classes))
        axes.tick_params(axis="x", labelrotation=40)  # type: ignore[union-attr]
        writer.add_figure("val/confusion", figure, step)
        fixed, network = self.fixed, pl_module.get_submodule("network")
        images = data_of(trainer).colors(fixed["image"])
        with torch.no_grad():
            chances, predicted = pl_module(fixed["image"]).float().softmax(1).max(1)
        verdicts = [
            f"{classes[label]}\n→ {classes[guess]} {chance:.0%}"
            for label, guess, chance in zip(fixed["label"].tolist(), predicted.tolist(), chances.tolist(), strict=True)
        ]
        writer.add_figure("val/predictions", overlay_figure(images, {}, fixed.get("mask"), verdicts), step)
        maps = {method.title: method(network, fixed["image"], fixed["label"]) for method in self.methods}
        writer.add_figure("val/maps", overlay_figure(images, maps, fixed.get("mask"), verdicts), step)


def _writer(trainer: L.Trainer) -> SummaryWriter | None:
    if not trainer.is_global_zero:
        return None
    return next((logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)
