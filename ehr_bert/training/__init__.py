"""Pretraining in TensorFlow: the recipe, the step, the loop, and the folder that a run leaves."""
