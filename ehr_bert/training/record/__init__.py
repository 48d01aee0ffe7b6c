"""The training folder: checkpoints, metrics log, progress and ancestry."""
