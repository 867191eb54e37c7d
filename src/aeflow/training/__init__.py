"""NEW WING aeflow.training."""
