"""The loop over time makes no array: what it needs is made before it and used again."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random, get_backend
from npnlp.backend.tuned.blocks import BLOCK
from npnlp.backend.tuned.cell import TunedCell
from npnlp.backend.tuned.elman import Elman as TunedElman
from npnlp.backend.tuned.loop import CELLS
from npnlp.layers import Elman, Packing
from npnlp.layers.recurrent.gru import GRU, GRUResetBefore
from npnlp.layers.recurrent.lstm import LSTM
from npnlp.layers.recurrent.recurrent import Recurrent
from tests.support.door import WithCell

BATCH, SIZE = 64, 64
#: The smallest array that a step could make, a row a sequence, has 16 KiB. What is left are the
#: objects that say which part of an array a step works on; all of a step together are below this.
BOUND = 2048
#: Of each step the least of so many runs counts: other threads of a test process take memory, too.
RUNS = 3

KINDS = {
    "elman": lambda **options: Elman(SIZE, SIZE, **options),
    "relu": lambda **options: Elman(SIZE, SIZE, nonlinearity="relu", **options),
    "gru": lambda **options: GRU(SIZE, SIZE, **options),
    "gru, reset before": lambda **options: GRUResetBefore(SIZE, SIZE, **options),
    "lstm": lambda **options: LSTM(SIZE, SIZE, **options),
}


@contextmanager
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def watched_cell(right: type[TunedCell], peaks: dict[str, list[int]]) -> type[TunedCell]:
    """``right``, noting in ``peaks`` what was allocated from one call of a method to the next.

    Bytes, the most at a time.
    """

    class Watched(right):  # type: ignore[misc, valid-type]
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            for name, found in peaks.items():
                setattr(self, name, watched(getattr(self, name), found))

    return Watched


def watched(method: Callable[..., Any], peaks: list[int]) -> Callable[..., Any]:
    before: list[int] = []

    def call(*arguments: Any) -> Any:
        now, peak = tracemalloc.get_traced_memory()
        if before:
            peaks.append(peak - before[0])
        before[:] = [now]
        tracemalloc.reset_peak()
        return method(*arguments)

    return call


def passes(layer: Recurrent) -> None:
    lengths = np.maximum(1, 120 - 2 * np.arange(BATCH))
    packing = Packing.of(lengths, get_backend("numpy"))
    assert packing.rows > BLOCK, "there has to be more than one block"
    x = Random(0, "x").normal((packing.rows, SIZE)).astype(np.float32)
    (hidden, *_), cache = layer.forward(x, packing=packing)
    layer.backward((np.ones_like(hidden), *(None for _ in layer.states)), cache)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_no_array_is_made_inside_the_loop(kind: Callable[..., Recurrent]) -> None:
    found: dict[str, list[int]] = {"step": [], "step_backward": []}
    cell = watched_cell(CELLS[kind().kind()], found)
    passes(kind(random=Random(0, "layer")))  # what is made once is made here
    layer = kind(random=Random(0, "layer"), backend=WithCell(cell))
    with traced():
        for _ in range(RUNS):
            passes(layer)
    for name, peaks in found.items():
        of_steps = np.reshape(peaks, (RUNS, 119))
        assert of_steps.min(axis=0).max() < BOUND, name


def test_an_array_made_inside_the_loop_would_be_found() -> None:
    class Wasteful(TunedElman):
        def step(self, now: Any, u: Any, before: Any, recur: Any, *constants: Any) -> None:
            now[0][...] = constants[0](u + recur(before[0]))

    found: dict[str, list[int]] = {"step": []}
    backend = WithCell(watched_cell(Wasteful, found))
    with traced():
        passes(Elman(SIZE, SIZE, random=Random(0, "layer"), backend=backend))
    assert max(found["step"]) > BOUND
