"""What benchmarks/gpu.py measures: a case, the passes over it, and the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Backend, Random
from npnlp.text import SplitArrays

VOCABULARY, EMBEDDING, CLASSES = 80, 100, 18
#: forward of the layer; that and its backward pass; the whole step of training the classifier.
PASSES = ("forward", "both", "step")
#: Rows that one way at one pass takes: a call does the pass once.
Way = dict[str, Callable[[], Any]]
Clock = Callable[[Callable[[], Any]], float]


@dataclass(frozen=True)
class Inside:
    """A call inside of a context, such as a stream, that training enters once an epoch.

    The clock measures the call alone.
    """

    call: Callable[[], Any]
    context: Callable[[], AbstractContextManager[Any]]

    def __call__(self) -> Any:
        """The call, where nothing is measured."""
        with self.context():
            return self.call()


@dataclass(frozen=True)
class Case:
    """A cell at T steps, B sequences and H units; ``variable`` lengths are uniform in [1, T]."""

    cell: str
    steps: int
    batch: int
    hidden: int
    variable: bool

    @property
    def described(self) -> dict[str, Any]:
        """The first columns of a row."""
        lengths = "variable" if self.variable else "padded"
        sizes = {"T": self.steps, "B": self.batch, "H": self.hidden}
        return {"cell": self.cell, "lengths": lengths, **sizes}

    def split(self, seed: int) -> SplitArrays:
        """The batch as a split: tokens from 2 on, as below are mask and unknown."""
        random = Random(seed, "gpu")
        lengths = np.full(self.batch, self.steps)
        if self.variable:
            drawn = random.child("lengths").uniform((self.batch,), 1, self.steps + 1)
            lengths = np.sort(drawn.astype(np.int64))[::-1].copy()
            lengths[0] = self.steps
        total = int(lengths.sum())
        tokens = random.child("tokens").uniform((total,), 2, VOCABULARY).astype(np.int64)
        targets = random.child("targets").uniform((self.batch,), 0, CLASSES).astype(np.int64)
        return SplitArrays(tokens, np.cumsum(lengths) - lengths, lengths, targets)


def cases(
    cells: list[str], steps: list[int], batches: list[int], hidden: list[int]
) -> Iterator[Case]:
    """Every combination, padded and of variable length."""
    for values in product(cells, steps, batches, hidden, (False, True)):
        yield Case(*values)


def event_clock(backend: Backend) -> Clock:
    """Milliseconds of a call, between two events on the stream that it launches into.

    That is the default stream, of CuPy as of PyTorch, or that of :class:`Inside`. The device is
    idle at the first event, so the time holds whatever is longer: the work, or the launching of it.
    """
    cuda = backend.xp.cuda
    first, last = cuda.Event(), cuda.Event()

    def clock(call: Callable[[], Any]) -> float:
        measured: Callable[[], Any] = call
        context: AbstractContextManager[Any] = nullcontext()
        if isinstance(call, Inside):
            measured, context = call.call, call.context()
        with context:
            backend.synchronize()
            first.record()
            measured()
            last.record()
            last.synchronize()
        return float(cuda.get_elapsed_time(first, last))

    return clock


def measure(ways: dict[str, Way], clock: Clock, rounds: int, warm_up: int = 3) -> list[Any]:
    """``(way, pass, milliseconds of each round)``; in a round every way has its turn."""
    calls = {(way, name): call for way, passes in ways.items() for name, call in passes.items()}
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for number in range(-warm_up, rounds):
        for key, call in calls.items():
            milliseconds = clock(call)
            if number >= 0:
                taken[key].append(milliseconds)
    return [(*key, values) for key, values in taken.items()]


def quartiles(milliseconds: list[float]) -> dict[str, float]:
    """The columns of a measurement."""
    low, median, high = np.percentile(milliseconds, [25, 50, 75]).tolist()
    return {"ms": median, "ms_q25": low, "ms_q75": high}


def packed_tokens(split: SplitArrays) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Time-major tokens ``(N,)`` of rows sorted by length, and how many rows each step has."""
    steps = np.arange(split.lengths.max())
    inside = split.lengths[None, :] > steps[:, None]
    places = split.starts[None, :] + steps[:, None]
    return split.tokens[places[inside]], inside.sum(axis=1)
