"""NEW WING aeflow.metrics."""
