"""Training of a run from a data folder, and its recalibration; only tuning, api and cli may import it."""
