"""Scores as tables, explanations and DICOM objects; only evaluation, api and cli may import them."""
