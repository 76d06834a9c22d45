""":mod:`npnlp.backend.layout`, compiled: packing many batches in one pass over their rows."""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.vectors.kernel import kernel


@kernel
def lay_out(lengths: Array, runs: Array, last_rows: Array, previous_rows: Array) -> None:
    """Fill ``runs (K, 2, T)``, ``last_rows (K, B)`` and ``previous_rows (N,)``."""
    start = 0
    for k in range(len(lengths)):
        row, before, size = 0, 0, lengths.shape[1]
        for b in range(size):
            if lengths[k, b] < 1 or lengths[k, b] > lengths[k, max(b - 1, 0)]:
                raise ValueError("sequences have to be sorted, the longest first, and not empty")
        for t in range(lengths[k, 0]):
            while lengths[k, size - 1] <= t:
                size -= 1
            runs[k, 0, t], runs[k, 1, t] = row, size
            for b in range(size):
                previous_rows[start + row + b] = row - before + b
            row, before = row + size, size
        for b in range(lengths.shape[1]):
            last_rows[k, b] = runs[k, 0, lengths[k, b] - 1] + b
        start += row


@kernel
def number(
    tokens: Array, starts: Array, runs: Array, numbers: Array, vocabulary: Array, ends: Array
) -> None:
    """Fill ``numbers (N,)``, the first ``ends[-1]`` of ``vocabulary (N,)``, and ``ends (K,)``."""
    row, largest = 0, 0
    for k in range(len(starts)):
        for t in range(runs.shape[2]):
            for b in range(runs[k, 1, t]):
                place = starts[k, b] + t
                if not 0 <= place < len(tokens) or tokens[place] < 0:
                    raise IndexError("a token is out of range")
                largest = max(largest, tokens[place])
                numbers[row] = tokens[place]
                row += 1
    row, end, known = 0, 0, np.empty(largest + 1, dtype=np.int64)
    for k in range(len(starts)):
        known[:] = -1
        rows = numbers[row : row + runs[k, 1].sum()]
        for n in range(len(rows)):
            known[rows[n]] = 0
        start = end
        for token in range(len(known)):
            if known[token] == 0:
                known[token], vocabulary[end] = end - start, token
                end += 1
        for n in range(len(rows)):
            rows[n] = known[rows[n]]
        ends[k] = end
        row += len(rows)
