"""Numbers at the end of a training: accuracy by size of the shape, and TensorBoard's HParams tab."""

from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torchmetrics import MeanMetric


class BandAccuracy(L.Callback):
    """Logs the test accuracy of each size band, where batches have a ``band`` and the data module has ``bands``."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.correct: dict[str, MeanMetric] = {}

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make one accuracy for each band."""
        bands = getattr(trainer.datamodule, "bands", ())  # type: ignore[attr-defined]
        self.names = [f"{low:g}-{high:g}" for low, high in bands]  # a band may be there twice
        self.correct = {name: MeanMetric().to(pl_module.device) for name in self.names}

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the right answers; ``outputs`` are the logits."""
        right = (outputs.argmax(1) == batch["label"]).float()
        for band, name in enumerate(self.names):
            self.correct[name].update(right[batch["band"] == band])

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log them; a band without images is NaN."""
        for name, metric in self.correct.items():
            # The metric is that of all processes already; the mean of equal values only quiets Lightning's advice.
            pl_module.log(f"test/accuracy_{name}px", metric.compute(), sync_dist=True)


class FinalMetrics(L.Callback):
    """Hyperparameters with the final metrics, for TensorBoard's HParams tab, once a test is over."""

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write them with every metric of the test."""
        metrics = {f"final/{name}": float(value) for name, value in trainer.callback_metrics.items()}
        data = trainer.datamodule  # type: ignore[attr-defined]
        chosen = {**getattr(data, "hparams", {}), **pl_module.hparams}
        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in chosen.items()
            if not name.startswith("_")  # the command line's own notes
        }
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(plain, metrics)
