"""A classifier, attribution methods and scores, brought together."""

from refinecam.evaluation.evaluator import SCORES, Evaluator

__all__ = ["SCORES", "Evaluator"]
