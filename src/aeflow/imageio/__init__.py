"""Readers that turn an untrusted file into pixels in [0, 1]; all but model, metrics and runtime may import them."""
