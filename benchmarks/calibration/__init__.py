"""Calibration of p-values, probabilities and verdicts: ``python -m benchmarks.calibration``."""
