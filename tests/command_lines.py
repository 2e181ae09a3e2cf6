"""Command lines of tiny runs, from the real configs."""

from pathlib import Path

from lightning import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parents[1]
METHODS = ["GradCAM++", "LayerCAM(stage=0)", "RefineCAM(LayerCAM)", "RandomCAM", "All1sCAM"]
DATA = ["--data.scenes", "4", "--data.held_out_scenes", "2", "--data.num_workers", "0"]


def read_events(folder):
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events


class SeenSamples(Callback):
    """Writes down which samples each process trains on, step by step."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        with (self.folder / f"rank{trainer.global_rank}.txt").open("a") as file:
            print(*batch["index"].tolist(), file=file)


def train_args(folder):
    return [
        *("--config", str(ROOT / "configs/train/shapes-resnet18-scratch.yaml")),
        *("--trainer.accelerator", "cpu", "--model.image_size", "64"),
        *DATA,
        *("--data.train_size", "24", "--data.val_size", "9", "--data.test_size", "9", "--data.batch_size", "8"),
        *("--data.curriculum", '[{"crop": 32, "share": 0.5, "fill": true}]'),
        *("--trainer.max_epochs", "2", "--trainer.check_val_every_n_epoch", "1", "--trainer.log_every_n_steps", "1"),
        *("--trainer.enable_progress_bar", "false"),
        *("--pictures.images", "3", "--checkpoint.dirpath", str(folder / "weights")),
        *("--trainer.logger.init_args.save_dir", str(folder)),
    ]


def evaluate_args(trained, output, *more):
    return [
        "--config",
        str(ROOT / "configs/evaluate/shapes.yaml"),
        *DATA,
        *("--model.checkpoint", str(trained / "weights/best.ckpt"), "--model.methods", str(METHODS)),
        *("--data.test_size", "7", "--data.batch_size", "3", "--model.only_correct", "false"),
        *("--data.controls", "true", "--trainer.enable_progress_bar", "false", "--output", str(output), *more),
    ]
