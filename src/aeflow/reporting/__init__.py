"""NEW WING aeflow.reporting."""
