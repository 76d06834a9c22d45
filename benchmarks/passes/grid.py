"""Passes of one recurrent layer, ours and PyTorch's, at every size of a grid, interleaved.

A square of the grid is a cell, B sequences of T steps, H hidden units and D features of the input,
in float32; both layers have the same weights. The input of a step is a token, one of V, whose
features are looked up in a table, or with V = 0 D numbers of its own. Passes:

- ``forward``: all states ``(T, B, H)``, nothing kept for a backward pass (``torch.no_grad``);
- ``forward + backward``: the same, and from a gradient at every step those of the weights, of the
  biases and of the input, or of the table.

Before anything is timed both sides compute everything once, and have to agree. Then each thread
count is tried, on a hundred steps at most, and a library's fastest one is kept for that pass. Then
rounds: in each, ours and PyTorch's take turns, and so does who begins; a ratio is taken round by
round. Rounds end when there are enough of them or when the square's time is up, but never before
the third.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from npnlp.backend import Backend
from passes.grid_sides import OURS, PASSES, TORCH, Side, Square, require_agreement, sides_of

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


def timed(side: Side, name: str, threads: int, times: int = 1) -> float:
    """Seconds of a pass, a mean of ``times``."""
    call = side.passes[name]
    with side.limited(threads):
        started = time.perf_counter()
        for _ in range(times):
            call()
        seconds = (time.perf_counter() - started) / times
    if threads > 1:
        time.sleep(SPINNING)
    return seconds


def tried(
    square: Square, seed: int, threads: list[int], backend: Backend
) -> dict[Key, tuple[float, int]]:
    """The fastest thread count by library and pass, behind the seconds that it takes, about."""
    steps = min(square.steps, TRIAL_STEPS)
    sides = sides_of(replace(square, steps=steps), seed, backend)
    found: dict[Key, dict[int, float]] = {}
    started, trial = time.perf_counter(), -1
    while trial < TRIALS or time.perf_counter() - started < TRIED:
        for count, name, library in product(threads, PASSES, sides):
            seconds = timed(sides[library], name, count) * square.steps / steps
            if trial >= 0:  # the one before warms up
                of_count = found.setdefault((library, name), {})
                of_count[count] = min(seconds, of_count.get(count, seconds))
        trial += 1
    return {key: min((s, count) for count, s in of_key.items()) for key, of_key in found.items()}


def measure(
    square: Square, seed: int, threads: list[int], rounds: int, budget: float, backend: Backend
) -> Iterator[dict[str, Any]]:
    """A row for each pass: medians in milliseconds, the ratio with quartiles, thread counts.

    ``npnlp_gflops`` and ``torch_gflops``, 1e9 operations a second, count the products alone.
    """
    trials = tried(square, seed, threads, backend)
    counts = {key: count for key, (_, count) in trials.items()}
    times = {key: max(1, int(SECONDS_AT_LEAST / about)) for key, (about, _) in trials.items()}
    sides = sides_of(square, seed, backend)
    differs = require_agreement(square, *(side.results() for side in sides.values()))
    seconds: dict[Key, list[float]] = {key: [] for key in times}
    started = time.perf_counter()
    for number in range(max(rounds, ROUNDS_AT_LEAST)):
        if number >= ROUNDS_AT_LEAST and time.perf_counter() - started > budget:
            break
        for name in PASSES:
            for library in (OURS, TORCH)[:: 1 if number % 2 else -1]:
                key = (library, name)
                seconds[key].append(timed(sides[library], name, counts[key], times[key]))
    for name in PASSES:
        ours, theirs = (np.array(seconds[library, name]) for library in (OURS, TORCH))
        low, median, high = np.percentile(theirs / ours, [25, 50, 75]).tolist()
        yield {
            **square.described, "pass": name, "rounds": len(ours),
            "npnlp_threads": counts[OURS, name], "torch_threads": counts[TORCH, name],
            "npnlp_ms": 1e3 * float(np.median(ours)), "torch_ms": 1e3 * float(np.median(theirs)),
            "npnlp_gflops": 1e-9 * square.operations(name) / float(np.median(ours)),
            "torch_gflops": 1e-9 * square.operations(name) / float(np.median(theirs)),
            "ratio": median, "ratio_q25": low, "ratio_q75": high, "difference": differs,
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
