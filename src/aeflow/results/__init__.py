"""NEW WING aeflow.results."""
