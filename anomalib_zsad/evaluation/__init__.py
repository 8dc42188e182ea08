"""Evaluation of raw scores, decisions, and what is written of them."""
