"""Passes of one recurrent layer, ours, PyTorch's and JAX's, at every size of a grid, interleaved.

A square of the grid is a cell, B sequences of T steps, H hidden units and D features of the input,
in float32; all layers have the same weights. The input of a step is a token, one of V, whose
features are looked up in a table, or with V = 0 D numbers of its own. Passes:

- ``forward``: all states ``(T, B, H)``, nothing kept for a backward pass (``torch.no_grad``);
- ``forward + backward``: the same, and from a gradient at every step those of the weights, of the
  biases and of the input, or of the table.

Before anything is timed all sides compute everything once, and have to agree. Then each way of a
side is tried, on a hundred steps at most, and its fastest one is kept for that pass: a number of
threads, or for JAX how many steps of its scan are unrolled. Then rounds: in each the sides take
turns, and so does who begins; a ratio is taken round by round, to the faster of PyTorch and JAX.
Rounds end when there are enough of them or when the square's time is up, but never before the
third. On one core it is the time of the processor that counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from npnlp.backend import Backend
from passes.grid_sides import (
    JAX,
    OURS,
    PASSES,
    TORCH,
    WAYS,
    Ours,
    Side,
    Square,
    Torch,
    require_agreement,
)  # fmt: skip
from passes.held import clock_of, now
from passes.jax_layers import WITHOUT_JAX

#: A measurement takes at least so long: short passes are repeated in it.
SECONDS_AT_LEAST = 2e-3
ROUNDS_AT_LEAST, TRIALS, TRIAL_STEPS = 3, 3, 100
#: Trials go on for so many seconds where they are short: a core that is lent to somebody else for
#: a moment would decide for the other thread count.
TRIED = 1.0
#: How long a library's threads may wait for more work, spinning, after it has returned.
SPINNING = 0.03

#: A library and a pass.
Key = tuple[str, str]


def squares(
    cells: list[str], batches: list[int], steps: list[int], hidden: list[int],
    features: int | None, vocabulary: int,
) -> list[Square]:  # fmt: skip
    """Every combination, the cheapest first, so that an early end has seen the most.

    Without ``features`` D is H.
    """
    found = [
        Square(cell, batch, count, size, features or size, vocabulary)
        for cell, batch, count, size in product(cells, batches, steps, hidden)
    ]
    return sorted(found, key=lambda square: square.batch * square.steps * square.hidden**2)


def sides_of(square: Square, seed: int, backend: Backend, cores: int = 1) -> dict[str, Side]:
    """Every library there is with the same numbers, ours first and on ``backend``."""
    ours = Ours(square, seed, backend, cores)
    sides: dict[str, Side] = {OURS: ours, TORCH: Torch(square, ours)}
    if WITHOUT_JAX:
        return sides
    from passes.grid_jax import Jax

    return sides | {JAX: Jax(square, ours)}


def timed(side: Side, name: str, way: int, clock: str, times: int = 1) -> float:
    """Seconds of a pass, a mean of ``times``."""
    call = side.passes[name]
    with side.limited(way):
        started = now(clock)
        for _ in range(times):
            call()
        seconds = (now(clock) - started) / times
    if clock != clock_of(1):
        time.sleep(SPINNING)
    return seconds


def tried(square: Square, seed: int, cores: int, backend: Backend) -> dict[Key, tuple[float, int]]:
    """The fastest way by library and pass, behind the seconds that it takes, about."""
    steps, clock = min(square.steps, TRIAL_STEPS), clock_of(cores)
    sides = sides_of(replace(square, steps=steps), seed, backend, cores)
    found: dict[Key, dict[int, float]] = {}
    started, trial = time.perf_counter(), -1
    while trial < TRIALS or time.perf_counter() - started < TRIED:
        for name, (library, side) in product(PASSES, sides.items()):
            for way in side.ways:
                seconds = timed(side, name, way, clock) * square.steps / steps
                if trial >= 0:  # the one before warms up
                    of_way = found.setdefault((library, name), {})
                    of_way[way] = min(seconds, of_way.get(way, seconds))
        trial += 1
    return {key: min((s, way) for way, s in of_key.items()) for key, of_key in found.items()}


def measure(
    square: Square, seed: int, cores: int, rounds: int, budget: float, backend: Backend
) -> Iterator[dict[str, Any]]:
    """A row for each pass: medians in milliseconds, the ratio with quartiles, ways, and ``peer``,
    the faster of the other libraries.

    ``npnlp_gflops`` and so on, 1e9 operations a second, count the products alone.
    """
    trials, clock = tried(square, seed, cores, backend), clock_of(cores)
    chosen = {key: way for key, (_, way) in trials.items()}
    times = {key: max(1, int(SECONDS_AT_LEAST / about)) for key, (about, _) in trials.items()}
    sides = sides_of(square, seed, backend, cores)
    differs = require_agreement(square, {name: side.results() for name, side in sides.items()})
    for library, name in trials:  # what compiles for this length does it here
        timed(sides[library], name, chosen[library, name], clock)
    seconds: dict[Key, list[float]] = {key: [] for key in times}
    started = time.perf_counter()
    for number in range(max(rounds, ROUNDS_AT_LEAST)):
        if number >= ROUNDS_AT_LEAST and time.perf_counter() - started > budget:
            break
        for name in PASSES:
            for library in list(sides)[:: 1 if number % 2 else -1]:
                key = (library, name)
                taken = timed(sides[library], name, chosen[key], clock, times[key])
                seconds[key].append(taken)
    for name in PASSES:
        taken_by = {library: np.array(seconds[library, name]) for library in sides}
        medians = {library: float(np.median(taken)) for library, taken in taken_by.items()}
        peer = min(list(sides)[1:], key=lambda library: medians[library])
        ratios = np.percentile(taken_by[peer] / taken_by[OURS], [50, 25, 75]).tolist()
        operations = 1e-9 * square.operations(name)
        yield {
            **square.described, "pass": name, "cores": cores, "rounds": len(taken_by[OURS]),
            **{f"{library}_{WAYS[library]}": chosen[library, name] for library in sides},
            **{f"{library}_ms": 1e3 * median for library, median in medians.items()},
            **{f"{library}_gflops": operations / median for library, median in medians.items()},
            "peer": peer,
            **dict(zip(("ratio", "ratio_q25", "ratio_q75"), ratios, strict=True)),
            "difference": differs,
        }  # fmt: skip


def sentences(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The geometric mean and the least ratio of each pass, over all cells and of each."""
    for name in PASSES:
        cells = list(dict.fromkeys(row["cell"] for row in rows))
        for cell in (None, *cells):
            seen = [row for row in rows if row["pass"] == name and cell in (None, row["cell"])]
            mean = float(np.exp(np.mean([np.log(row["ratio"]) for row in seen])))
            least = min(seen, key=lambda row: row["ratio"])
            where = " ".join(f"{key}={least[key]}" for key in ("cell", "B", "T", "H"))
            yield (f"{name}, {cell or 'all cells'}: geometric mean {mean:.2f}, least "
                   f"{least['ratio']:.2f} at {where}, {len(seen)} squares")  # fmt: skip
