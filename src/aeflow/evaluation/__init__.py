"""Measurement of a model on labelled images, with figures and a report; only api and cli may import it."""
