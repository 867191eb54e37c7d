"""Speed and memory of scoring and training, beside other programs: ``python -m benchmarks.speed``."""
