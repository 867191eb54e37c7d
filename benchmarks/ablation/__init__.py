"""Effect of each choice of the preset aeflow-1, measured on train folders: ``python -m benchmarks.ablation``."""
