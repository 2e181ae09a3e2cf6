"""Images, labels and ground truth."""

from refinecam.data.funnybirds import FunnyBirdsDataModule
from refinecam.data.shapes import CLASSES, ShapesDataset
from refinecam.data.shapes_module import CropStage, ShapesDataModule
from refinecam.data.transforms import JointTransform

__all__ = ["CLASSES", "CropStage", "FunnyBirdsDataModule", "JointTransform", "ShapesDataModule", "ShapesDataset"]
