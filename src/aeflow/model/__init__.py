"""The model: encoder, flow, prior, decoder. Pure tensors: no image files, no printing."""
