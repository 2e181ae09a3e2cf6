"""Pictures of one's own, and ImageNet."""

from refinecam.data.images.module import ImagesDataModule

__all__ = ["ImagesDataModule"]
