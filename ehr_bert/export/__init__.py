"""Export of a pretrained Keras model to a stock Hugging Face folder, with a check that both are equal."""

MIN_PATIENTS = 5
"""By default an export omits codes that fewer patients of the training split have."""
