"""Compiling: kernels, vectors of the processor, tiles of a product."""
