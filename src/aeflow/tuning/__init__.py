"""Search for better settings on train images alone; only api and cli may import it."""
