"""Runs and exported graphs on disk, checked when loaded; deploy, training, results and above may import them."""
