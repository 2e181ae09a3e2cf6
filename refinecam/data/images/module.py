"""LightningDataModule of pictures in a folder."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import DataLoader

from refinecam.core.backbones import data_config
from refinecam.core.errors import check_choice, check_counts, check_not_negative, check_range
from refinecam.data.base import DataModule
from refinecam.data.images.dataset import RESAMPLING, Pictures, collate
from refinecam.data.images.listing import choose, list_pictures
from refinecam.data.sampling import evaluation_loader
from refinecam.data.transforms import JointTransform


class ImagesDataModule(DataModule):
    """Labeled pictures of any kind, or ImageNet, to evaluate a classifier on.

    ``root`` has a folder of pictures for each class, or pictures and a table of labels. Folders named as ImageNet's
    classes (``n01440764``), in any number, have the labels of its 1000 classes. See
    :func:`~refinecam.data.images.listing.list_pictures` for all layouts.

    Args:
        backbone: timm name of the network, whose evaluation transform is taken.
        image_size: side of the images; null for the backbone's own.
        root: folder of the pictures.
        labels: table of labels, a CSV file of files and labels for example; null for folders that are classes.
        masks: folder of ground truth, images of the pictures' names: all scores with ground truth then work.
        subset: number of pictures to draw; null for all.
        stratified: draw as many of each class.
        seed: of the drawing; the same files are drawn on every machine.
        crop: cut out the center, as in timm's evaluation; otherwise the whole picture is resized to a square.
        crop_pct: share of the shorter side that the center has; null for the backbone's own.
        interpolation: of the resizing, likewise.
        mean: of each color, for colors in [0, 1], likewise.
        std: of each color, likewise.
        on_error: skip files that cannot be read, which are counted and listed, or stop.
        batch_size: pictures a batch, of each process.
        num_workers: processes that read pictures.

    Attributes:
        classes: names of the classes; empty where labels are numbers.
        pictures: those that are evaluated, with their labels and their places among all files.
    """

    transform: JointTransform

    def __init__(
        self,
        backbone: str = "resnet18",
        image_size: int | None = None,
        root: str = "data/imagenet",
        labels: str | None = None,
        masks: str | None = None,
        subset: int | None = None,
        stratified: bool = False,
        seed: int = 0,
        crop: bool = True,
        crop_pct: float | None = None,
        interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        on_error: Literal["skip", "stop"] = "skip",
        batch_size: int = 32,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        check_counts({"image_size": image_size, "subset": subset}, batch_size=batch_size)
        check_not_negative(seed=seed, num_workers=num_workers)
        check_range(0.01, 1, **({} if crop_pct is None else {"crop_pct": crop_pct}))
        check_choice(("skip", "stop"), on_error=on_error)
        check_choice((None, *RESAMPLING), interpolation=interpolation)
        config = data_config(backbone) | ({} if crop_pct is None else {"crop_pct": crop_pct})
        own = JointTransform.of_config(config, image_size)
        given = {"mean": mean, "std": std, "interpolation": interpolation}
        changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        self.transform = replace(own, **changed)
        self.listing = list_pictures(root, labels)
        self.pictures = choose(self.listing, subset, stratified, seed)
        self.classes = self.listing.classes
        self.least_classes = 1 + max(picture.label for picture in self.pictures)
        self.dataset = Pictures(
            self.pictures, self.transform, self.listing.root, Path(masks) if masks else None, crop, on_error
        )
        self.batch_size, self.num_workers, self.subset = batch_size, num_workers, subset

    @property
    def title(self) -> str:
        """What the images are, for tables."""
        drawn = f"{len(self.pictures)} of " if self.subset else ""
        return f"{drawn}{len(self.listing.pictures)} pictures in {self.root_name}"

    @property
    def root_name(self) -> str:
        """Last part of the root, and the split below it where one was taken."""
        root = Path(self.hparams["root"]).resolve()
        return str(root.name / self.listing.root.resolve().relative_to(root))

    def identity(self) -> dict[str, Any]:
        """Besides its arguments the files' names, sizes and labels, wherever they are."""
        digest = hashlib.blake2b(digest_size=16)
        for picture in self.pictures:
            name = picture.file.relative_to(self.listing.root)
            size = picture.file.stat().st_size if picture.file.is_file() else 0
            digest.update(os.fsencode(f"{name} {picture.label} {size}\n"))
        return {**super().identity(), "root": self.root_name, "files": digest.hexdigest()}

    def describe(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """The files' names."""
        return {"file": list(batch["file"])}

    def test_dataloader(self) -> DataLoader:
        """The pictures, each once."""
        return evaluation_loader(self.dataset, self.batch_size, self.num_workers, collate)
