"""The LightningModule that trains a backbone."""

import os
import shutil
from collections.abc import Callable
from math import cos, pi
from typing import Any, Literal

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from refinecam.core.errors import InputError, check_range
from refinecam.core.progress import training_progress
from refinecam.models.backbones import create_backbone, open_blocks
from refinecam.models.checkpoints import check_colors, read_weights
from refinecam.models.hints import create_hints, stage_maps

CHECKED = 50
"""Steps between checks that the loss is finite; each waits for the GPU."""


class Classifier(L.LightningModule):
    """Cross-entropy training of a timm backbone with AdamW.

    Args:
        backbone: timm name of the network.
        num_classes: number of classes.
        pretrained: start from ImageNet weights; false trains from scratch.
        checkpoint: weights to start from instead: a file of train.py, or a shipped name such as ``shapes-resnet18``.
        image_size: side of the images, where not the backbone's own.
        learning_rate: peak learning rate.
        weight_decay: AdamW's.
        label_smoothing: of the cross-entropy.
        schedule: keep the learning rate after the warm-up, or let it fall to zero along half a cosine.
        warmup: share of the training over which the learning rate rises linearly. The training lasts until the first of
            max_epochs, max_steps and max_time is reached.
        teacher: weights of a trained network, given like ``checkpoint``, whose feature maps the network learns to
            predict as well: a start without ImageNet weights then takes fewer steps. The weight of this loss falls
            linearly from 1 to 0 over the training.
        compile: train with ``torch.compile``. It takes about a minute for each image size, for at most eight sizes, and
            on a CPU needs a C++ compiler. Checkpoints, validation and test are those of the network itself.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        num_classes: int = 6,
        pretrained: bool = True,
        checkpoint: str | None = None,
        image_size: int | None = None,
        learning_rate: float = 1e-4,
        weight_decay: float = 1e-4,
        label_smoothing: float = 0.0,
        schedule: Literal["constant", "cosine"] = "constant",
        warmup: float = 0.0,
        teacher: str | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        check_range(0, learning_rate=learning_rate, weight_decay=weight_decay)
        check_range(0, 1, label_smoothing=label_smoothing, warmup=warmup)
        self.save_hyperparameters(logger=False)
        network = create_backbone(backbone, pretrained and checkpoint is None, num_classes, image_size, any_size=True)
        self._colors: dict[str, bool] = {}
        if checkpoint is not None:
            weights = read_weights(checkpoint, backbone)
            if weights.num_classes != num_classes:
                raise InputError(
                    f"checkpoint: {weights.path} has {weights.num_classes} classes, the data have "
                    f"{num_classes}; give a checkpoint of as many, or start without one"
                )
            weights.load_into(network)
            self._colors["checkpoint"] = weights.normalize
        elif not pretrained:
            open_blocks(network)
        self.network: nn.Module = network.to(memory_format=torch.channels_last)
        self.hints = create_hints(teacher, network) if teacher is not None else None
        if self.hints is not None:
            self._colors["teacher"] = self.hints.normalize
        self.train_accuracy = _accuracy(num_classes)
        self.val_accuracy = _accuracy(num_classes)
        self.test_accuracy = _accuracy(num_classes)
        # Lightning's own mean over processes rounds their mean number of images down, so 5 and 4 make 8, not 9.
        self.val_loss, self.test_loss = (MeanMetric(nan_strategy="disable") for _ in range(2))
        self.progress = 0.0
        self._finite: Tensor | None = None
        self._compiled: Callable[[Tensor], tuple[Tensor, list[Tensor]]] | None = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note that the weights are in the file: whoever loads it needs no others first."""
        checkpoint["hyper_parameters"] |= {"pretrained": False, "checkpoint": None, "teacher": None}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the regressors of a teacher, which only a training that goes on needs.

        Raises:
            InputError: if it goes on with a teacher of other stages, or with none. Another of the same is not noticed.
        """
        state, prefix = checkpoint["state_dict"], "hints."
        result, own = ({k: v.shape for k, v in s.items() if k.startswith(prefix)} for s in (state, self.state_dict()))
        if self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING and result != own:
            had = "no" if not result else "another" if own else "a"
            raise InputError(
                f"ckpt_path: that training had {had} teacher, here it is {self.hparams['teacher']}; give the same "
                "teacher, or start a new training from its weights with checkpoint"
            )
        if not own:
            for name in result:
                del state[name]

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, 3, H, W)."""
        return self.network(image)

    def on_fit_start(self) -> None:
        """Compile what the training steps run; refuse weights that have seen other colors."""
        millions = sum(parameter.numel() for parameter in self.network.parameters()) / 1e6
        rank_zero_info(f"{self.hparams['backbone']}: {millions:.1f} million parameters")
        for argument, normalize in self._colors.items():
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            check_colors(argument, self.hparams[argument], normalize, getattr(data, "normalized", True))
        if self.hparams["compile"]:
            names = (os.environ.get("CXX", "g++"), "g++", "clang++")
            if self.device.type == "cpu" and not any(map(shutil.which, names)):
                raise InputError(
                    "compile: it needs a C++ compiler, and there is none on the PATH; install g++, or leave out compile"
                )
            self._compiled = torch.compile(self._forward_with_maps, dynamic=False)  # a graph for each size of the views

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is compiled: a copy of the module would train this one's weights."""
        return {**super().__getstate__(), "_compiled": None}

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Note the share of the training that is over: the schedule's clock, whatever the epochs' lengths."""
        self.progress = training_progress(self.trainer, batch_idx)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch; what is logged as such is the cross-entropy alone."""
        forward, images = self._compiled or self._forward_with_maps, batch["image"]
        images = images.contiguous(memory_format=torch.channels_last)
        logits, maps = forward(images)
        loss = F.cross_entropy(logits, batch["label"], label_smoothing=self.hparams["label_smoothing"])
        self._finite = loss.isfinite() if self._finite is None else self._finite & loss.isfinite()
        if not batch_idx % CHECKED:
            self.check_finite()
        self.train_accuracy.update(logits, batch["label"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(logits))
        self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True, prog_bar=True)
        if self.hints is None:
            return loss
        error = self.hints(images, maps)
        self.log("train/hints", error, batch_size=len(logits))
        return loss + (1 - self.progress) * error  # what the network is at last is for the labels alone to say

    def check_finite(self) -> None:
        """End a training whose loss is not finite, before its weights are saved.

        Raises:
            InputError: with the remedy.
        """
        if self._finite is not None and not self._finite:
            raise InputError(
                f"learning_rate: with {self.hparams['learning_rate']} the loss is not finite after {self.global_step} "
                "steps; use a smaller one, or a warm-up. The last checkpoint was written before"
            )
        self._finite = None

    def on_train_epoch_end(self) -> None:
        """Check the loss before the last checkpoint is written."""
        self.check_finite()

    def on_validation_start(self) -> None:
        """Check the loss before a best checkpoint is written."""
        self.check_finite()

    def _forward_with_maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the maps that a teacher's are compared with."""
        if self.hints is None:
            return self(images), []
        features, maps = stage_maps(self.network, images, self.hints.student_stages)
        return self.network.forward_head(features), maps  # type: ignore[operator]

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss and accuracy on whole images; returns the logits."""
        return self._evaluate(batch, "val", self.val_loss, self.val_accuracy)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss and accuracy; returns the logits."""
        return self._evaluate(batch, "test", self.test_loss, self.test_accuracy)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a schedule over the share of the training that is over."""
        rate, decay = self.hparams["learning_rate"], self.hparams["weight_decay"]
        # Small batches feel the step's cost, but Lightning does not clip the gradients of a fused optimizer.
        fused = self.trainer.gradient_clip_val is None
        optimizer = AdamW(self.parameters(), lr=rate, weight_decay=decay, fused=fused)
        scheduler = LambdaLR(optimizer, lambda _: self._rate())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _rate(self) -> float:
        warmup = self.hparams["warmup"]
        if self.progress < warmup:
            return max(self.progress / warmup, 0.01)
        if self.hparams["schedule"] == "constant" or warmup == 1:
            return 1.0
        return 0.5 * (1 + cos(pi * (self.progress - warmup) / (1 - warmup)))

    def _evaluate(self, batch: dict[str, Tensor], split: str, loss: MeanMetric, accuracy: MulticlassAccuracy) -> Tensor:
        if "image" not in batch:  # of an evaluation_loader with fewer images than processes
            raise InputError(f"data: there are fewer {split} images than processes; use more images or fewer devices")
        logits = self(batch["image"].contiguous(memory_format=torch.channels_last))
        accuracy.update(logits, batch["label"])
        loss.update(F.cross_entropy(logits.float(), batch["label"], reduction="none"))
        self.log(f"{split}/loss", loss)
        self.log(f"{split}/accuracy", accuracy, prog_bar=True)
        return logits


def _accuracy(classes: int) -> MulticlassAccuracy:
    return MulticlassAccuracy(classes, average="micro", validate_args=False)  # the checks cost more than the counting
