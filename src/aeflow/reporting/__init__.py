"""Figures, score pictures and HTML pages in one style; audit, results, evaluation and tuning may import them."""
