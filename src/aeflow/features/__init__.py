"""Frozen features of the encoder, computed once and cached; artifacts, training and tuning may import them."""
