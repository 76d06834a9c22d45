"""Whether Numba is worth its start: what compiled loops save, and what they cost before.

Both are estimates in seconds of one core: ``benchmarks/first_batch.py`` measures the start,
``benchmarks/against_frameworks.py`` epochs. What is saved grows with the names, the epochs and,
between 64 and 256, with the hidden size.
"""

from __future__ import annotations

#: Seconds that Numba saves of NumPy's for 1,000 names in an epoch, at hidden size 64.
SAVED = {"elman": 0.003, "gru": 0.008, "lstm": 0.009}
USUAL_SIZE = 64
#: Seconds until the first batch: what was compiled before is loaded, or all is compiled.
LOADING, COMPILING = 1.5, 15.0


def seconds_saved(cell: str, hidden_size: int, layers: int, names: int, epochs: int) -> float:
    """What ``epochs`` epochs over ``names`` names take less; ``layers`` counts directions too."""
    return SAVED.get(cell, 0.0) * hidden_size / USUAL_SIZE * layers * names / 1000 * epochs
