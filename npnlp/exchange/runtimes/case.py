"""One runtime and one file, in a process of its own: a runtime that crashes ends nothing else.

``python -m npnlp.exchange.runtimes.case ENGINE FILE IN.npz OUT.npz``: batches are ``tokens_0``,
``lengths_0`` and so on; their probabilities are written under their number. What the runtime raises
is one line on standard error, and the status is then 1.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from npnlp.exchange.runtimes.engines import ENGINES


def main() -> int:
    """Run the file on every batch."""
    name, path, given, output = sys.argv[1:]
    arrays = np.load(given)
    found: dict[str, Any] = {}
    try:
        run = ENGINES[name].load(path)
        for number in range(len(arrays.files) // 2):
            tokens, lengths = arrays[f"tokens_{number}"], arrays[f"lengths_{number}"]
            found[str(number)] = np.array(run(tokens, lengths), dtype=np.float32)
    except Exception as error:  # a runtime may raise anything
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        print(f"{type(error).__name__}: {said[0] if said else ''}", file=sys.stderr)
        return 1
    np.savez(output, **found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
