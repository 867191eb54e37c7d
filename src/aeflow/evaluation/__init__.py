"""How good a model is, with intervals, and what that looks like."""
