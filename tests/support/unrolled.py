"""Every recurrent cell unrolled, one sequence at a time, with a place to nudge each thing in it.

Nothing here goes backward, and nothing is taken from npnlp: a gradient is what a nudge of an
imaginary 1e-20 does to the loss. A weight has a copy of its own at every step, and ``h_{t-1}`` one
for each gate that sees it, so that shares and parts can be told apart by nudging one copy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
TINY = 1e-20
GATES = {
    "elman": ["hidden"],
    "relu": ["hidden"],
    "lstm": ["input", "forget", "candidate", "output"],
    "gru": ["reset", "update", "new"],
    "before": ["reset", "update", "new"],
}
#: The gates that go through tanh.
CANDIDATES = ("hidden", "candidate", "new")


def sigma(a: Values) -> Values:
    return 1 / (1 + np.exp(-a))


@dataclass
class Step:
    """What one step made: its states, and each gate's sum and output."""

    states: list[Values]
    sums: dict[str, Values] = field(default_factory=dict)
    outputs: dict[str, Values] = field(default_factory=dict)
    #: What each gate's block of ``W_hh`` was multiplied with.
    operands: dict[str, Values] = field(default_factory=dict)


def step(
    cell: str,
    x: Values,
    before: Sequence[Values],
    weights: Mapping[str, Values],
    seen: Mapping[str, Values] | None = None,
    moved: Mapping[str, Values] | None = None,
) -> Step:
    """One step from the states ``before``; gate g sees ``seen[g]`` for h, ``moved[g]`` is added
    to its sum; ``seen["direct"]`` is what passes by the weights.
    """
    gates, size = GATES[cell], len(before[0])
    h = dict.fromkeys(gates, before[0])
    h["direct"] = before[-1]
    h.update(seen or {})
    nudge = {gate: np.zeros(size) for gate in gates} | dict(moved or {})

    def block(name: str, gate: str) -> Values:
        first = gates.index(gate) * size
        return weights[name][first : first + size]

    made = Step([])

    def put_in(gate: str) -> Values:
        return block("weight_ih", gate) @ x + block("bias_ih", gate) + nudge[gate]

    def recurrent(gate: str, operand: Values) -> Values:
        made.operands[gate] = operand
        return block("weight_hh", gate) @ operand + block("bias_hh", gate)

    def finish(gate: str, a: Values) -> Values:
        y = np.tanh(a) if gate in CANDIDATES else sigma(a)
        if cell == "relu":
            y = a * (a.real > 0)
        made.sums[gate], made.outputs[gate] = a, y
        return y

    def usual(gate: str) -> Values:
        return finish(gate, put_in(gate) + recurrent(gate, h[gate]))

    if cell in ("elman", "relu"):
        made.states = [usual("hidden")]
    elif cell == "lstm":
        i, f, g, o = (usual(gate) for gate in gates)
        c = f * h["direct"] + i * g
        made.states = [o * np.tanh(c), c]
    else:
        r, z = usual("reset"), usual("update")
        after = cell == "gru"
        inner = recurrent("new", h["new"] if after else r * h["new"])
        n = finish("new", put_in("new") + (r * inner if after else inner))
        made.states = [(1 - z) * n + z * h["direct"]]
    return made


@dataclass
class Unrolled:
    """One sequence ``x (T, D)``, and a loss linear in its states.

    ``d_hidden (T, H)`` are the gradients of the loss by each hidden state directly, ``d_last``
    those of the last states.
    """

    cell: str
    x: Values
    initial: list[Values]
    weights: Mapping[str, Values]
    d_hidden: Values
    d_last: list[Values]

    def run(
        self,
        state: tuple[int, int, int] | None = None,
        moved: tuple[int, str, int] | None = None,
        weight: tuple[int, int, int] | None = None,
    ) -> tuple[complex, list[Step]]:
        """The loss and all steps; one number nudged: unit k of state s after step t (t = -1: before
        the first), of gate g's sum at t, or entry (i, j) of ``W_hh`` as step t alone has it.
        """
        states = [value.astype(complex) for value in self.initial]
        if state is not None and state[0] == -1:
            states[state[1]][state[2]] += 1j * TINY
        steps, loss = [], 0j
        for t, x in enumerate(self.x):
            weights, shift = dict(self.weights), {}
            if weight is not None and weight[0] == t:
                weights["weight_hh"] = weights["weight_hh"].astype(complex)
                weights["weight_hh"][weight[1:]] += 1j * TINY
            if moved is not None and moved[0] == t:
                shift[moved[1]] = 1j * TINY * np.eye(len(states[0]))[moved[2]]
            made = step(self.cell, x, states, weights, moved=shift)
            states = made.states
            if state is not None and state[0] == t:
                states[state[1]] = states[state[1]] + 1j * TINY * np.eye(len(states[0]))[state[2]]
            loss += self.d_hidden[t] @ states[0]
            steps.append(made)
        loss += sum(d @ value for d, value in zip(self.d_last, states, strict=True))
        return loss, steps

    def gradient(self, **nudged: Any) -> float:
        return self.run(**nudged)[0].imag / TINY

    def of_state(self, t: int, s: int = 0) -> Values:
        """``dL/d state s`` after step t, the other states held: ``(H,)``."""
        return np.array([self.gradient(state=(t, s, k)) for k in range(len(self.initial[0]))])

    def of_sum(self, t: int, gate: str) -> Values:
        """``dL/da`` of a gate at step t: ``(H,)``."""
        return np.array([self.gradient(moved=(t, gate, k)) for k in range(len(self.initial[0]))])

    def share(self, t: int) -> Values:
        """``dL/dW_hh`` by way of step t alone: ``(G H, H)``."""
        found = np.zeros(self.weights["weight_hh"].shape)
        for place in np.ndindex(*found.shape):
            found[place] = self.gradient(weight=(t, *place))
        return found


def jacobian(
    cell: str,
    x: Values,
    before: Sequence[Values],
    weights: Mapping[str, Values],
    by: str | None = None,
) -> Values:
    """``d states/d states before`` of one step, all states one after another; ``by`` one gate that
    sees h alone, or by ``"direct"``.
    """
    size, columns = len(before[0]), []
    for s in range(len(before)):
        for k in range(size):
            states = [value.astype(complex) for value in before]
            moved = states[s] + 1j * TINY * np.eye(size)[k]
            if by is None:
                states[s] = moved
                made = step(cell, x, states, weights)
            else:
                # What passes by the weights is the last state: h itself, for the LSTM c.
                sees = s == (len(before) - 1 if by == "direct" else 0)
                made = step(cell, x, states, weights, seen={by: moved} if sees else None)
            columns.append(np.concatenate(made.states).imag / TINY)
    return np.array(columns).T
