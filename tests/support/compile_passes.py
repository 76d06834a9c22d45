"""``python -m tests.support.compile_passes``: have Numba compile and store the passes of the cells.

It takes a minute of computing. Several test processes that start without them would each do it.
"""

from __future__ import annotations

from itertools import product

from tests.backend.compiled.test_compiled import BOUND, NUMBA, passes


def main() -> None:
    cells = ("elman_tanh", "elman_relu", "gru", "lstm")
    for cell, dtype, initial, above in product(cells, BOUND, (True, False), (True, False)):
        passes(NUMBA, cell, [2, 1], 4, dtype, initial=initial, above=above)


if __name__ == "__main__":
    main()
