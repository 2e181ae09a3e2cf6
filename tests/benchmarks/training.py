"""Images per second of training, and what the input pipeline costs: ``python -m tests.benchmarks.training``.

One training takes turns: an epoch on one batch that lies in the memory of the device, then one on samples as they are
drawn, the start of its loader included, and so on, so that a slow minute of the machine slows both. Their medians are
compared, and with them a bare loop over the cached batch (zero_grad, forward, loss, backward, optimizer step): what
timm's ``benchmark.py --bench train --opt adamw`` times, which is in none of its packages.
"""

import argparse
import logging
import statistics
import time
import warnings
from itertools import pairwise
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch.optim import AdamW
from torch.utils.data import DataLoader

from refinecam.configuration import native_precision
from refinecam.core.backbones import data_config, takes_any_size
from refinecam.data import CropStage, ShapesDataModule
from refinecam.models import Classifier

EPOCHS = 5
"""Of each kind, at least 2: the first ones warm up."""


class Turns(L.LightningDataModule):
    """The cached batches in the even epochs, samples as they are drawn in the odd ones."""

    def __init__(self, data: ShapesDataModule, cached: list[dict[str, torch.Tensor]]) -> None:
        super().__init__()
        self.data, self.cached = data, DataLoader(cached, batch_size=None)  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader:
        self.data.trainer = self.trainer
        return self.data.train_dataloader() if self.trainer and self.trainer.current_epoch % 2 else self.cached

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        return self.data.on_after_batch_transfer(batch, dataloader_idx)


class Clock(L.Callback):
    """Notes when each epoch ends: the time between two includes the start of loaders and every wait for data."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_epoch_end(self, *_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def trainer_epochs(model: Classifier, data: L.LightningDataModule, precision: str) -> tuple[list[float], list[float]]:
    """Seconds of each epoch on cached batches, and of each on drawn samples."""
    clock = Clock()
    trainer = L.Trainer(
        max_epochs=2 * EPOCHS,
        limit_val_batches=0,
        reload_dataloaders_every_n_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        devices=1,  # as the bare loop has
        callbacks=[clock],
        precision=precision,  # type: ignore[arg-type]
    )
    trainer.fit(model, data)
    seconds = [after - before for before, after in pairwise(clock.ends)][1:]
    return seconds[::2], seconds[1::2]


def bare_epochs(model: Classifier, batch: dict[str, torch.Tensor], steps: int, precision: str) -> list[float]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = model.network.to(device).train()
    images = batch["image"].to(device).contiguous(memory_format=torch.channels_last)
    labels = batch["label"].to(device)
    optimizer = AdamW(network.parameters(), lr=1e-4, fused=True)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed"):
                loss = F.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return times[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="+", default=["resnet18"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[64], help="smaller than the backbone's: crops")
    parser.add_argument("--steps", type=int, default=40, help="of an epoch; every epoch starts its loader anew")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--num_workers", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="in the Trainer, not in the bare loop")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    precision = native_precision("bf16-mixed", on_cpu=not torch.cuda.is_available())
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {precision}, batches of {args.batch_size}")
    for backbone in args.backbones:
        for size in args.sizes:
            own = data_config(backbone)["input_size"][-1]
            if size > own or (size < own and not takes_any_size(backbone)):
                least = "up to" if takes_any_size(backbone) else "only"
                parser.error(f"--sizes: {backbone} takes {least} {own} px, got {size}")
            crops = [CropStage(size, share=0.99)] if size < own else None
            count = args.batch_size * args.steps
            options: dict[str, Any] = {"batch_size": args.batch_size, "num_workers": args.num_workers}
            data = ShapesDataModule(backbone, train_size=count, scenes=16, curriculum=crops, **options)
            data.setup("fit")
            device = "cuda" if torch.cuda.is_available() else "cpu"
            drawn_batch = {key: value.to(device) for key, value in next(iter(data.train_dataloader())).items()}
            cached = [data.transform.normalize(drawn_batch)] * args.steps
            model = Classifier(backbone, pretrained=False, compile=args.compile)
            bare = bare_epochs(model, cached[0], args.steps, precision)
            alone, drawn = trainer_epochs(model, Turns(data, cached), precision)
            bare += bare_epochs(model, cached[0], args.steps, precision)
            rates = [count / statistics.median(times) for times in (bare, alone, drawn)]
            print(
                f"{backbone}, {size} px: {rates[2]:.0f} images/s; {rates[1]:.0f} on a cached batch "
                f"({rates[2] / rates[1]:.0%}), {rates[0]:.0f} in a bare loop ({rates[2] / rates[0]:.0%})",
                flush=True,
            )


if __name__ == "__main__":
    main()
