"""What TensorBoard shows of a training, and what becomes of an earlier one."""

from refinecam.callbacks.earlier_weights import EarlierWeights
from refinecam.callbacks.final_metrics import FinalMetrics
from refinecam.callbacks.pictures import TrainingPictures

__all__ = ["EarlierWeights", "FinalMetrics", "TrainingPictures"]
