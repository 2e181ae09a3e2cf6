"""What TensorBoard shows of a training."""

from refinecam.callbacks.final_metrics import FinalMetrics
from refinecam.callbacks.pictures import TrainingPictures

__all__ = ["FinalMetrics", "TrainingPictures"]
