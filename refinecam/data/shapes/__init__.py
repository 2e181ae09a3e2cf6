"""Geometric shapes over busy backgrounds: images whose explanation is known to the pixel."""

from refinecam.data.shapes.dataset import ShapesDataset
from refinecam.data.shapes.drawing import CLASSES
from refinecam.data.shapes.module import CropStage, ShapesDataModule

__all__ = ["CLASSES", "CropStage", "ShapesDataModule", "ShapesDataset"]
