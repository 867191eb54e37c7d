"""NEW WING aeflow.calibration."""
