"""What cures the vanishing gradient, how far, and why: seen in the gradient of every step.

A *lag* counts steps back from the last one, at which the answer is read. With ``s_t`` the state of
a recurrent layer (``h_t``; the pair of ``h_t`` and ``c_t`` in an LSTM):

    (1)  |dL/ds_t| by lag                what reaches a step, in real backpropagation
    (2)  |dL/dh_t from above| by lag     of it, what the pooling gave at that very step: it has come
                                         through no step of the loop
    (3)  singular values of dh_T/ds_t    the product of all Jacobians between, without a loss

(3) takes one backward pass of the layer: T steps of H copies of a sequence, copy i asked for the
gradient of unit i of ``h_T``. Its rows at step t are those of ``dh_T/ds_t``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend
from npnlp.errors import InputError
from npnlp.lab.tasks import TASKS
from npnlp.lab.trial import Lab, LabConfig
from npnlp.lab.variants import VARIANTS
from npnlp.layers import Packing
from npnlp.layers.recurrent.memory import RecurrentTrace
from npnlp.layers.recurrent.recurrent import Recurrent

Floats = NDArray[np.float64]
Rows = list[dict[str, Any]]
#: When a model is looked at.
WHEN = ("at first", "trained")
#: Batches that (1) and (2) are the mean of.
BATCHES = 8


def gradient_by_lag(lab: Lab, batches: int = BATCHES) -> tuple[Floats, Floats]:
    """(1) and (2) of the first recurrent layer and direction, means over sequences: ``(T,)`` each.

    Lag 0 comes first. Adds into the gradients of the model. Raises :class:`InputError` for a model
    without a recurrent layer.
    """
    if not lab.model.encoder.cells:
        raise InputError("the model has no recurrent layer whose steps could be looked at")
    traces: list[RecurrentTrace] = []
    for number in range(batches):
        lab.backward(lab.random.child("flow").at(number), traces.append)
    first_cell, batch = lab.model.encoder.cells[0], lab.config.batch_size
    shown = [trace for trace in traces if trace.layer is first_cell]

    def mean(norms: list[Floats]) -> Floats:
        by_lag: Floats = np.array(norms).reshape(len(norms), -1, batch).mean(axis=(0, 2))
        return by_lag[::-1]

    host = lab.backend.to_numpy
    reached = [_norms(*map(host, trace.d_states)) for trace in shown]
    above = [trace.from_above for trace in shown]
    given = [np.zeros_like(reached[0]) if d is None else _norms(host(d)) for d in above]
    return mean(reached), mean(given)


def state_jacobians(layer: Recurrent, x: Array) -> Iterator[Floats]:
    """``dh_T/ds_t (H, S H)`` along one sequence ``x (T, D)`` for t = T, T - 1, ..., 1."""
    backend, size = layer.backend, layer.hidden_size
    double = layer.astype(np.float64)
    packing = Packing.of(np.full(size, len(x)), backend)
    rows = backend.xp.repeat(x.astype(np.float64), size, axis=0)
    _, cache = double.forward(rows, packing=packing)
    traces: list[RecurrentTrace] = []
    identity = backend.asarray(np.eye(size), dtype=np.float64)
    others = (None for _ in double.states[1:])
    double.backward((None, identity, *others), cache, traces.append)
    states = [backend.to_numpy(d).reshape(len(x), size, size) for d in traces[0].d_states]
    for t in range(len(x) - 1, -1, -1):
        yield np.hstack([state[t] for state in states])


def singular_values(layer: Recurrent, x: Array) -> Floats:
    """(3), largest first, for lags 0, 1, ..., T - 1: ``(T, H)``."""
    return np.array(
        [np.linalg.svd(jacobian, compute_uv=False) for jacobian in state_jacobians(layer, x)]
    )


def look(lab: Lab, variant: str, when: str) -> Rows:
    """A row a lag with (1), (2) and the largest and the median of (3), of a model as it is now."""
    reached, given = gradient_by_lag(lab)
    x, _ = lab.batch(lab.random.child("flow").at(0))
    one = x.reshape(-1, lab.config.batch_size, x.shape[1])[:, 0]
    values = singular_values(lab.model.encoder.cells[0], one)
    return [
        {
            "recipe": variant,
            "when": when,
            "lag": lag,
            "gradient": float(reached[lag]),
            "relative": float(reached[lag] / reached[0]),
            "direct": float(given[lag]),
            "largest": float(values[lag][0]),
            "median": float(np.median(values[lag])),
        }
        for lag in range(len(reached))
    ]


def cures(
    task: str,
    length: int,
    seed: int,
    variants: Sequence[str],
    config: LabConfig,
    backend: Backend,
    on_done: Callable[[str], None] = lambda variant: None,
) -> Rows:
    """:func:`look` at each variant, before and after training on ``task``."""
    rows: Rows = []
    for variant in variants:
        lab = Lab(TASKS[task], VARIANTS[variant], length, seed, config, backend)
        for when in WHEN:
            if when == "trained":
                lab.run()
            rows += look(lab, variant, when)
        on_done(variant)
    return rows


def answer(table: Sequence[Mapping[str, Any]], plain: str = "tanh") -> str:
    """How far each variant moves the horizon of ``plain``: a sentence a task.

    ``table`` is that of :func:`npnlp.lab.trial.horizons`. A horizon that is the largest length
    tried is "at least" that. A task without ``plain`` is left out.
    """
    sentences = []
    for task in dict.fromkeys(row["task"] for row in table):
        of_task = {row["recipe"]: row for row in table if row["task"] == task}
        if plain not in of_task:
            continue
        far = {
            name: f"{'at least ' * (row['horizon'] == row['largest'])}{row['horizon']}"
            for name, row in of_task.items()
        }
        moved = [f"{name} to {steps}" for name, steps in far.items() if name != plain]
        start = f"On {str(task).replace('_', ' ')} {plain} remembers {far[plain]} steps"
        sentences.append(f"{start}; {', '.join(moved)}." if moved else f"{start}.")
    return " ".join(sentences)


def _norms(*states: Any) -> Floats:
    """The length of each row of all states together, ``(N,)``."""
    squares: Floats = sum((d.astype(np.float64) ** 2).sum(axis=1) for d in states)
    return np.sqrt(squares)
