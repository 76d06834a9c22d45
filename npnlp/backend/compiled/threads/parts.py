"""How threads share a loop over time: by units, or by sequences.

By units, a thread uses only its part of the weights, and all threads meet at every step, because
the next matrix product needs all units. By sequences, a thread uses all weights, and threads do not
meet. With many sequences this is as fast, and no thread waits for an interrupted one. The bits are
the same either way.
"""

from __future__ import annotations

from npnlp.backend.base import Array
from npnlp.backend.compiled.vectors.kernel import inner

#: The sequences of a thread are a multiple of this, the most rows of a tile.
TOGETHER = 8
#: Threads share the sequences if each gets, on average over the steps, at least
#: ``H / PART_OF_UNITS`` and ``TOGETHER`` of them. Measured.
PART_OF_UNITS = 16


@inner
def part_of(
    sizes: Array, hidden: Array, threads: int, low: int, high: int
) -> tuple[int, int, int, int, int]:
    """The part of the thread that has units ``low`` to ``high`` of H, if threads share the units.

    Returns the range of its sequences, the range of its units, and how many threads meet at each
    step, 1 for none. Shapes: ``hidden (N, H)``, and ``sizes (T,)``, the rows of each step.
    """
    rows, units = hidden.shape
    enough = max(TOGETHER, units // PART_OF_UNITS) * len(sizes)
    if threads == 1 or rows < enough * threads:
        return 0, int(sizes[0]), low, high, threads
    # Sequences are cut in the same proportion as units.
    first = _sequences(sizes, rows * -(-low * threads // units) // threads)
    last = _sequences(sizes, rows * -(-high * threads // units) // threads)
    return first, last, 0, units, 1


@inner
def _sequences(sizes: Array, rows: int) -> int:
    """How many of the longest sequences have ``rows`` rows, rounded up to ``TOGETHER``."""
    count, seen, steps = 0, 0, len(sizes)
    while seen < rows:
        while sizes[steps - 1] <= count:
            steps -= 1
        seen, count = seen + steps, count + 1
    return min(-(-count // TOGETHER) * TOGETHER, int(sizes[0]))
