"""How fast the review service answers, what it bears, and what a kill costs it."""
