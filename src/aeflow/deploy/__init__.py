"""NEW WING aeflow.deploy."""
