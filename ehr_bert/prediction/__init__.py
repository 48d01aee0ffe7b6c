"""Fine-tuning, baselines on the same patients, predictions and their explanation, in PyTorch."""
