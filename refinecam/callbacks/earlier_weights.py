"""What becomes of the weights that an earlier training left."""

from itertools import count
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info


class EarlierWeights(L.Callback):
    """Keeps the checkpoints of an earlier training, which have the names of this one's: ``best-1.ckpt`` and so on."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Rename them, unless this training goes on in their folder."""
        callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
        paths = [Path(c.dirpath) / f"{c.filename}{c.FILE_EXTENSION}" for c in callbacks if c.dirpath and c.filename]
        goes_on = Path(trainer.ckpt_path).resolve() if trainer.ckpt_path else None
        left = [path for path in paths if path.exists() and not (goes_on and path.resolve().parent == goes_on.parent)]
        if not left or not trainer.is_global_zero:
            return
        number = next(n for n in count(1) if not any(_numbered(path, n).exists() for path in left))
        for path in left:
            path.rename(_numbered(path, number))
        names = " and ".join(_numbered(path, number).name for path in left)
        rank_zero_info(f"The weights of an earlier training in {left[0].parent} are now {names}.")


def _numbered(path: Path, number: int) -> Path:
    return path.with_stem(f"{path.stem}-{number}")
