"""Training examples: windows of sequences, written as TFRecord files and read back in batches."""
