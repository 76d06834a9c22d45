"""How many threads matrix products get."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def one_blas_thread() -> AbstractContextManager[Any]:
    """One thread for matrix products, unless the environment asks for another number.

    At the sizes of a small recurrent network a second thread gains nothing, and where another
    program holds a core, waiting for it costs a factor of fifty. The number of threads also decides
    the order of sums and so the last bits of a result.
    """
    from threadpoolctl import threadpool_limits  # here, so that a user of layers alone needs it not

    asked = any(name in os.environ for name in THREAD_VARIABLES)
    return nullcontext() if asked else threadpool_limits(limits=1, user_api="blas")
