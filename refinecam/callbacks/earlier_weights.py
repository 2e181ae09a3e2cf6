"""What becomes of the weights that an earlier training left."""

import re
from itertools import count
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from refinecam.core.errors import InputError


class EarlierWeights(L.Callback):
    """Keeps the checkpoints of an earlier training, which have the names of this one's: ``best-1.ckpt`` and so on."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Rename those that are not of the training that goes on.

        Raises:
            InputError: if it goes on from one that was renamed: what it has as its best weights is another's now.
        """
        callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
        paths = [(Path(c.dirpath) / f"{c.filename}{c.FILE_EXTENSION}").resolve() for c in callbacks if c.dirpath]
        start = Path(trainer.ckpt_path).resolve() if trainer.ckpt_path else None
        if start and any(
            re.fullmatch(rf"{re.escape(str(path.with_suffix('')))}-\d+\.ckpt", str(start)) for path in paths
        ):
            raise InputError(
                f"ckpt_path: {start} was renamed when a later training began in its folder; move it to another, "
                "and name that as --checkpoint.dirpath"
            )
        own = {start, *(Path(callback.best_model_path).resolve() for callback in callbacks if callback.best_model_path)}
        left = [path for path in paths if path.exists() and path not in own]
        if not left or not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        number = next(n for n in count(1) if not any(_numbered(path, n).exists() for path in left))
        for path in left:
            path.rename(_numbered(path, number))
        names = " and ".join(_numbered(path, number).name for path in left)
        rank_zero_info(f"The weights of an earlier training in {left[0].parent} are now {names}.")


def _numbered(path: Path, number: int) -> Path:
    return path.with_stem(f"{path.stem}-{number}")
