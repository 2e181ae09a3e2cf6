"""LightningDataModule of FunnyBirds."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from refinecam.core.errors import InputError, check_counts
from refinecam.data.base import STAGE_SPLITS, DataModule
from refinecam.data.funnybirds.archive import URL, fetch_archive
from refinecam.data.funnybirds.dataset import FunnyBirds, collate, read_classes, read_entries
from refinecam.data.funnybirds.scorer import BirdScorer
from refinecam.data.sampling import evaluation_loader, training_loader
from refinecam.data.transforms import JointTransform

OFFICIAL_CLASSES = 50


class FunnyBirdsDataModule(DataModule):
    """FunnyBirds, from the official archive or drawn by ``python -m refinecam.data.funnybirds``.

    The data set has no validation split: a share of each class's training images is held out, always the same ones.

    Args:
        backbone: timm name of the network; decides the interpolation, and what ``null`` and ``normalize`` mean.
        image_size: side of the images; null for the backbone's own.
        folder: of the data set.
        download: fetch the official archive (1.6 GB) if there is no such folder.
        sha256: of the archive, if you have it from a source you trust; its authors publish none. Without it the size
            and each file's checksum are compared with what the server and the archive say.
        normalize: by the backbone's mean and standard deviation; otherwise colors are in [0, 1], as in the paper.
        part_maps: add part maps to the test batches.
        interventions: add to the test batches the scenes without some parts or objects, and the part maps.
        val_share: share of each class's training images that is held out for validation, at least one of two or more.
        train_size: samples to train on, spread evenly over the classes; null for all that are not held out.
        test_size: samples to test on, likewise.
        batch_size: samples a batch, of each process.
        num_workers: processes that read samples, for each loader.

    Attributes:
        classes: names of the classes.
        bird_classes: entries of ``classes.json``, with the parts of each class; empty until there is a folder.
        transform: of images and part maps.
    """

    transform: JointTransform

    def __init__(
        self,
        backbone: str = "resnet18",
        image_size: int | None = 256,
        folder: str = "data/FunnyBirds",
        download: bool = False,
        sha256: str | None = None,
        normalize: bool = False,
        part_maps: bool = False,
        interventions: bool = False,
        val_share: float = 0.1,
        train_size: int | None = None,
        test_size: int | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        optional = {"image_size": image_size, "train_size": train_size, "test_size": test_size}
        check_counts(optional, batch_size=batch_size)
        if not 0 < val_share < 1:
            raise InputError(f"val_share: expected a share between 0 and 1, got {val_share}")
        own = JointTransform.for_backbone(backbone, image_size)
        colors = {} if normalize else {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
        self.transform = replace(own, canvas=own.image_size, **colors)  # type: ignore[arg-type]
        self.folder, self.download, self.sha256 = Path(folder), download, sha256
        self.part_maps, self.interventions = part_maps or interventions, interventions
        self.val_share, self.train_size, self.test_size = val_share, train_size, test_size
        self.batch_size, self.num_workers = batch_size, num_workers
        awaited = download and not self.folder.exists()
        self.bird_classes: list[dict[str, Any]] = [] if awaited else read_classes(self.folder)
        self.normalized = normalize
        self.classes = tuple(f"class {i}" for i in range(len(self.bird_classes) or OFFICIAL_CLASSES))
        self.datasets: dict[str, FunnyBirds] = {}

    @property
    def title(self) -> str:
        """What the images are, for tables."""
        return f"FunnyBirds in {Path(self.folder).resolve().name}"

    def identity(self) -> dict[str, Any]:
        """Besides its arguments the lists of classes and of test images."""
        lists = b"".join((self.folder / name).read_bytes() for name in ("classes.json", "dataset_test.json"))
        return {**super().identity(), "lists": hashlib.blake2b(lists, digest_size=16).hexdigest()}

    def own_scorer(self, batch: Mapping[str, Any], chunk: int | None = None) -> BirdScorer | None:
        """FunnyBirds' own scores, where the batches have the interventions."""
        return BirdScorer(self.bird_classes, chunk) if "subsets" in batch else None

    def prepare_data(self) -> None:
        """Fetch the archive if it is asked for and needed; Lightning calls this on one process."""
        if self.download and not self.folder.exists():
            fetch_archive(URL, self.folder, self.sha256)

    def setup(self, stage: str) -> None:
        """Read the lists of the splits that ``stage`` needs, and check that their files are there."""
        self.bird_classes = read_classes(self.folder)
        if len(self.bird_classes) != len(self.classes):
            raise InputError(
                f"folder: {self.folder} has {len(self.bird_classes)} classes, not the {len(self.classes)} that the "
                "network was built for; start again"
            )
        new = [split for split in STAGE_SPLITS[stage] if split not in self.datasets]
        if not new:
            return
        official = "test" if "test" in new else "train"
        labels = [entry["class_idx"] for entry in read_entries(self.folder, official, len(self.classes))]
        if official == "test":
            self.datasets["test"] = FunnyBirds(
                self.folder,
                "test",
                self.transform,
                self.part_maps,
                self.interventions,
                keep=_in_turn(_spread("test_size", range(len(labels)), labels, self.test_size), labels),
            )
            return
        held_out = _held_out(labels, self.val_share)
        if not held_out:
            raise InputError(f"folder: no class of {self.folder} has 2 training images, so none can be for validation")
        rest = sorted(set(range(len(labels))) - set(held_out))  # whatever train_size is, so that it moves no image
        keep = {"train": _spread("train_size", rest, labels, self.train_size), "val": held_out}
        for split in new:
            self.datasets[split] = FunnyBirds(self.folder, "train", self.transform, keep=keep[split])

    def train_dataloader(self) -> DataLoader:
        """The training images in another order every epoch, without the last incomplete batch."""
        persistent = not getattr(self.trainer, "reload_dataloaders_every_n_epochs", 0)
        return training_loader(self.datasets["train"], self.batch_size, self.num_workers, True, persistent)

    def val_dataloader(self) -> DataLoader:
        """The training images that are held out, each once."""
        return evaluation_loader(self.datasets["val"], self.batch_size, self.num_workers)

    def test_dataloader(self) -> DataLoader:
        """The test images, each once."""
        return evaluation_loader(self.datasets["test"], self.batch_size, self.num_workers, collate)


def _held_out(labels: Sequence[int], share: float) -> list[int]:
    """Places of the validation images: evenly spaced within each class."""
    positions: dict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(labels):
        positions[label].append(position)
    result = []
    for of_class in positions.values():
        if (count := len(of_class)) > 1:
            result += _evenly(of_class, min(count - 1, max(1, round(share * count))))
    return sorted(result)


def _spread(argument: str, positions: Sequence[int], labels: Sequence[int], size: int | None) -> list[int]:
    """So many of the places, with each class as often as the others, as far as the list allows."""
    if size is None:
        return list(positions)
    if size > len(positions):
        raise InputError(f"{argument}: there are only {len(positions)} images, got {size}; null takes all")
    return sorted(_evenly(sorted(positions, key=lambda position: labels[position]), size))


def _in_turn(positions: Sequence[int], labels: Sequence[int]) -> list[int]:
    """An image of each class, then another of each: the first ones are those that figures show."""
    seen: Counter[int] = Counter()

    def turn(position: int) -> tuple[int, int]:
        seen[labels[position]] += 1
        return seen[labels[position]], labels[position]

    return sorted(positions, key=turn)


def _evenly(positions: Sequence[int], count: int) -> list[int]:
    return [positions[i * len(positions) // count] for i in range(count)]
