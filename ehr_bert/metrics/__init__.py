"""Metrics of predictions, their uncertainty, and calibration: arrays in, figures out."""
