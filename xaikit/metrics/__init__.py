"""Metrics of explanations: each a function of maps and truth, or of maps and the model."""
