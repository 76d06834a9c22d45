"""The loop over time makes no array: what it needs is made before it and used again."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random, get_backend
from npnlp.backend.plain import BLOCK
from npnlp.layers import Elman, Packing
from npnlp.layers.recurrent.gru import GRU, GRUResetBefore
from npnlp.layers.recurrent.lstm import LSTM
from npnlp.layers.recurrent.recurrent import Recurrent

BATCH, SIZE = 64, 64
#: The smallest array that a step could make, a row a sequence, has 16 KiB. What is left are the
#: objects that say which part of an array a step works on; all of a step together are below this.
BOUND = 2048

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


def watch(layer: Recurrent, name: str) -> list[int]:
    """Bytes that were allocated at most, at a time, between one call of the method and the next."""
    method: Callable[..., Any] = getattr(layer, name)
    peaks: list[int] = []
    before: list[int] = []

    def watched(*arguments: Any) -> Any:
        now, peak = tracemalloc.get_traced_memory()
        if before:
            peaks.append(peak - before[0])
        before[:] = [now]
        tracemalloc.reset_peak()
        return method(*arguments)

    setattr(layer, name, watched)
    return peaks


def passes(layer: Recurrent) -> None:
    lengths = np.maximum(1, 120 - 2 * np.arange(BATCH))
    packing = Packing.of(lengths, get_backend("numpy"))
    assert packing.rows > BLOCK, "there has to be more than one block"
    x = Random(0, "x").normal((packing.rows, SIZE)).astype(np.float32)
    (hidden, *_), cache = layer.forward(x, packing=packing)
    layer.backward((np.ones_like(hidden), *(None for _ in layer.states)), cache)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_no_array_is_made_inside_the_loop(kind: Callable[..., Recurrent]) -> None:
    layer = kind(random=Random(0, "layer"))
    passes(layer)  # what is made once, such as the rows of each step, is made here
    found = {name: watch(layer, name) for name in ("step", "step_backward")}
    with traced():
        passes(layer)
    for name, peaks in found.items():
        assert len(peaks) == 119
        assert max(peaks) < BOUND, name


def test_an_array_made_inside_the_loop_would_be_found() -> None:
    class Wasteful(Elman):
        def step(self, now: Any, before: Any, recur: Any, *constants: Any) -> None:
            now[0][...] = constants[0](now[0] + recur(before[0]))

    layer = Wasteful(SIZE, SIZE, random=Random(0, "layer"))
    found = watch(layer, "step")
    with traced():
        passes(layer)
    assert max(found) > BOUND
