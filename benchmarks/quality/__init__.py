"""Accuracy on test splits, beside simple controls and other libraries: ``python -m benchmarks.quality``."""
