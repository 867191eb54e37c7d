"""Studies of one question each, run as ``python -m benchmarks.studies.anomaly_map``."""
