"""Files that are whole or not there."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there, also where temporary files lie on another file system."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write one beside its target."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_file(target, lambda beside: torch.save(checkpoint, beside))


def write_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file beside its target, and put it into place once it is on the disk.

    Args:
        path: of the file.
        write: writes it to the path that it is given, which has the same ending.

    Raises:
        OSError: with the file's name, if this fails; an earlier file stays.
    """
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise type(error)(error.errno or 0, error.strerror or str(error), str(path)) from error
    finally:
        beside.unlink(missing_ok=True)
