"""NEW WING aeflow.runtime."""
