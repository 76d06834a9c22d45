"""The number of threads of a training run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from npnlp.backend.threads import blas_threads, measured_threads


def add_threads(parser: argparse.ArgumentParser) -> None:
    """``--threads``."""
    parser.add_argument(
        "--threads", type=_count_or_auto, metavar="N",
        help="number of threads of matrix products, or auto: one, or all where a measurement "
        "finds them worth it; they decide the last bits (default: 1, or what "
        "OPENBLAS_NUM_THREADS says)")  # fmt: skip


def _count_or_auto(text: str) -> int | str:
    return text if text == "auto" else int(text)


def asked_threads(
    options: argparse.Namespace, say: Callable[[str], None]
) -> AbstractContextManager[Any]:
    """The number of threads that was asked for, if any."""
    count = options.threads
    if count == "auto":
        count = measured_threads(options.batch_size, options.rnn_hidden_size)
        say(f"Threads: {count}, by measurement")
    return nullcontext() if count is None else blas_threads(count)
