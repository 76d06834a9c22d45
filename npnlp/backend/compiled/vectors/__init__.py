"""Compilation: kernels, vector code, tiles of a matrix product."""
