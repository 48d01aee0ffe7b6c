"""Multitask training: several tasks on one encoder, and each task fine-tuned after that."""
