"""A pretrained Keras model as a stock Hugging Face folder with a tokenizer, proven equal in PyTorch."""
