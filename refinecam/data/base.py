"""What a data module says of itself, to the evaluation and to what TensorBoard shows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import lightning as L
import pandas as pd
import torch
from torch import Tensor, nn

from refinecam.core.running import Method
from refinecam.data.transforms import JointTransform

STAGE_SPLITS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}
"""Splits that each of Lightning's stages needs."""


UNIMPORTANT = {"batch_size", "num_workers", "train_size", "val_size", "val_share", "curriculum", "augment", "download"}
"""Arguments of data modules that do not change the test images."""


class OwnScores(NamedTuple):
    """What a data set's own scorer has to say of one method and one batch.

    Attributes:
        maps: of the explained classes, for all images of the batch, (N, 1, H, W).
        columns: scores for the per-image table, each (N,).
        rows: of the scorer's own table, one an image: whatever its report is made of.
    """

    maps: Tensor
    columns: dict[str, Tensor]
    rows: list[dict[str, Any]]


class OwnScorer(Protocol):
    """Scores that only one data set has, beside those that every map can have."""

    table: str
    """Name of its table, by which :data:`REPORTS` knows what to make of it."""

    def start(self, network: nn.Module, batch: Mapping[str, Any]) -> None:
        """Take the next batch, before the first method is scored on it."""

    def score(self, method: Method, targets: Tensor) -> OwnScores:
        """Explain and score the batch by one method."""


class OwnReport(NamedTuple):
    """A data set's own scores over all images: as a table, as text, and as values to log."""

    table: pd.DataFrame
    text: str
    values: dict[str, float]


REPORTS: dict[str, Callable[[pd.DataFrame], OwnReport]] = {}
"""For each table of an :class:`OwnScorer` what makes its report, from the table alone."""


class DataModule(L.LightningDataModule):
    """A LightningDataModule whose batches are dicts, and what else is known of its images.

    Batches have ``image`` (N, 3, H, W), ``label`` (N,) and ``index`` (N,), an image's place in the data set; where
    known ``mask`` (N, 1, H, W), ground truth in {0, 1}. Test batches may have ``controls``, further versions of the
    images, and ``factors``, values (N, K) that must not predict the label, both dicts by name.

    Any other LightningDataModule with such batches serves as well; nothing is known of its images then.

    Attributes:
        classes: names of the classes; empty where not known.
        transform: of its images; None where not known.
        normalized: whether the images are normalized as their backbone's; otherwise their colors are in [0, 1].
        least_classes: that a network must have for the labels.
        expected_of_controls: for each control the accuracy to expect: ``"chance"`` or ``"same"``.
        least_accuracy: of all images and of the smallest band, of a network that is worth explaining.
    """

    classes: Sequence[str] = ()
    transform: JointTransform | None = None
    normalized: bool = True
    least_classes: int = 0
    expected_of_controls: Mapping[str, str] = {}
    least_accuracy: tuple[float, float] | None = None

    @property
    def title(self) -> str:
        """What the images are, for tables."""
        return type(self).__name__

    def identity(self) -> dict[str, Any]:
        """What decides which test images there are: the class and its arguments.

        A number named ``images`` may grow: with more images the others stay as they are.
        """
        values = {name: str(value) for name, value in self.hparams.items() if name not in UNIMPORTANT}
        return {"class": f"{type(self).__module__}.{type(self).__qualname__}", **values}

    def describe(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Further columns of the table of predictions, for example ``band``, each with a value an image."""
        return {}

    def own_scorer(self, batch: Mapping[str, Any], chunk: int | None = None) -> OwnScorer | None:
        """Scores of its own, if this first batch has what they need.

        Args:
            batch: of the test.
            chunk: images that go through the network at once; None for what suits the device.
        """
        return None

    @property
    def black(self) -> Tensor | None:
        """A black pixel as the network sees it, shape (3, 1, 1); None where no transform knows it."""
        if self.transform is None:
            return None
        return self.transform.normalize({"image": torch.zeros(3, 1, 1, dtype=torch.uint8)})["image"]

    def colors(self, images: Tensor) -> Tensor:
        """Images (…, 3, H, W) as they are shown: in their colors, or, where no transform knows these, stretched."""
        if self.transform is not None:
            return self.transform.denormalize(images)
        low, high = (bound((-3, -2, -1), keepdim=True) for bound in (images.amin, images.amax))
        inside = (low >= 0) & (high <= 1)
        return torch.where(inside, images, (images - low) / (high - low).clamp(min=1e-6))


class _Unknown(DataModule):
    """Stands for a data module, or for loaders, that say nothing."""

    def __init__(self, data: L.LightningDataModule | None) -> None:
        super().__init__()
        self.data = data
        self.classes = [str(name) for name in getattr(data, "classes", ())]

    @property
    def title(self) -> str:
        return type(self.data).__name__ if self.data is not None else "images"

    def identity(self) -> dict[str, Any]:
        return {} if self.data is None else DataModule.identity(self.data)  # type: ignore[arg-type]


def data_of(trainer: L.Trainer) -> DataModule:
    """The trainer's data module, or what stands for one that is not ours."""
    data = getattr(trainer, "datamodule", None)
    return data if isinstance(data, DataModule) else _Unknown(data)
