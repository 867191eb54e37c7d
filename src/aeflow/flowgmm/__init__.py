"""NEW WING aeflow.flowgmm."""
