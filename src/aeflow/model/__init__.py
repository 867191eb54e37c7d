"""The network as pure tensors: encoder, flow, decoder, classes; all but imageio, data and metrics may import it."""
