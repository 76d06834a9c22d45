"""The CPU backend whose loops are compiled by Numba, for who installs it.

Products are those of SciPy's BLAS, which Numba's ``np.dot`` calls; what lies between them is one
pass over rows that are in the cache. The plain NumPy backend remains the reference: what every
function here has to equal is that one's result. Numba is imported in this folder only.

A compiled function is stored beside its file, or in the user's cache where that cannot be written
to, and compiled again when a file of this folder changes.
"""
