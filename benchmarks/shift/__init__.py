"""Effect of normal images from another source, and its remedy: ``python -m benchmarks.shift``."""
