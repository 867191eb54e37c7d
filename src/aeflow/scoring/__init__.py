"""NEW WING aeflow.scoring."""
