"""Choice, export and timing of what runs a trained model; only api and cli may import it."""
