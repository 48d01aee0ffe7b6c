"""How models are compared: the grid of runs, held-out results and the best model."""
