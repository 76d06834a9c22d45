"""NumPy's fast passes: the mathematics of the reference, in arrays that are used again."""
