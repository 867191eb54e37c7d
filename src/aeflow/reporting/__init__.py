"""Figures, score pictures and HTML pages in one style; scoring and every wing above it may import them."""
