"""Comparison of models: the grid of runs, held-out results and the best model."""
