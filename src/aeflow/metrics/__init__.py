"""Areas, rates and their intervals from arrays of scores; every wing may import them."""
