"""Evaluation of raw scores and decisions, and the files that hold the results."""

from anomalib_zsad.evaluation.evaluator import ZeroShotEvaluator
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.evaluation.predictions import PredictionWriter
from anomalib_zsad.evaluation.visualizer import CategoryVisualizer

__all__ = ["CategoryVisualizer", "MonotonePostProcessor", "PredictionWriter", "ZeroShotEvaluator"]
