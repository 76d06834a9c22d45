"""The long run: ``python -m tests.misuse --backend numba --cases 10000``.

Case k is a function of the seed and k: ``--first K --cases 1`` does it again. Status 1 if there is
a finding; a process that ends in a signal has read or written where it must not, and ``--verbose``
names each case before it is done.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from npnlp.backend import get_backend
from tests.misuse.cases import judge
from tests.misuse.guard import Guarded


def main() -> int:
    """Run the cases; print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    backend, guard, counts = get_backend(options.backend), Guarded(), Counter[str]()
    for number in range(options.first, options.first + options.cases):
        if options.verbose:
            print(number, flush=True)
        judged = judge(backend, guard, options.seed, number)
        counts["findings" if judged.finding else "refused" if judged.refused else "right"] += 1
        if judged.finding and counts["findings"] <= 30:
            print(f"case {number}: {judged.what}: {judged.finding}", flush=True)
    found = counts["findings"]
    print(f"{options.cases:,} cases on {options.backend}: {counts['refused']:,} refused, "
          f"{counts['right']:,} right, {found:,} findings")  # fmt: skip
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
