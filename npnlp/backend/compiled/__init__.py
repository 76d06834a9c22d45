"""The CPU backend whose loops are compiled by Numba, an optional dependency.

Matrix products are computed in tiles that stay in registers (``vectors/tile.py``), from weights
that are copied once for all steps. Small affine maps outside the loops use SciPy's BLAS, which
Numba's ``np.dot`` calls (``linear.py``). Prediction has its own passes (``inference/``). Threads
share the units or the sequences of a layer; in the loops over time a sequence has the same bits in
any batch and on any number of threads. The NumPy backend is the reference: every function here has
to give its results. Only this folder imports Numba.

A compiled function is cached beside its file, or in the user's cache folder where that is not
writable, and compiled again when a file of this folder changes.
"""
