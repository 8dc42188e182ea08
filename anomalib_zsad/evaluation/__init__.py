"""Evaluation of raw scores, decisions, and what is written of them."""

from anomalib_zsad.evaluation.evaluator import ZeroShotEvaluator
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.evaluation.predictions import PredictionWriter
from anomalib_zsad.evaluation.visualizer import CategoryVisualizer

__all__ = ["CategoryVisualizer", "MonotonePostProcessor", "PredictionWriter", "ZeroShotEvaluator"]
