"""NEW WING aeflow.tuning."""
