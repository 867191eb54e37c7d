"""Choice, export and timing of the backend that runs a trained model; only api and cli may import it."""
