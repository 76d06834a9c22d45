"""The CPU backend whose loops are compiled by Numba, for who installs it.

Products are made of tiles that stay in registers (``tile.py``), of weights that are copied once for
all steps; what lies between them is one pass over rows that are in the cache. Small maps outside
the loops are left to SciPy's BLAS, which Numba's ``np.dot`` calls (``linear.py``). Prediction has
passes of its own over many sequences at once (``reading.py``). Threads share the units of a layer,
and in the loops over time a sequence has the same bits in any batch and on any number of threads.
The plain NumPy backend remains the reference: what every function here has to equal is that one's
result. Numba is imported in this folder only.

A compiled function is stored beside its file, or in the user's cache where that cannot be written
to, and compiled again when a file of this folder changes.
"""
