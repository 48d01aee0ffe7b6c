"""Export of a pretrained Keras model to a stock Hugging Face folder, with a check that both are equal."""

MIN_PATIENTS = 5
"""Default for codes: an export omits those of fewer patients of the training split."""
