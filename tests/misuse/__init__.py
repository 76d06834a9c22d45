"""Random misuses of layers, losses, packings and models: each is refused, or right."""
