"""A classifier, attribution methods and scores, brought together."""

from refinecam.evaluation.evaluator import Evaluator
from refinecam.evaluation.report import report

__all__ = ["Evaluator", "report"]
