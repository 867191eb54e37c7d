"""NEW WING aeflow.imageio."""
