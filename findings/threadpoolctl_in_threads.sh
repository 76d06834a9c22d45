#!/usr/bin/env bash
# threadpoolctl 3.8.0 with NumPy 2.4.6 (OpenBLAS): who sets the number of threads first, keeps it.
#
# threadpool_limits(limits=1), called once at the start of a program as its README shows, is for good in
# more than one sense: from then on `with threadpool_limits(limits=2)` in another thread does nothing and
# says nothing. In the thread that called first it works. threadpoolctl 3.6.0 obeyed both.
#
# So a library that limits BLAS in worker threads may be ignored because of a line in somebody's main
# program; it has to look at what threadpool_info says afterwards, or release the controller of each
# library once it has set it (clear_controlling_thread).
#
# Seen on two cores: [1] in the other thread, [2] in the first. Needs two cores. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export -n OPENBLAS_NUM_THREADS OMP_NUM_THREADS
for version in 3.8.0 3.6.0; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install --quiet "threadpoolctl==$version" numpy==2.4.6
    "$work/$version/bin/python" - "$version" <<'END'
import sys
from threading import Thread

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

np.ones((2, 2)) @ np.ones((2, 2))


def limited_to_two() -> None:
    with threadpool_limits(limits=2):
        found.append([lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"])


found = []
threadpool_limits(limits=1)
worker = Thread(target=limited_to_two)
worker.start()
worker.join()
limited_to_two()
print(sys.argv[1], "other thread", found[0], "first thread", found[1])
assert found == {"3.8.0": [[1], [2]], "3.6.0": [[2], [2]]}[sys.argv[1]], found
END
done
