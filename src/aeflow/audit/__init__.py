"""Checks of a data folder for leaks, copies and shortcuts, with a report; only api and cli may import them."""
