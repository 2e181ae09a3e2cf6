"""How much of a training is over, whatever ends it."""

import lightning as L
from lightning.pytorch.callbacks import Timer


def training_progress(trainer: L.Trainer, batch_idx: int = 0) -> float:
    """Share of a training that is over, in [0, 1]: 0 where nothing says when it ends.

    It lasts until the first of ``max_epochs``, ``max_steps`` and ``max_time`` is reached. To be called by all
    processes: they go by one clock.

    Args:
        trainer: of the training.
        batch_idx: batches of the current epoch that are over.
    """
    shares = [0.0]
    if trainer.max_epochs and trainer.max_epochs > 0:
        batches = max(1, trainer.num_training_batches) if batch_idx else 1  # not known before the first batch
        shares.append((trainer.current_epoch + batch_idx / batches) / trainer.max_epochs)
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    for past, left in _clocks(trainer):
        shares.append(trainer.strategy.broadcast(past / max(past + left, 1e-9)))
    return min(1.0, max(shares))


def ends(trainer: L.Trainer) -> bool:
    """Whether a limit of its epochs, steps or time ends the training."""
    return bool(trainer.max_epochs and trainer.max_epochs > 0) or trainer.max_steps > 0 or bool(_clocks(trainer))


def _clocks(trainer: L.Trainer) -> list[tuple[float, float]]:
    """Seconds that are over and left, of each timer."""
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    return [(timer.time_elapsed(), left) for timer in timers if (left := timer.time_remaining()) is not None]
