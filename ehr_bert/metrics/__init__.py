"""How good predictions are: discrimination, calibration, use; each with its interval."""
