"""What a thread computes of a loop over time: some units of all sequences, or some sequences.

Threads that have units of their own read little of the weights, and meet at every step: the next
product takes what all of them found. Threads that have sequences of their own never meet, but each
reads all weights. From some sequences on that is as fast, and nobody waits where a thread is held
up. A number has the same bits either way.
"""

from __future__ import annotations

from npnlp.backend.base import Array
from npnlp.backend.compiled.vectors.kernel import inner

#: Sequences of a part are whole multiples of it, as many as a tile has rows.
TOGETHER = 8
#: A thread has sequences of its own if there are as many, at a step, as this part of the units: so
#: often has it to use a weight that it reads. By measurement.
PART_OF_UNITS = 16


@inner
def part_of(
    sizes: Array, hidden: Array, threads: int, low: int, high: int
) -> tuple[int, int, int, int, int]:
    """Of a thread that may have the units from ``low`` to ``high`` of ``hidden (N, H)``.

    Returned: its sequences, from one to before another; its units, in the same way; and how many
    threads there are to meet with at each step, 1 if nobody. ``sizes (T,)``, the rows of each step.
    """
    rows, units = hidden.shape
    enough = max(TOGETHER, units // PART_OF_UNITS) * len(sizes)
    if threads == 1 or rows < enough * threads:
        return 0, int(sizes[0]), low, high, threads
    # From where units are cut, in large pieces, follows how many threads come before.
    first = _sequences(sizes, rows * -(-low * threads // units) // threads)
    last = _sequences(sizes, rows * -(-high * threads // units) // threads)
    return first, last, 0, units, 1


@inner
def _sequences(sizes: Array, rows: int) -> int:
    """How many sequences, from the longest on, have so many rows, as a multiple of a tile's."""
    count, seen, steps = 0, 0, len(sizes)
    while seen < rows:
        while sizes[steps - 1] <= count:
            steps -= 1
        seen, count = seen + steps, count + 1
    return min(-(-count // TOGETHER) * TOGETHER, int(sizes[0]))
