"""FunnyBirds: birds whose parts can be removed, in the authors' files or drawn here, and its scores.

Hesse et al., "FunnyBirds: A Synthetic Vision Dataset for a Part-Based Analysis of Explainable AI Methods", ICCV 2023.
"""

from refinecam.data.funnybirds.dataset import FunnyBirds
from refinecam.data.funnybirds.evaluation import BirdBatch, BirdEvaluation
from refinecam.data.funnybirds.module import FunnyBirdsDataModule
from refinecam.data.funnybirds.summary import FunnyBirdsSummary, bird_rows, summarize_birds

__all__ = [
    "BirdBatch",
    "BirdEvaluation",
    "FunnyBirds",
    "FunnyBirdsDataModule",
    "FunnyBirdsSummary",
    "bird_rows",
    "summarize_birds",
]
