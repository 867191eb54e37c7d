"""Effect of each choice of the default preset, measured on train folders: ``python -m benchmarks.ablation``."""
