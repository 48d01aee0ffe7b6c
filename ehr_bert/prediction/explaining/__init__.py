"""Explanations: contributions of codes and visits to a prediction, attention, and token embeddings."""
