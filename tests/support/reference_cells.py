"""What the recurrent cells should compute: the papers' equations, a sequence and a step at a time.

Written from the equations, in loops over Python numbers, and nothing is taken from npnlp. Numbers
may be complex, so the gradients come by complex step from these forward loops alone: no backward
equation is written down here that could share a mistake with the one under test.

Sequences are padded, ``(T, B, .)``; weights have PyTorch's names and order of gates.
"""

from __future__ import annotations

import cmath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
Vector = list[Any]
States = tuple[Vector, ...]


def sigmoid(a: Any) -> Any:
    return 1 / (1 + cmath.exp(-a))


def times(rows: Sequence[Vector], x: Vector) -> Vector:
    return [sum(w * v for w, v in zip(row, x, strict=True)) for row in rows]


def plus(*vectors: Vector) -> Vector:
    return [sum(entries) for entries in zip(*vectors, strict=True)]


@dataclass
class Gate:
    """The rows of one gate."""

    input: list[Vector]
    hidden: list[Vector]
    bias_input: Vector
    bias_hidden: Vector

    def of_input(self, x: Vector) -> Vector:
        return plus(times(self.input, x), self.bias_input)

    def of_hidden(self, h: Vector) -> Vector:
        return plus(times(self.hidden, h), self.bias_hidden)

    def sums(self, x: Vector, h: Vector) -> Vector:
        return plus(self.of_input(x), self.of_hidden(h))


def gates_of(weights: Mapping[str, Floats], suffix: str) -> list[Gate]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    arrays = [np.asarray(weights[name + suffix]) for name in names]
    units = arrays[1].shape[1]
    blocks = [slice(k, k + units) for k in range(0, len(arrays[1]), units)]
    return [Gate(*(array[rows].tolist() for array in arrays)) for rows in blocks]


def elman_step(gates: list[Gate], x: Vector, states: States) -> States:
    """Elman, 1990: ``h = tanh(W x + U h + b)``."""
    (gate,), (h,) = gates, states
    return ([cmath.tanh(a) for a in gate.sums(x, h)],)


def lstm_step(gates: list[Gate], x: Vector, states: States) -> States:
    """Gers, Schmidhuber and Cummins, 2000, without peepholes."""
    h, c = states
    i, f, g, o = (gate.sums(x, h) for gate in gates)
    cell = [
        sigmoid(forget) * carried + sigmoid(enter) * cmath.tanh(candidate)
        for forget, carried, enter, candidate in zip(f, c, i, g, strict=True)
    ]
    return [sigmoid(out) * cmath.tanh(value) for out, value in zip(o, cell, strict=True)], cell


def gru_step(gates: list[Gate], x: Vector, states: States) -> States:
    """Cho et al., 2014, with the reset after the product: ``n = tanh(W x + b + r (U h + b'))``."""
    reset, update, new = gates
    (h,) = states
    r = [sigmoid(a) for a in reset.sums(x, h)]
    z = [sigmoid(a) for a in update.sums(x, h)]
    from_h = [gate * value for gate, value in zip(r, new.of_hidden(h), strict=True)]
    n = [cmath.tanh(a) for a in plus(new.of_input(x), from_h)]
    return ([(1 - u) * fresh + u * old for u, fresh, old in zip(z, n, h, strict=True)],)


def gru_before_step(gates: list[Gate], x: Vector, states: States) -> States:
    """Cho et al., 2014, equations 5 to 8: ``n = tanh(W x + U (r h) + b)``."""
    reset, update, new = gates
    (h,) = states
    r = [sigmoid(a) for a in reset.sums(x, h)]
    z = [sigmoid(a) for a in update.sums(x, h)]
    kept = [gate * value for gate, value in zip(r, h, strict=True)]
    n = [cmath.tanh(a) for a in new.sums(x, kept)]
    return ([(1 - u) * fresh + u * old for u, fresh, old in zip(z, n, h, strict=True)],)


Step = Callable[[list[Gate], Vector, States], States]
STEPS: dict[str, Step] = {
    "elman": elman_step,
    "lstm": lstm_step,
    "gru": gru_step,
    "gru_before": gru_before_step,
}
STATES = {"elman": 1, "lstm": 2, "gru": 1, "gru_before": 1}


def run(
    cell: str,
    x: Floats,
    lengths: Sequence[int],
    initial: Sequence[Floats],
    weights: Mapping[str, Floats],
    suffix: str = "_l0",
    *,
    backwards: bool = False,
) -> tuple[Floats, ...]:
    """``(hidden (T, B, H), last state (B, H), ...)``, complex; zero where a sequence has ended."""
    steps, batch, _ = x.shape
    gates, units = gates_of(weights, suffix), initial[0].shape[1]
    hidden = np.zeros((steps, batch, units), dtype=complex)
    lasts = [np.zeros((batch, units), dtype=complex) for _ in initial]
    for b in range(batch):
        states: States = tuple(state[b].tolist() for state in initial)
        times_of_b = range(lengths[b])
        for t in reversed(times_of_b) if backwards else times_of_b:
            states = STEPS[cell](gates, x[t, b].tolist(), states)
            hidden[t, b] = states[0]
        for last, state in zip(lasts, states, strict=True):
            last[b] = state
    return hidden, *lasts


def run_stack(
    cell: str,
    x: Floats,
    lengths: Sequence[int],
    initial: Sequence[Floats],
    weights: Mapping[str, Floats],
    *,
    num_layers: int,
    bidirectional: bool,
) -> tuple[Floats, ...]:
    """``(output (T, B, F), last states (K, B, H), ...)``; ``initial`` are ``(K, B, H)``."""
    lasts: list[list[Floats]] = []
    for k in range(num_layers):
        outputs = []
        for direction, suffix in enumerate(["", "_reverse"][: 1 + bidirectional]):
            first = [state[len(lasts)] for state in initial]
            hidden, *last = run(
                cell, x, lengths, first, weights, f"_l{k}{suffix}", backwards=direction == 1
            )
            outputs.append(hidden)
            lasts.append(last)
        x = np.concatenate(outputs, axis=2)
    return x, *(np.stack(states) for states in zip(*lasts, strict=True))


def gradients(
    forward: Callable[[dict[str, Floats]], Sequence[Floats]],
    variables: Mapping[str, Floats],
    *several: Sequence[Floats | None],
) -> list[dict[str, Floats]]:
    """``dL/dv`` of each variable, ``L = sum(seed * output)``, for each of ``several`` seeds."""
    moved = {name: np.array(value, dtype=complex) for name, value in variables.items()}
    found = [{name: np.zeros(value.shape) for name, value in moved.items()} for _ in several]
    for name, value in moved.items():
        for index in np.ndindex(value.shape):
            kept = value[index]
            value[index] = kept + 1e-20j
            outputs = forward(moved)
            value[index] = kept
            for seeds, grads in zip(several, found, strict=True):
                pairs = zip(seeds, outputs, strict=True)
                loss = sum((seed * y).sum() for seed, y in pairs if seed is not None)
                grads[name][index] = complex(loss).imag / 1e-20
    return found
