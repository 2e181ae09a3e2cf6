"""Hyperparameters beside the final metrics, for TensorBoard's HParams tab."""

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger


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
