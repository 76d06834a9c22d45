"""NumPy's fast passes: the equations of the reference, in reused arrays."""
