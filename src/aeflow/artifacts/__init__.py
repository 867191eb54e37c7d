"""NEW WING aeflow.artifacts."""
