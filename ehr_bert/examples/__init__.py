"""Examples: what the model is trained on, cut from sequences, written as TFRecord files, and read back."""
