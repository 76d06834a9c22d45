"""The gradient flow of many runs, made by processes of the host, one a core."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.threads import cores, one_blas_thread
from npnlp.training.flow_job import FlowJob, flow_of
from npnlp.training.trainer import Trainer

#: Below so many trainers the processes would take longer to start than they save.
LEAST = 8

Flows = Callable[[Sequence[FlowJob]], Iterator[NDArray[np.float64]]]


@contextmanager
def flow_pool(trainers: Sequence[Trainer]) -> Iterator[Flows | None]:
    """What :class:`ManyTrainers` may be given; None where it is as fast alone.

    The trainers differ in their seeds alone, so that one of them serves for all. A process is
    spawned, since a device cannot be used by what was forked.
    """
    workers = min(cores(), len(trainers))
    if len(trainers) < LEAST or workers < 2 or not trainers[0].config.gradient_flow:
        yield None
        return
    of_device = get_context("spawn")
    with ProcessPoolExecutor(workers, of_device, _begin, (trainers[0],)) as pool:
        yield lambda jobs: pool.map(_flow, jobs)


_trainers: list[Trainer] = []


def _begin(trainer: Trainer) -> None:
    """A process begins. Ctrl-C is its parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _trainers[:] = [trainer]


def _flow(job: FlowJob) -> NDArray[np.float64]:
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return flow_of(_trainers[0], job)
