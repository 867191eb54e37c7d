"""The one way from images to calibrated scores; artifacts and every wing above it may import it."""
