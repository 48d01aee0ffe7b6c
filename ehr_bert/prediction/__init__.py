"""PyTorch: fine-tuning, baselines on the same patients, predictions and what they rest on."""
