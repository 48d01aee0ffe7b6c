"""Metrics of predictions with their intervals: discrimination, calibration, net benefit."""
