"""NEW WING aeflow.features."""
