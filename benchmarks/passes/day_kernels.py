"""Parts of the first day that compute in this process: the device, recurrences, a capture."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from npnlp.backend import Backend, Random, get_backend
from npnlp.backend.cuda import recurrence
from npnlp.backend.cuda.graphs import Graphs
from npnlp.backend.operations import LookedUp
from npnlp.layers import GRU, LSTM, Elman, Packing
from passes.day import Day, Missed
from passes.gpu_case import Case, Clock

#: Farthest from NumPy's, relative to the largest number of the array.
CLOSE = 2e-4
EMBEDDING, VOCABULARY, STEPS = 8, 9, 19
CELLS, KINDS = {"elman": Elman, "gru": GRU, "lstm": LSTM}, {"elman": "elman_tanh"}
#: Each kernel at the sizes that it is made for, at the last that fit one block and a cluster on an
#: H100, beyond them, and at sizes that are no multiple of anything.
DESIGN = [
    ("elman", 64), ("gru", 64), ("lstm", 64), ("elman", 256), ("gru", 144), ("lstm", 128),
    ("elman", 512), ("gru", 256), ("lstm", 256), ("lstm", 129), ("elman", 768), ("gru", 448),
    ("lstm", 384), ("gru", 9), ("lstm", 1000),
]  # fmt: skip
BATCHES = (5, 300)
#: Trainers that are made and dropped, and the bytes that may be gone after them.
TRAINERS, SLACK, MAIN = 20, 32 * 2**20, Case("gru", 19, 64, 64, variable=True)
QUICK_TRAINERS, QUICK_CASE = 3, Case("elman", 3, 2, 8, variable=True)


def cublas_answers(backend: Backend) -> str:
    """A product of two matrices; the dot of two vectors would not ask cuBLAS."""
    host = np.arange(6, dtype=np.float32).reshape(2, 3)
    a = backend.asarray(host)
    found = backend.to_numpy(backend.xp.dot(a, a.T))
    if found.tolist() != (host @ host.T).tolist():
        raise Missed(f"2 x 3 by 3 x 2 is {found.tolist()}")
    described = ", ".join(f"{name} {value}" for name, value in backend.describe().items())
    return f"{described}; {recurrence.device_of(backend.xp).limits}"


def passes_of(cell: str, hidden: int, batch: int, seed: int, backend: Backend) -> Callable[[], Any]:
    """Forward and backward of a layer on packed rows; every array that comes out, on the device."""
    rng = np.random.default_rng(seed)
    lengths = np.sort(rng.integers(1, STEPS + 1, batch))[::-1].copy()
    random = Random(seed, "first day")
    layer: Any = CELLS[cell](EMBEDDING, hidden, backend=backend, random=random)
    table = backend.asarray(rng.normal(size=(VOCABULARY, EMBEDDING)).astype(np.float32))
    tokens = backend.asarray(rng.integers(0, VOCABULARY, int(lengths.sum())))
    d_last = backend.asarray(rng.normal(size=(batch, hidden)).astype(np.float32))
    packing = Packing.of(lengths, backend)

    def run() -> list[Any]:
        layer.zero_grads()
        outputs, cache = layer.forward(LookedUp(table, tokens), packing=packing)
        dx, *_ = layer.backward((None, d_last), cache)
        return [outputs[0], outputs[1], *(dx if isinstance(dx, tuple) else (dx,)),
                *layer.grads.values()]  # fmt: skip

    return run


def recurrence_rows(
    cell: str, hidden: int, batch: int, seed: int, backend: Backend, clock: Clock
) -> Iterator[dict[str, Any]]:
    """A recurrence in each way that clusters have to hand on their numbers, beside NumPy's.

    Twice, to the bit, and what it takes. One block hands nothing on.
    """
    device, kind = recurrence.device_of(backend.xp), KINDS.get(cell, cell)
    theirs = passes_of(cell, hidden, batch, seed, get_backend("numpy"))()
    usual = recurrence.choose(kind, hidden, batch, device.limits)
    for transfer in recurrence.TRANSFERS:
        chosen = recurrence.choose(kind, hidden, batch, device.limits, transfer=transfer)
        alone = usual is None or (transfer != "stepwise" and usual.cluster == 1)
        if alone and transfer != recurrence.TRANSFERS[0]:
            continue
        with handing_on(device, transfer):
            runs = [passes_of(cell, hidden, batch, seed, backend) for _ in range(2)]
            ours, again = ([backend.to_numpy(array).copy() for array in run()] for run in runs)
            yield {
                "cell": cell, "H": hidden, "B": batch, "T": STEPS, "plan": told(chosen),
                "transfer": transfer, "farthest": max(map(distance, ours, theirs)),
                "repeats": all(np.array_equal(a, b) for a, b in zip(ours, again, strict=True)),
                "ms": float(np.median([clock(runs[0]) for _ in range(5)])),
            }  # fmt: skip


@contextmanager
def handing_on(device: Any, transfer: str) -> Iterator[None]:
    """Inside, recurrences are launched so."""
    before = device.transfer
    device.transfer = transfer
    try:
        yield
    finally:
        device.transfer = before


def distance(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to the largest number; infinite where one is not finite."""
    if not np.isfinite(ours).all():
        return float("inf")
    return float(np.abs(ours - theirs).max() / max(1e-6, float(np.abs(theirs).max())))


