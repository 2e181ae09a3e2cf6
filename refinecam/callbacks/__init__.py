"""What TensorBoard shows while a training runs."""

from refinecam.callbacks.pictures import FinalMetrics, TrainingPictures

__all__ = ["FinalMetrics", "TrainingPictures"]
