"""FunnyBirds, a data set of birds whose parts can be removed one by one."""

from refinecam.data.funnybirds.dataset import FunnyBirds
from refinecam.data.funnybirds.module import FunnyBirdsDataModule

__all__ = ["FunnyBirds", "FunnyBirdsDataModule"]
