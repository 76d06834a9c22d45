"""Self-attention and the transformer encoder."""
