"""The checks find what is wrong: mistakes planted in the reference and in the tuned loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Array, Backend, Random, get_backend
from npnlp.backend.numpy_backend import NumpyBackend
from npnlp.backend.tuned.cell import TunedCell
from npnlp.backend.tuned.loop import CELLS as TUNED
from npnlp.backend.tuned.loop import TunedPasses
from npnlp.backend.tuned.products import ALL, Operand, Product
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.layers.recurrent.recurrent import Recurrent
from tests.layers.test_cells import CELLS, D, H, Problem, make
from tests.support.door import WithCell

NUMPY, REFERENCE = get_backend("numpy"), get_backend("reference")
KINDS = {"elman": "elman_tanh", "lstm": "lstm", "gru": "gru", "gru_before": "gru_reset_before"}

# In a layer, whoever computes: right but for one line.


def reversal_that_does_not_reverse(cell: Any) -> Any:
    """Reads each sequence from its end, and gives the gradient back unturned."""

    class Unturned(cell):  # type: ignore[misc]
        def forward(self, x: Array, *initial: Any, packing: Any) -> Any:
            return super().forward(packing.reverse(x), *initial, packing=packing)

    return Unturned


def steps_in_the_wrong_order(cell: Any) -> Any:
    """Comes back to each step's rows with those of the opposite step's gradient."""

    class WrongOrder(cell):  # type: ignore[misc]
        def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
            return super().backward((cache.packing.reverse(dy[0]), *dy[1:]), cache, probe)

    return WrongOrder


def states_in_sorted_order(cell: Any) -> Any:
    class Unsorted(cell):  # type: ignore[misc]
        def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
            d_x, *states = super().backward(dy, cache, probe)
            return (d_x, *(cache.packing.sort(d) for d in states))

    return Unsorted


def swapped_states(cell: Any) -> Any:
    class SwappedStates(cell):  # type: ignore[misc]
        def backward(self, dy: Any, cache: Any, probe: Any = None) -> Any:
            d_x, *states = super().backward(dy, cache, probe)
            return (d_x, *states[::-1])

    return SwappedStates


LAYERS = {
    "a reversal that does not reverse": reversal_that_does_not_reverse,
    "steps in the wrong order": steps_in_the_wrong_order,
    "states in sorted order": states_in_sorted_order,
}

# In the reference: a change of what step_backward is given, or of what it returns.
Undoing = Callable[..., tuple[Array, tuple[Array, ...]]]
Change = Callable[[Any, Undoing, Any, Any, Any, Any], Any]


def undone(change: Change) -> Callable[[Any], Any]:
    """A cell whose undoing is ``change(layer, step_backward, d, now, before, memory)``."""

    def plant(cell: Any) -> Any:
        class Wrong(cell):  # type: ignore[misc]
            def step_backward(self, d: Any, now: Any, before: Any, memory: Any) -> Any:
                return change(self, super().step_backward, d, now, before, memory)

        return Wrong

    return plant


def scaled_sums(layer: Any, right: Undoing, *given: Any) -> Any:
    d_u, d_before = right(*given)
    return 1.001 * d_u, d_before


def scaled_carry(layer: Any, right: Undoing, *given: Any) -> Any:
    d_u, (d_h, *others) = right(*given)
    return d_u, (0.999 * d_h, *others)


def no_way_back(layer: Any, right: Undoing, *given: Any) -> Any:
    d_u, d_before = right(*given)
    return d_u, tuple(0 * d for d in d_before)


def transposed_weight(layer: Any, right: Undoing, *given: Any) -> Any:
    w_hh = layer.weight("weight_hh")
    kept = w_hh.copy()
    blocks = kept.reshape(-1, layer.hidden_size, layer.hidden_size)
    w_hh[...] = blocks.swapaxes(1, 2).reshape(kept.shape)
    found = right(*given)
    w_hh[...] = kept
    return found


def state_of_the_same_step(layer: Any, right: Undoing, d: Any, now: Any, *rest: Any) -> Any:
    before, memory = rest
    return right(d, now, (now[0], *before[1:]), memory)


def rows_of_the_sequence_before(layer: Any, right: Undoing, d: Any, now: Any, *rest: Any) -> Any:
    before, memory = rest
    rolled = tuple(np.roll(array, 1, axis=-2) for array in memory)
    return right(d, (np.roll(now[0], 1, axis=0), *now[1:]), before, rolled)


def no_gradient_of_b_hh(layer: Any, right: Undoing, *given: Any) -> Any:
    kept = layer.d_weights.b_hh.copy()
    found = right(*given)
    layer.d_weights.b_hh[...] = kept
    return found


def of_gates(change: Callable[[Any], Any]) -> Change:
    """Other gates than those of the forward pass."""

    def wrong(layer: Any, right: Undoing, d: Any, now: Any, before: Any, memory: Any) -> Any:
        gates = memory[0].copy()
        change(gates)
        return right(d, now, before, (gates, *memory[1:]))

    return wrong


def of_sums(change: Callable[[Any], Any]) -> Change:
    """Another gradient of the sums, ``(b, G, H)`` in place."""

    def wrong(layer: Any, right: Undoing, *given: Any) -> Any:
        d_u, d_before = right(*given)
        change(d_u.reshape(len(d_u), len(layer.gates), -1))
        return d_u, d_before

    return wrong


def swap(first: int, second: int, axis: int) -> Callable[[Any], Any]:
    def change(array: Any) -> None:
        moved = array.swapaxes(0, axis)
        moved[[first, second]] = moved[[second, first]]

    return change


def scale(place: int, by: float, axis: int) -> Callable[[Any], Any]:
    def change(array: Any) -> None:
        array.swapaxes(0, axis)[place] *= by

    return change


def turned(place: int) -> Callable[[Any], Any]:
    def change(gates: Any) -> None:
        gates[place] = 1 - gates[place]

    return change


def second_memory(by: float) -> Change:
    """The second remembered array: q, m or tanh(c)."""

    def wrong(layer: Any, right: Undoing, d: Any, now: Any, before: Any, memory: Any) -> Any:
        return right(d, now, before, (memory[0], by * memory[1]))

    return wrong


def cell_state_not_carried(layer: Any, right: Undoing, *given: Any) -> Any:
    d_u, (d_h, d_c) = right(*given)
    return d_u, (d_h, 0 * d_c)


EVERY_UNDOING: dict[str, Change] = {
    "0.1 % in the sums": scaled_sums,
    "0.1 % on the way back": scaled_carry,
    "no way back": no_way_back,
    "transposed weight": transposed_weight,
    "operand of the same step": state_of_the_same_step,
    "memory of the row before": rows_of_the_sequence_before,
    "no gradient of b_hh": no_gradient_of_b_hh,
    "no gradient of the first sum": of_sums(scale(0, 0.0, 1)),
}
UNDOINGS: dict[str, dict[str, Change]] = {
    "elman": {},
    "lstm": {
        "i and f swapped": of_gates(swap(0, 1, 0)),
        "g and o swapped": of_sums(swap(2, 3, 1)),
        "no gradient of o": of_sums(scale(3, 0.0, 1)),
        "0.1 % in f": of_gates(scale(1, 1.001, 0)),
        "1 - f for f": of_gates(turned(1)),
        "c is not carried": cell_state_not_carried,
        "another tanh(c)": second_memory(1.001),
    },
    "gru": {
        "r and z swapped": of_gates(swap(0, 1, 0)),
        "0.1 % in z": of_gates(scale(1, 1.001, 0)),
        "1 - z for z": of_gates(turned(1)),
        "no reset on the way back": of_gates(scale(0, 0.0, 0)),
        "another q": second_memory(1.001),
    },
    "gru_before": {
        "r and z swapped": of_gates(swap(0, 1, 0)),
        "z and n swapped": of_sums(swap(1, 2, 1)),
        "1 - z for z": of_gates(turned(1)),
        "no reset on the way back": of_gates(scale(0, 0.0, 0)),
        "another m": second_memory(1.001),
    },
}

# In the tuned loop: a cell or the passes around it.


def tuned_scaled_sums(cell: type[TunedCell]) -> type[TunedCell]:
    class ScaledSums(cell):  # type: ignore[misc, valid-type]
        def step_backward(self, delta: Array, slopes: Any, d: Any, back: Product) -> None:
            super().step_backward(delta, slopes, d, back)
            delta *= 1.001

    return ScaledSums


def tuned_scaled_carry(cell: type[TunedCell]) -> type[TunedCell]:
    class ScaledCarry(cell):  # type: ignore[misc, valid-type]
        def step_backward(self, delta: Array, slopes: Any, d: Any, back: Product) -> None:
            super().step_backward(delta, slopes, d, back)
            d[0][...] *= 0.999

    return ScaledCarry


def tuned_no_way_back(cell: type[TunedCell]) -> type[TunedCell]:
    class NoWayBack(cell):  # type: ignore[misc, valid-type]
        def step_backward(self, delta: Array, slopes: Any, d: Any, back: Product) -> None:
            def nothing(x: Array, gates: slice = ALL, out: Array | None = None) -> Any:
                y = back(x, gates, out)
                y *= 0
                return y

            super().step_backward(delta, slopes, d, nothing)

    return NoWayBack


def shifted_slopes(cell: type[TunedCell]) -> type[TunedCell]:
    class ShiftedSlopes(cell):  # type: ignore[misc, valid-type]
        def slopes(self, arrays: Any, delta: Array, scratch: Any) -> Any:
            rest = super().slopes(arrays, delta, scratch)
            delta[...] = np.roll(delta, 1, axis=0)
            return rest

    return ShiftedSlopes


def shifted_rest(cell: type[TunedCell]) -> type[TunedCell]:
    class ShiftedRest(cell):  # type: ignore[misc, valid-type]
        def slopes(self, arrays: Any, delta: Array, scratch: Any) -> Any:
            return tuple(
                np.roll(slope, 1, axis=0) for slope in super().slopes(arrays, delta, scratch)
            )

    return ShiftedRest


def shifted_operand(cell: type[TunedCell]) -> type[TunedCell]:
    """Multiplies with the state of the same step, not of the one before."""

    class ShiftedOperand(cell):  # type: ignore[misc, valid-type]
        def operands(self) -> tuple[Operand, ...]:
            return tuple(operand._replace(before=False) for operand in super().operands())

    return ShiftedOperand


def no_reset_in_the_operand(cell: type[TunedCell]) -> type[TunedCell]:
    class NoResetInTheOperand(cell):  # type: ignore[misc, valid-type]
        def operands(self) -> tuple[Operand, ...]:
            gates, new = super().operands()
            return gates, new._replace(name="hidden", before=True)

    return NoResetInTheOperand


def swapped(first: int, second: int) -> Callable[[type[TunedCell]], type[TunedCell]]:
    """Two gates' partial derivatives in each other's place."""

    def plant(cell: type[TunedCell]) -> type[TunedCell]:
        class Swapped(cell):  # type: ignore[misc, valid-type]
            def slopes(self, arrays: Any, delta: Array, scratch: Any) -> Any:
                rest = super().slopes(arrays, delta, scratch)
                blocks = delta.reshape(len(delta), self.deltas, self.hidden_size)
                blocks[:, [first, second]] = blocks[:, [second, first]]
                return rest

        return Swapped

    return plant


def dropped(block: int) -> Callable[[type[TunedCell]], type[TunedCell]]:
    """No gradient for one of the sums."""

    def plant(cell: type[TunedCell]) -> type[TunedCell]:
        class Dropped(cell):  # type: ignore[misc, valid-type]
            def slopes(self, arrays: Any, delta: Array, scratch: Any) -> Any:
                rest = super().slopes(arrays, delta, scratch)
                delta.reshape(len(delta), self.deltas, self.hidden_size)[:, block] = 0
                return rest

        return Dropped

    return plant


def changed_rest(
    place: int, change: Callable[[Any], Any]
) -> Callable[[type[TunedCell]], type[TunedCell]]:
    """Another number in the place of one that ``slopes`` returns."""

    def plant(cell: type[TunedCell]) -> type[TunedCell]:
        class ChangedRest(cell):  # type: ignore[misc, valid-type]
            def slopes(self, arrays: Any, delta: Array, scratch: Any) -> Any:
                rest = super().slopes(arrays, delta, scratch)
                return (*rest[:place], change(rest[place]), *rest[place + 1 :])

        return ChangedRest

    return plant


def one_bias_for_both(cell: type[TunedCell]) -> type[TunedCell]:
    """Forgets that the reset gate stands before the inner bias, and not before the outer one."""

    class OneBias(cell):  # type: ignore[misc, valid-type]
        def of_product(self, delta: Array) -> Array:
            return super().of_input(delta)  # type: ignore[no-any-return]

    return OneBias


class TransposedWeight(TunedPasses):
    """The way back through the weights as they are not."""

    def _run_backward(self, *given: Any) -> None:
        arguments = list(given)
        blocks = arguments[4].reshape(-1, self.cell.hidden_size, self.cell.hidden_size)
        arguments[4] = blocks.swapaxes(1, 2).reshape(arguments[4].shape)
        super()._run_backward(*arguments)


Plant = Callable[[type[TunedCell]], type[TunedCell]]
EVERY_CELL: dict[str, Plant] = {
    "0.1 % in the sums": tuned_scaled_sums,
    "0.1 % on the way back": tuned_scaled_carry,
    "no way back through the weights": tuned_no_way_back,
    "slopes of the row before": shifted_slopes,
    "operand of the same step": shifted_operand,
    "no gradient of the first sum": dropped(0),
}
OF_A_CELL: dict[str, dict[str, Plant]] = {
    "elman": {},
    "lstm": {
        "the rest of the row before": shifted_rest,
        "i and f swapped": swapped(0, 1),
        "g and o swapped": swapped(2, 3),
        "i and o swapped": swapped(0, 3),
        "no gradient of o": dropped(3),
        "h does not reach c": changed_rest(0, lambda dh_dc: 0 * dh_dc),
        "c is not carried": changed_rest(1, lambda f: 0 * f),
        "1 - f for f": changed_rest(1, lambda f: 1 - f),
        "0.1 % in f": changed_rest(1, lambda f: 1.001 * f),
    },
    "gru": {
        "the rest of the row before": shifted_rest,
        "r and z swapped": swapped(0, 1),
        "q and n swapped": swapped(2, 3),
        "no gradient of q": dropped(2),
        "h is not carried": changed_rest(0, lambda z: 0 * z),
        "1 - z for z": changed_rest(0, lambda z: 1 - z),
        "0.1 % in z": changed_rest(0, lambda z: 1.001 * z),
        "inner bias outside": one_bias_for_both,
    },
    "gru_before": {
        "the rest of the row before": shifted_rest,
        "r and z swapped": swapped(0, 1),
        "z and n swapped": swapped(1, 2),
        "h is not carried": changed_rest(0, lambda z: 0 * z),
        "1 - z for z": changed_rest(0, lambda z: 1 - z),
        "h does not pass the reset": changed_rest(1, lambda r: 0 * r),
        "no reset on the way back": changed_rest(1, lambda r: 0 * r + 1),
        "the operand without reset": no_reset_in_the_operand,
    },
}


def planted() -> list[Any]:
    """A layer of each cell with each mistake in it, by name."""

    def layer(cell: str, kind: Any, backend: Backend) -> Recurrent:
        made: Recurrent = kind(D, H, dtype=np.float64, random=Random(4), backend=backend)
        return made

    found = {}
    for cell, kind in CELLS.items():
        of_layer: dict[str, Callable[[Any], Any]] = dict(LAYERS)
        if cell == "lstm":
            of_layer["h and c swapped"] = swapped_states
        for name, plant in of_layer.items():
            for backend in (NUMPY, REFERENCE):
                found[f"{cell}, {backend.name}: {name}"] = layer(cell, plant(kind), backend)
        for name, change in (EVERY_UNDOING | UNDOINGS[cell]).items():
            found[f"{cell}, reference: {name}"] = layer(cell, undone(change)(kind), REFERENCE)
        right = TUNED[KINDS[cell]]
        for name, wrong in (EVERY_CELL | OF_A_CELL[cell]).items():
            found[f"{cell}, tuned: {name}"] = layer(cell, kind, WithCell(wrong(right)))
        backend = WithCell(right, TransposedWeight)
        found[f"{cell}, tuned: transposed weight"] = layer(cell, kind, backend)
    return [pytest.param(name.split(",")[0], made, id=name) for name, made in found.items()]


@pytest.mark.parametrize(("cell", "layer"), planted())
def test_a_planted_mistake_is_caught(cell: str, layer: Recurrent) -> None:
    inputs, keywords = Problem(cell, layer, [3, 1, 5, 2]).inputs()
    assert not check_gradients(layer, *inputs, **keywords).passed
    assert not check_adjoint(layer, *inputs, **keywords).passed


@pytest.mark.parametrize("backend", [NUMPY, REFERENCE, "planted"], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_without_a_mistake_the_checks_pass(cell: str, backend: Any) -> None:
    if backend == "planted":
        backend = WithCell(TUNED[KINDS[cell]])
    layer = make(cell, backend)
    inputs, keywords = Problem(cell, layer, [3, 1, 5, 2]).inputs()
    for check in (check_gradients, check_adjoint):
        assert check(layer, *inputs, **keywords).passed


def test_a_subclass_with_its_own_mathematics_is_not_taken_for_its_cell() -> None:
    layer: Any = undone(scaled_sums)(CELLS["gru"])(D, H)
    assert layer.kind() == ""
    assert layer.backend.recurrent_passes(layer.kind(), H, layer.dtype) is None
    assert NumpyBackend().recurrent_passes("gru", H, layer.dtype) is not None
