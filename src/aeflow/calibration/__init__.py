"""Statistics of normals that turn raw measures into scores; backends, scoring and all above may import them."""
