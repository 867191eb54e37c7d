"""Programs that measure aeflow, by subject; run them from the repository's root as ``python -m benchmarks.quality``."""
