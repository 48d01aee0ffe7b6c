"""A pretrained Keras model as a stock Hugging Face folder with a tokenizer, proven equal in PyTorch."""

MIN_PATIENTS = 5
"""A code that fewer patients of the training split have leaves the vocabulary of an export."""
