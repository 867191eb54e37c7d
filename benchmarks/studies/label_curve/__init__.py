"""Value of labelled and unlabelled images: ``python -m benchmarks.studies.label_curve``."""
