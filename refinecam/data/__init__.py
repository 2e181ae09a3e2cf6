"""Images, labels and ground truth."""

from refinecam.data.funnybirds import FunnyBirdsDataModule
from refinecam.data.shapes import CLASSES, CropStage, ShapesDataModule, ShapesDataset
from refinecam.data.transforms import JointTransform

__all__ = ["CLASSES", "CropStage", "FunnyBirdsDataModule", "JointTransform", "ShapesDataModule", "ShapesDataset"]
