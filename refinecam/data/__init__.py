"""Images, labels and ground truth."""

from refinecam.data.base import REPORTS, DataModule, OwnReport, OwnScorer, OwnScores, data_of
from refinecam.data.funnybirds import FunnyBirdsDataModule
from refinecam.data.images import ImagesDataModule
from refinecam.data.shapes import CLASSES, CropStage, ShapesDataModule, ShapesDataset
from refinecam.data.transforms import JointTransform

__all__ = [
    "CLASSES",
    "REPORTS",
    "CropStage",
    "DataModule",
    "FunnyBirdsDataModule",
    "ImagesDataModule",
    "JointTransform",
    "OwnReport",
    "OwnScorer",
    "OwnScores",
    "ShapesDataModule",
    "ShapesDataset",
    "data_of",
]