def told(chosen: Any) -> str:
    """A plan in words."""
    if chosen is None:
        return "step by step"
    return f"cluster {chosen.cluster}, {chosen.places} sequences, {chosen.threads} threads"


def recurrences(
    day: Day, backend: Backend, clock: Clock, seed: int, design: Sequence[tuple[str, int]],
    batches: Sequence[int] = BATCHES,
) -> str:  # fmt: skip
    """Every kernel at its sizes; those that there is no time for are said."""
    rows, wrong, left = day.table("recurrence"), [], 0
    for cell, hidden, batch in ((*of, batch) for batch in batches for of in design):
        if day.part_left() < 0:
            left += 1
            continue
        for row in recurrence_rows(cell, hidden, batch, seed, backend, clock):
            rows.append(row)
            line = (
                f"{cell} H={hidden} B={batch}: {row['plan']}, {row['transfer']}, "
                f"farthest {row['farthest']:.1e}, repeats {row['repeats']}"
            )
            print(f"    {line}, {row['ms']:.3f} ms", flush=True)
            if not row["farthest"] <= CLOSE or not row["repeats"]:
                wrong.append(line)
    if wrong or not rows:
        raise Missed(f"{len(wrong)} of {len(rows)} cases are wrong: {'; '.join(wrong)}")
    worst = max(row["farthest"] for row in rows)
    said = f"{len(rows)} cases, farthest {worst:.1e} of NumPy's (bound {CLOSE}), each repeats"
    return f"{said}; {left} more were left out: no time" if left else said


def captured(backend: Backend) -> str:
    """A capture that needs memory it did not have, while an older graph waits to be collected."""
    xp: Any = backend.xp
    x, graphs = xp.zeros(1 << 16, dtype=np.float32), Graphs(xp)

    class Old:
        """Graphs that only a collection finds."""

    old: Any = Old()
    old.graphs, old.itself = Graphs(xp), old

    def add_one() -> None:
        xp.add(x, (x * 0).sum() + 1, out=x)

    with old.graphs.in_use():
        for _ in range(3):
            old.graphs.run("old", add_one)
    backend.synchronize()
    before = float(backend.to_numpy(x)[0])
    calls = [0]

    def work() -> None:
        calls[0] += 1
        xp.empty(1 << (14 + 2 * calls[0]), dtype=np.float32).fill(1)  # more at the second call
        _ = [[] for _ in range(100_000)]  # enough for a collection, where one may happen
        add_one()

    del old
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with graphs.in_use():
            for _ in range(4):
                graphs.run("new", work)
    backend.synchronize()
    after = float(backend.to_numpy(x)[0])
    if (before, after, len(graphs)) != (3.0, 7.0, 1):
        raise Missed(f"{before} and {after} where 3 and 7 are right, {len(graphs)} graphs")
    return "a graph replayed, with memory that it did not have before; an old one was left alone"


def memory_comes_back(
    backend: Backend, seed: int, used: Callable[[], int], trainers: int = TRAINERS,
    case: Case = MAIN,
) -> str:  # fmt: skip
    """Captured trainers, made and dropped; the first does not count, since it loads modules."""
    from passes.gpu_ours import our_captured_way

    found = []
    for _ in range(1 + trainers):
        step = our_captured_way(case, seed, backend)["step"]
        for _ in range(4):
            step()
        del step
        found.append(used())
    gone = found[-1] - found[0]
    if gone > SLACK:
        raise Missed(f"{gone / 2**20:.0f} MiB are gone after {trainers} trainers")
    return f"{trainers} trainers made and dropped: {gone / 2**20:.1f} MiB more are in use"


def used_memory(backend: Backend) -> Callable[[], int]:
    """Bytes of the device in use, when all that can be given back is."""

    def used() -> int:
        gc.collect()
        backend.synchronize()
        backend.xp.get_default_memory_pool().free_all_blocks()
        found = backend.memory()
        assert found is not None
        return found[1] - found[0]

    return used


def of_quick(design: Sequence[tuple[str, int]], quick: bool) -> Iterator[tuple[str, int]]:
    """The design sizes, or three small ones."""
    yield from [("elman", 8), ("gru", 9), ("lstm", 8)] if quick else design
