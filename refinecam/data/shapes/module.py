"""LightningDataModule of the shapes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.utils.data import ConcatDataset, DataLoader

from refinecam.core.backbones import takes_any_size
from refinecam.core.errors import InputError, check_choice, check_counts, check_not_negative, check_range
from refinecam.core.progress import ends, training_progress
from refinecam.data.base import STAGE_SPLITS, DataModule
from refinecam.data.sampling import evaluation_loader, training_loader
from refinecam.data.shapes.backgrounds import Backgrounds, Image
from refinecam.data.shapes.dataset import CONTROLS, LEAST_ACCURACY, ShapesDataset
from refinecam.data.shapes.drawing import BANDS, CANVAS, CLASSES, STYLES, Bands, Style
from refinecam.data.shapes.pages import SPLITS, read_splits
from refinecam.data.shapes.scenes import CrowdScenes
from refinecam.data.transforms import JointTransform

PROCEDURAL = "procedural"


@dataclass
class CropStage:
    """A stretch of the training curriculum.

    Attributes:
        crop: side in pixels of the square views, in which a shape lies anywhere, up to the border; in the whole images
            that follow, even of the same size, it keeps the distance from the border that the largest shape needs.
        share: of the training that it lasts, by the first of max_epochs, max_steps and max_time that ends it.
        fill: scale every shape so that it can reach over 0.5 to 0.9 of the view; otherwise only too large ones.
        train_size: samples an epoch; null for the data module's.
        bands: size bands; null for the data module's. One that is listed twice is drawn twice as often.
    """

    crop: int
    share: float
    fill: bool = False
    train_size: int | None = None
    bands: list[tuple[float, float]] | None = None


class ShapesDataModule(DataModule):
    """Shapes over procedural scenes or over a folder of pictures.

    Training from scratch needs small views first: give a ``curriculum`` of crops, which are followed by whole
    images, and ``reload_dataloaders_every_n_epochs 1``. Every epoch draws new samples.

    Args:
        backbone: timm name of the network; decides input size and normalization.
        image_size: side of the images; null for the backbone's own.
        backgrounds: folder of images, searched recursively and split by page; ``procedural`` or null for scenes that
            are drawn; or a list of these, each drawn from equally often.
        train_size: samples an epoch.
        val_size: validation samples.
        test_size: test samples.
        batch_size: samples a batch, of each process.
        num_workers: processes that draw samples, for each loader.
        style: ``varied`` shapes; ``paper``, drawn as the paper's public code does; or, to test a network, ``both``: as
            many test samples of each.
        bands: (low, high) of each size band, in pixels on a canvas of 256 px; null for the paper's, [[80, 100],
            [40, 50], [20, 25]].
        scenes: number of procedural scenes for training.
        held_out_scenes: number of procedural scenes for each of validation and test.
        imputed: share of backgrounds with regions imputed like ROAD's.
        augment: turn, zoom and recolor the training backgrounds.
        curriculum: views around the shape for the first epochs, usually the smallest first; whole images follow. A
            list of stages such as ``{crop: 64, share: 0.2}``; :class:`CropStage` has what else they take.
        controls: add to the test batches control images and factors, which show whether a network uses the shape.
        seed: seed of every draw.
    """

    transform: JointTransform
    classes = CLASSES
    expected_of_controls = CONTROLS
    least_accuracy = LEAST_ACCURACY

    def __init__(
        self,
        backbone: str = "resnet18",
        image_size: int | None = None,
        backgrounds: str | list[str] | None = None,
        train_size: int = 4096,
        val_size: int = 600,
        test_size: int = 600,
        batch_size: int = 32,
        num_workers: int = 0,
        style: Literal["varied", "paper", "both"] = "varied",
        bands: list[tuple[float, float]] | None = None,
        scenes: int = 128,
        held_out_scenes: int = 64,
        imputed: float = 0.5,
        augment: bool = True,
        curriculum: tuple[CropStage, ...] | None = None,  # jsonargparse would merge a list with that of the config
        controls: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.hparams["curriculum"] = [vars(stage) for stage in curriculum or []]  # plain values, for checkpoints
        counts = {"train_size": train_size, "val_size": val_size, "test_size": test_size}
        counts |= {"batch_size": batch_size, "scenes": scenes, "held_out_scenes": held_out_scenes}
        check_counts({"image_size": image_size}, **counts)
        check_not_negative(num_workers=num_workers)
        _check_bands(bands)
        for stage in curriculum or []:
            _check_bands(stage.bands)
            check_range(0, 1, share=stage.share)
            check_counts({"train_size": stage.train_size})
        if (total := sum(stage.share for stage in curriculum or [])) >= 1:
            raise InputError(f"curriculum: its shares add up to {total:g}, which leaves no time for whole images")
        self.transform = JointTransform.for_backbone(backbone, image_size)
        other = {stage.crop for stage in curriculum or []} - {self.transform.image_size}
        if other and not takes_any_size(backbone):
            raise InputError(
                f"curriculum: {backbone} takes images of {self.transform.image_size} px only, no views of {min(other)} "
                "px; leave these out: curriculum []"
            )
        self.sources = [backgrounds or PROCEDURAL] if not isinstance(backgrounds, list) else backgrounds
        if not self.sources:
            raise InputError(f"backgrounds: the list is empty; name folders, or {PROCEDURAL!r}")
        self.scenes = {"train": scenes, "val": held_out_scenes, "test": held_out_scenes}
        self.imputed, self.augment, self.seed = imputed, augment, seed
        self.sizes = {"train": train_size, "val": val_size, "test": test_size}
        self.batch_size, self.num_workers, self.controls = batch_size, num_workers, controls
        self.style, self.bands = style, _as_bands(bands) or BANDS
        self.curriculum = tuple(curriculum or ())
        self.pictures: dict[str, dict[str, list[Image]]] = {}
        self.banks: dict[tuple[str, int], list[Backgrounds]] = {}

    def setup(self, stage: str) -> None:
        """Read or draw the backgrounds of the splits that ``stage`` needs."""
        if stage == "fit" and self.curriculum:
            if not self._reloaded():
                raise InputError("curriculum: crops change between epochs; add reload_dataloaders_every_n_epochs 1")
            if self.trainer and not ends(self.trainer):
                raise InputError(
                    "curriculum: its stages are shares of a training, and nothing says when this one ends; give "
                    "max_epochs, max_steps or max_time"
                )
        # What does not fit is found before backgrounds are drawn, which takes minutes.
        for style in self.styles:
            ShapesDataset([], self.transform, "test", 1, self.seed, style, self.bands)
        if stage == "fit":
            if self.style == "both":
                raise InputError("style: both is for tests; train on varied shapes, or on the paper's")
            self._check_curriculum()
        for source in self.sources:
            if source != PROCEDURAL and source not in self.pictures:
                self.pictures[source] = read_splits(source)
        for split in STAGE_SPLITS[stage]:
            for canvas in dict.fromkeys(map(self._canvas, self.styles)):
                if (split, canvas) not in self.banks:
                    banks = {source: self._bank(source, split, canvas) for source in dict.fromkeys(self.sources)}
                    self.banks[split, canvas] = [banks[source] for source in self.sources]  # twice named, twice drawn

    def _canvas(self, style: Style) -> int:
        return CANVAS if style == "paper" else self.transform.canvas

    def _bank(self, source: str, split: str, canvas: int) -> Backgrounds:
        procedural = source == PROCEDURAL
        pictures = CrowdScenes(self.scenes[split], self.seed, split) if procedural else self.pictures[source][split]
        augment = self.augment and split == "train"
        return Backgrounds(pictures, canvas, self.imputed, seed=self.seed, split=split, augment=augment)

    def _check_curriculum(self) -> None:
        """Find what is wrong with a later stage before the first one has cost its time."""
        for stage in (*self.curriculum, None):
            self._training_set(0, stage, [])

    @property
    def title(self) -> str:
        """What the images are, for tables."""
        drawn = "" if self.style == "varied" else "paper-style " if self.style == "paper" else "varied and paper-style "
        return f"{drawn}shapes on {' and '.join(self.sources)} backgrounds, seed {self.seed}"

    def identity(self) -> dict[str, Any]:
        """Besides its arguments the pictures of the test's backgrounds; of one style images may be added."""
        digest = hashlib.blake2b(digest_size=16)
        for source in self.pictures:
            for picture in self.pictures[source]["test"]:
                digest.update(picture.data)
        own = super().identity() | ({"pictures": digest.hexdigest()} if self.pictures else {})
        if self.style != "both":
            own.pop("test_size", None)
            own["images"] = self.sizes["test"]
        return own

    def describe(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        """Size band and style of each image."""
        bands = ["{:g}-{:g} px".format(*self.bands[band]) for band in batch["band"].tolist()]
        return {"band": bands, "style": [STYLES[style] for style in batch["style"].tolist()]}

    @property
    def styles(self) -> tuple[Style, ...]:
        """The styles of the test samples, in their order."""
        return STYLES if self.style == "both" else (self.style,)

    def dataset(self, split: str) -> ShapesDataset | ConcatDataset:
        """Whole images of one split; see :class:`~refinecam.data.shapes.ShapesDataset`."""
        check_choice(SPLITS, split=split)
        controls, size = self.controls and split == "test", self.sizes[split]
        result = [
            ShapesDataset(
                self.prepared(split, style),
                self.transform,
                split,
                size,
                self.seed,
                style,
                self.bands,
                offset=i * size,
                controls=controls,
            )
            for i, style in enumerate(self.styles)
        ]
        return result[0] if len(result) == 1 else ConcatDataset(result)

    def prepared(self, split: str, style: Style | None = None) -> list[Backgrounds]:
        """The banks of backgrounds of a split, for a style; None for the only one."""
        canvas = self._canvas(style or self.styles[0])
        if (split, canvas) not in self.banks:
            stage = "test" if split == "test" else "fit"
            raise InputError(f"setup: the backgrounds for {split} are not there yet; call setup({stage!r}) first")
        return self.banks[split, canvas]

    def training_set(self, epoch: int = 0, progress: float = 0.0) -> ShapesDataset:
        """New samples of an endless data set, as the curriculum shows them.

        Args:
            epoch: the same one has the same samples, another one none of them.
            progress: share of the training that is over.
        """
        for stage in self.curriculum:
            progress -= stage.share
            if progress < -1e-9:
                return self._training_set(epoch, stage, self.prepared("train"))
        return self._training_set(epoch, None, self.prepared("train"))

    def _training_set(self, epoch: int, stage: CropStage | None, banks: list[Backgrounds]) -> ShapesDataset:
        whole = self.sizes["train"]
        offset = epoch * max([whole, *(stage.train_size or whole for stage in self.curriculum)])
        size, crop, fill, bands = whole, None, False, self.bands
        if stage is not None:
            size, crop, fill = stage.train_size or whole, stage.crop, stage.fill
            bands = _as_bands(stage.bands) or bands
        (style,) = self.styles
        return ShapesDataset(
            banks, self.transform, "train", size, self.seed, style, bands, offset, crop, fill, as_bytes=True
        )

    def train_dataloader(self) -> DataLoader:
        """New samples for the current epoch, if loaders are reloaded with every epoch.

        Images and masks are uint8 until ``on_after_batch_transfer``: floats would take four times as long to get there.
        """
        reloaded = self._reloaded()
        at = (self.trainer.current_epoch, training_progress(self.trainer)) if reloaded and self.trainer else ()
        dataset = self.training_set(*at)
        shuffle = not reloaded  # new samples need no shuffling
        return training_loader(dataset, self.batch_size, self.num_workers, shuffle, persistent=not reloaded)

    def _reloaded(self) -> bool:
        return getattr(self.trainer, "reload_dataloaders_every_n_epochs", 1) == 1

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Normalize a training batch on its device."""
        if "image" not in batch or batch["image"].dtype != torch.uint8:
            return batch
        batch = self.transform.normalize(batch)
        # Lightning has given floats the trainer's precision already: there were none.
        return self.trainer.precision_plugin.convert_input(batch) if self.trainer else batch

    def val_dataloader(self) -> DataLoader:
        """Whole validation images, each once."""
        return evaluation_loader(self.dataset("val"), self.batch_size, self.num_workers)

    def test_dataloader(self) -> DataLoader:
        """Whole test images, each once."""
        return evaluation_loader(self.dataset("test"), self.batch_size, self.num_workers)


def _check_bands(bands: list[tuple[float, float]] | None) -> None:
    for low, high in bands or []:
        if not 0 < low <= high:
            raise InputError(f"bands: expected (low, high) with 0 < low <= high, got ({low}, {high})")


def _as_bands(bands: list[tuple[float, float]] | None) -> Bands:
    return tuple((low, high) for low, high in bands or [])
