"""The cells of the one loop over time against the papers' equations, and what none may change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Array, Backend, Random, get_backend
from npnlp.backend.operations import LookedUp
from npnlp.errors import InputError
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.layers import Elman, FlatParameters, Packing, pack_padded_sequence
from npnlp.layers.recurrent.gru import GRU, GRUResetBefore
from npnlp.layers.recurrent.lstm import LSTM
from npnlp.layers.recurrent.recurrent import Recurrent
from npnlp.training.optimizers import SGD
from tests.support import reference_cells
from tests.support.reference import assert_close, draw, host, pack, pad

NUMPY = get_backend("numpy")
D, H, V = 3, 4, 5
LENGTHS = [3, 1, 5, 1, 2]
CELLS: dict[str, Callable[..., Recurrent]] = {
    "elman": Elman,
    "lstm": LSTM,
    "gru": GRU,
    "gru_before": GRUResetBefore,
}
GATED = [name for name in CELLS if name != "elman"]
Floats = np.typing.NDArray[Any]

each_cell = pytest.mark.parametrize("cell", CELLS)
with_states = pytest.mark.parametrize("with_initial", [True, False], ids=["states", "no states"])
looked_up = pytest.mark.parametrize("by_token", [True, False], ids=["tokens", "rows"])
property_test = settings(max_examples=8)


def make(cell: str, backend: Backend = NUMPY, dtype: Any = np.float64, **sizes: int) -> Recurrent:
    inputs, units = sizes.get("inputs", D), sizes.get("units", H)
    layer = CELLS[cell](
        inputs, units, backend=backend, dtype=dtype, random=Random(sizes.get("seed", 4))
    )
    # Larger weights than the first ones, so that no gate stays in the middle.
    for value in layer.parameters.values():
        value *= 2
    return layer


@dataclass
class Problem:
    """A cell, a batch in the caller's order, and gradients of its outputs, on the host.

    ``by_token``: the input is a table with a row a token, otherwise a row a step.
    """

    cell: str
    layer: Recurrent
    lengths: list[int] = field(default_factory=lambda: LENGTHS)
    with_initial: bool = True
    by_token: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        layer, padded = self.layer, (max(self.lengths), len(self.lengths))
        running = np.arange(padded[0])[:, None, None] < np.array(self.lengths)[:, None]
        inputs, units, kind = layer.input_size, layer.hidden_size, layer.dtype
        shape = (V, inputs) if self.by_token else (*padded, inputs)
        self.tokens = np.random.default_rng(self.seed).integers(0, V, padded)
        self.x = draw(self.seed, *shape).astype(kind)
        first = [draw(self.seed + 5 + k, padded[1], units) for k in range(len(layer.states))]
        self.initial = [(state * self.with_initial).astype(kind) for state in first]
        self.d_hidden = (draw(self.seed + 2, *padded, units) * running).astype(kind)
        self.d_lasts = [draw(self.seed + 9 + k, *self.initial[0].shape).astype(kind)
                        for k in range(len(layer.states))]  # fmt: skip
        self.weights = host(layer.backend, layer.parameters)
        self.packing = Packing.of(np.array(self.lengths), layer.backend)

    def inputs(self) -> tuple[list[Any], dict[str, Any]]:
        """What forward takes."""
        send, tokens = self.layer.backend.asarray, pack(self.tokens, self.lengths)
        x: Any = send((self.x if self.by_token else pack(self.x, self.lengths)).copy())
        if self.by_token:
            x = LookedUp(x, send(tokens.copy()))
        given = self.initial if self.with_initial else []
        return [x, *(send(state.copy()) for state in given)], {"packing": self.packing}

    def forward(self) -> tuple[tuple[Array, ...], Any]:
        inputs, keywords = self.inputs()
        return self.layer.forward(*inputs, **keywords)

    def seeds(self, through: str) -> tuple[Any, ...]:
        """``dy``, padded, of the outputs that ``through`` names: hidden, 0, 1 or all."""
        named = through.split()
        return (
            self.d_hidden if through == "all" or "hidden" in named else None,
            *(d if through == "all" or str(k) in named else None
              for k, d in enumerate(self.d_lasts)),
        )  # fmt: skip

    def backward(self, cache: Any, through: str = "all") -> dict[str, Floats]:
        """All gradients, by name."""
        backend, (d_hidden, *d_lasts) = self.layer.backend, self.seeds(through)
        packed = None if d_hidden is None else backend.asarray(pack(d_hidden, self.lengths))
        lasts = (None if d is None else backend.asarray(d.copy()) for d in d_lasts)
        self.layer.zero_grads()
        d_x, *d_initial = self.layer.backward((packed, *lasts), cache)
        d_x = backend.to_numpy(d_x)
        found = {"x": d_x if self.by_token else pad(d_x, self.lengths)}
        assert len(d_initial) == len(self.initial)
        for k, d in enumerate(d_initial):
            assert (d is None) == (not self.with_initial)
            if d is not None:
                found[f"state {k}"] = backend.to_numpy(d).copy()
        return found | host(backend, self.layer.grads)

    def reference(self, variables: dict[str, Floats]) -> tuple[Floats, ...]:
        x = variables["x"]
        states = [variables[f"state {k}"] for k in range(len(self.initial))]
        return reference_cells.run(
            self.cell, x[self.tokens] if self.by_token else x, self.lengths, states, variables
        )

    def variables(self) -> dict[str, Floats]:
        states = {f"state {k}": state for k, state in enumerate(self.initial)}
        return {"x": self.x, **states, **self.weights}

    def expected(self, through: str = "all") -> dict[str, Floats]:
        (found,) = reference_cells.gradients(self.reference, self.variables(), self.seeds(through))
        return {name: value for name, value in found.items()
                if self.with_initial or not name.startswith("state")}  # fmt: skip


def assert_outputs(problem: Problem, outputs: tuple[Array, ...], bound: float = 1e-12) -> None:
    backend = problem.layer.backend
    hidden, *lasts = (y.real for y in problem.reference(problem.variables()))
    assert_close(pad(backend.to_numpy(outputs[0]), problem.lengths), hidden, bound, floor=1.0)
    for found, expected in zip(outputs[1:], lasts, strict=True):
        assert_close(found, expected, bound, backend, floor=1.0)


def assert_same(
    found: dict[str, Floats], expected: dict[str, Floats], bound: float = 1e-12, floor: float = 1.0
) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert_close(gradient, expected[name], bound, floor=floor)


SHAPES = {
    "lengths": st.lists(st.integers(1, 4), min_size=1, max_size=3),
    "inputs": st.integers(1, 3),
    "units": st.integers(1, 3),
    "with_initial": st.booleans(),
    "by_token": st.booleans(),
    "seed": st.integers(0, 2**32),
}


def problem_of(cell: str, backend: Backend, shape: dict[str, Any]) -> Problem:
    sizes = {name: shape[name] for name in ("inputs", "units", "seed")}
    rest = {name: shape[name] for name in ("lengths", "with_initial", "by_token", "seed")}
    return Problem(cell, make(cell, backend, **sizes), **rest)


@each_cell
@property_test
@given(through=st.sampled_from(["all", "hidden", "0"]), **SHAPES)
def test_any_shape_equals_the_equations(
    cell: str, backend: Backend, through: str, **shape: Any
) -> None:
    problem = problem_of(cell, backend, shape)
    outputs, cache = problem.forward()
    assert_outputs(problem, outputs)
    assert_same(problem.backward(cache, through), problem.expected(through))


@each_cell
@with_states
@looked_up
def test_gradients_by_complex_step(
    cell: str, with_initial: bool, by_token: bool, backend: Backend
) -> None:
    problem = Problem(cell, make(cell, backend), LENGTHS, with_initial, by_token)
    inputs, keywords = problem.inputs()
    report = check_gradients(problem.layer, *inputs, **keywords)
    assert report.passed, str(report)
    positions = [f"input {k}" for k in range(1 + with_initial * len(problem.initial))]
    assert {row.quantity for row in report.rows} == {"repeatable", *problem.weights, *positions}


@each_cell
@pytest.mark.parametrize("seed", range(6))
def test_gradients_of_drawn_shapes_by_complex_step(cell: str, seed: int, backend: Backend) -> None:
    numbers = np.random.default_rng(seed)
    shape = {
        "lengths": numbers.integers(1, 7, numbers.integers(1, 6)).tolist(),
        "inputs": int(numbers.integers(1, 4)),
        "units": int(numbers.integers(1, 5)),
        "with_initial": bool(seed % 2),
        "by_token": bool(seed // 2 % 2),
        "seed": seed,
    }
    problem = problem_of(cell, backend, shape)
    inputs, keywords = problem.inputs()
    report = check_gradients(problem.layer, *inputs, **keywords)
    assert report.passed, str(report)


@each_cell
@pytest.mark.parametrize("through", ["hidden", "0", "1", "hidden 1", "0 1"])
@with_states
def test_gradients_through_some_of_the_outputs(
    cell: str, through: str, with_initial: bool, backend: Backend
) -> None:
    problem = Problem(cell, make(cell, backend, units=2), [2, 3, 1], with_initial)
    if "1" in through and len(problem.initial) < 2:
        through = through.replace("1", "").strip() or "none"
    found = problem.backward(problem.forward()[1], through)
    assert_same(found, problem.expected(through))
    assert any(np.abs(value).max() > 1e-3 for value in found.values()) == (through != "none")


@each_cell
@pytest.mark.parametrize("lengths", [[1024], [1024, 1, 1000, 513]], ids=["one", "several"])
def test_adjoint_over_1024_steps(cell: str, lengths: list[int], backend: Backend) -> None:
    layer = CELLS[cell](8, 16, backend=backend, dtype=np.float64, random=Random(4))
    # What is remembered has to reach the first step, or its gradient would count for nothing.
    if cell == "elman":
        w_hh = backend.to_numpy(layer.parameters["weight_hh_l0"])
        layer.parameters["weight_hh_l0"][...] = backend.asarray(w_hh / np.linalg.norm(w_hh, 2))
    else:
        layer.parameters["bias_ih_l0"][16:32] += 6.0
    packing = Packing.of(np.array(lengths), backend)
    inputs = [backend.asarray(draw(0, packing.rows, 8))]
    inputs += [backend.asarray(draw(1 + k, len(lengths), 16)) for k in range(len(layer.states))]
    report = check_adjoint(layer, *inputs, packing=packing)
    assert report.passed, str(report)
    if cell in GATED:
        outputs, cache = layer.forward(*inputs, packing=packing)
        dy = (None, *(backend.asarray(np.ones(y.shape)) for y in outputs[1:]))
        d_initial = layer.backward(dy, cache)[1:]
        assert max(np.abs(backend.to_numpy(d)[0]).max() for d in d_initial) > 1e-3


@each_cell
@with_states
def test_float32_is_float64_to_five_digits(cell: str, with_initial: bool, backend: Backend) -> None:
    lengths = [9, 1, 12, 5]
    double = Problem(cell, make(cell, backend, inputs=8, units=16), lengths, with_initial)
    single = Problem(cell, double.layer.astype(np.float32), lengths, with_initial)
    outputs, cache = double.forward()
    found, cache_found = single.forward()
    for y, expected in zip(found, outputs, strict=True):
        assert y.dtype == np.float32
        assert_close(y, backend.to_numpy(expected), 1e-5, backend)
    gradients = single.backward(cache_found)
    assert {gradient.dtype for gradient in gradients.values()} == {np.dtype(np.float32)}
    assert_same(gradients, double.backward(cache), 1e-5, floor=0.0)
    assert all(a.dtype == np.float32 for a in (*cache_found.memory, *cache_found.states))


@each_cell
@property_test
@given(extra=st.integers(1, 4), **SHAPES)
def test_more_padding_changes_nothing(
    cell: str, backend: Backend, extra: int, **shape: Any
) -> None:
    problem = problem_of(cell, backend, shape | {"by_token": False})
    padding = np.full((extra, *problem.x.shape[1:]), np.nan)
    longer = np.concatenate([problem.x, padding])
    x, packing = pack_padded_sequence(backend.asarray(longer), np.array(problem.lengths), backend)
    inputs, _ = problem.inputs()
    outputs, cache = problem.forward()
    again, cache_again = problem.layer.forward(x, *inputs[1:], packing=packing)
    for y, expected in zip(again, outputs, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(y), backend.to_numpy(expected))
    expected_gradients = problem.backward(cache)
    for name, gradient in problem.backward(cache_again).items():
        np.testing.assert_array_equal(gradient, expected_gradients[name])


def part(problem: Problem, rows: list[int], cell: str, backend: Backend, **shape: Any) -> Problem:
    """The problem of some of its sequences, in that order."""
    lengths = [problem.lengths[b] for b in rows]
    other = problem_of(cell, backend, shape | {"lengths": lengths})
    for name in ("tokens", "d_hidden", *(() if problem.by_token else ("x",))):
        setattr(other, name, getattr(problem, name)[: max(lengths), rows])
    if problem.by_token:
        other.x = problem.x
    for name in ("initial", "d_lasts"):
        setattr(other, name, [value[rows] for value in getattr(problem, name)])
    return other


@each_cell
@property_test
@given(data=st.data(), **SHAPES)
def test_another_order_of_the_batch_changes_only_the_order(
    cell: str, backend: Backend, data: st.DataObject, **shape: Any
) -> None:
    problem = problem_of(cell, backend, shape)
    order = data.draw(st.permutations(range(len(problem.lengths))))
    other = part(problem, order, cell, backend, **shape)
    (hidden, *lasts), cache = problem.forward()
    (hidden_other, *lasts_other), cache_other = other.forward()
    padded = pad(backend.to_numpy(hidden), problem.lengths)
    assert_close(pad(backend.to_numpy(hidden_other), other.lengths), padded[:, order], floor=1.0)
    for found, last in zip(lasts_other, lasts, strict=True):
        assert_close(found, backend.to_numpy(last)[order], backend=backend, floor=1.0)
    expected = problem.backward(cache)
    if not problem.by_token:
        expected["x"] = expected["x"][:, order]
    for name in expected:
        if name.startswith("state"):
            expected[name] = expected[name][order]
    assert_same(other.backward(cache_other), expected)


@each_cell
@property_test
@given(data=st.data(), **SHAPES)
def test_the_gradients_of_a_split_batch_add_up(
    cell: str, backend: Backend, data: st.DataObject, **shape: Any
) -> None:
    problem = problem_of(cell, backend, shape)
    (hidden, *lasts), cache = problem.forward()
    padded = pad(backend.to_numpy(hidden), problem.lengths)
    whole = problem.backward(cache)
    everyone = list(range(len(problem.lengths)))
    cut = data.draw(st.integers(0, len(everyone)))
    sums = {name: np.zeros_like(value) for name, value in problem.weights.items()}
    for rows in filter(None, (everyone[:cut], everyone[cut:])):
        one = part(problem, rows, cell, backend, **shape)
        (hidden_part, *lasts_part), cache_part = one.forward()
        shown = pad(backend.to_numpy(hidden_part), one.lengths)
        assert_close(shown, padded[: max(one.lengths), rows], floor=1.0)
        for found, last in zip(lasts_part, lasts, strict=True):
            assert_close(found, backend.to_numpy(last)[rows], backend=backend, floor=1.0)
        gradients = one.backward(cache_part)
        for name, total in sums.items():
            total += gradients[name]
    assert_same(sums, {name: whole[name] for name in sums})


@each_cell
@looked_up
def test_states_of_zero_equal_none(cell: str, by_token: bool, backend: Backend) -> None:
    none = Problem(cell, make(cell, backend), LENGTHS, with_initial=False, by_token=by_token)
    zero = Problem(cell, make(cell, backend), LENGTHS, with_initial=True, by_token=by_token)
    zero.initial = none.initial
    assert not any(state.any() for state in zero.initial)
    (outputs, cache), (expected, cache_expected) = zero.forward(), none.forward()
    for y, wanted in zip(outputs, expected, strict=True):
        assert_close(y, backend.to_numpy(wanted), 1e-15, backend)
    found = zero.backward(cache)
    states = {name for name in found if name.startswith("state")}
    assert len(states) == len(none.initial)
    kept = {name: value for name, value in found.items() if name not in states}
    assert_same(kept, none.backward(cache_expected), 1e-14, floor=0.0)


@each_cell
@with_states
def test_a_second_backward_pass_agrees_and_adds(
    cell: str, with_initial: bool, backend: Backend
) -> None:
    problem = Problem(cell, make(cell, backend), LENGTHS, with_initial)
    _, cache = problem.forward()
    first, second = problem.backward(cache), problem.backward(cache)
    for name, gradient in first.items():
        np.testing.assert_array_equal(gradient, second[name])
    d_hidden = backend.asarray(pack(problem.d_hidden, LENGTHS))
    dy = (d_hidden, *(backend.asarray(d) for d in problem.d_lasts))
    problem.layer.backward(dy, cache)
    for name, grad in host(backend, problem.layer.grads).items():
        assert_close(grad, 2 * first[name], 1e-14)


@each_cell
def test_two_passes_forward_before_one_back_do_not_meet(cell: str, backend: Backend) -> None:
    one = Problem(cell, make(cell, backend), [3, 1, 2], seed=1)
    two = Problem(cell, one.layer, [2, 4], seed=2)
    alone = one.backward(one.forward()[1])
    _, cache = one.forward()
    two.forward()
    for name, gradient in one.backward(cache).items():
        np.testing.assert_array_equal(gradient, alone[name])


def arrays_of(inputs: list[Any]) -> list[Array]:
    """The table and the tokens of what is looked up, one after the other."""
    first, *states = inputs
    rows = [first.table, first.tokens] if isinstance(first, LookedUp) else [first]
    return [*rows, *states]


@each_cell
@looked_up
def test_neither_pass_changes_what_it_is_given(cell: str, by_token: bool, backend: Backend) -> None:
    problem = Problem(cell, make(cell, backend), LENGTHS, by_token=by_token)
    inputs, keywords = problem.inputs()
    outputs, cache = problem.layer.forward(*inputs, **keywords)
    dy = [backend.asarray(pack(problem.d_hidden, LENGTHS)),
          *(backend.asarray(d.copy()) for d in problem.d_lasts)]  # fmt: skip
    given = [*arrays_of(inputs), *outputs, *dy, *cache.memory, *(cache.initial or ())]
    before = [backend.to_numpy(value).copy() for value in given]
    fresh, _ = problem.inputs()
    for value, expected in zip(arrays_of(inputs), arrays_of(fresh), strict=True):
        np.testing.assert_array_equal(backend.to_numpy(value), backend.to_numpy(expected))
    problem.layer.backward(tuple(dy), cache)
    for value, expected in zip(given, before, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(value), expected)
    for name, value in host(backend, problem.layer.parameters).items():
        np.testing.assert_array_equal(value, problem.weights[name])


@each_cell
def test_arrays_laid_out_otherwise_are_the_same_numbers(cell: str, backend: Backend) -> None:
    problem = Problem(cell, make(cell, backend))
    outputs, cache = problem.forward()
    expected = problem.backward(cache)

    def turned(value: Floats) -> Array:
        """The same numbers, column after column."""
        return backend.asarray(np.ascontiguousarray(value.T)).T

    def between(value: Floats) -> Array:
        """The same numbers, columns of a wider array."""
        wide = np.full((len(value), 3 * value.shape[1]), np.nan)
        wide[:, value.shape[1] : 2 * value.shape[1]] = value
        return backend.asarray(wide)[:, value.shape[1] : 2 * value.shape[1]]

    for lay in (turned, between):
        x, *initial = (lay(value) for value in (pack(problem.x, LENGTHS), *problem.initial))
        found, cache = problem.layer.forward(x, *initial, packing=problem.packing)
        for y, wanted in zip(found, outputs, strict=True):
            assert_close(y, backend.to_numpy(wanted), 1e-14, backend)
        dy = (lay(pack(problem.d_hidden, LENGTHS)), *(lay(d) for d in problem.d_lasts))
        problem.layer.zero_grads()
        d_x, *d_states = problem.layer.backward(dy, cache)
        gradients = {"x": pad(backend.to_numpy(d_x), LENGTHS)}
        gradients |= {f"state {k}": backend.to_numpy(d) for k, d in enumerate(d_states)}
        assert_same(gradients | host(backend, problem.layer.grads), expected, 1e-13)


@each_cell
@pytest.mark.parametrize("block", [1, 3, 7])
@with_states
def test_a_block_may_be_of_any_size(
    cell: str, block: int, with_initial: bool, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem(cell, make(cell, backend), [7, 1, 9, 4, 9, 2], with_initial)
    outputs, cache = problem.forward()
    expected = problem.backward(cache)
    monkeypatch.setattr("npnlp.backend.tuned.blocks.BLOCK", block)
    found, cache = problem.forward()
    for y, wanted in zip(found, outputs, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(y), backend.to_numpy(wanted))
    assert_same(problem.backward(cache), expected, 1e-14)
    inputs, keywords = Problem(cell, problem.layer, [3, 1, 2], with_initial).inputs()
    report = check_gradients(problem.layer, *inputs, **keywords)
    assert report.passed, str(report)


@each_cell
def test_more_rows_than_a_block_are_no_seam(cell: str) -> None:
    lengths = [300, 1, 280, 300, 64, 257, 299, 300, 300]
    problem = Problem(cell, make(cell), lengths)
    inputs, keywords = problem.inputs()
    assert len(inputs[0]) > 2048
    report = check_adjoint(problem.layer, *inputs, **keywords)
    assert report.passed, str(report)


@each_cell
def test_two_updates(cell: str, backend: Backend) -> None:
    problem = Problem(cell, make(cell, backend, units=2), [2, 3, 1])
    flat = FlatParameters({"rnn": problem.layer}, backend)
    optimizer = SGD(flat, backend, 0.1)
    weights = {name: value.copy() for name, value in problem.weights.items()}
    for _ in range(2):
        problem.backward(problem.forward()[1])
        optimizer.step()
        (found,) = reference_cells.gradients(
            problem.reference, problem.variables() | weights, problem.seeds("all")
        )
        for name in weights:
            weights[name] = weights[name] - 0.1 * found[name]
    assert_same(host(backend, problem.layer.parameters), weights)
    problem.weights = weights
    assert_outputs(problem, problem.forward()[0])


@each_cell
def test_what_backpropagation_remembers_is_counted(cell: str, backend: Backend) -> None:
    widths = {"elman": 1, "lstm": 7, "gru": 5, "gru_before": 5}
    for with_initial in (True, False):
        _, cache = Problem(cell, make(cell, backend), LENGTHS, with_initial).forward()
        states = reference_cells.STATES[cell] * len(LENGTHS) * with_initial
        assert cache.nbytes == 8 * H * (sum(LENGTHS) * widths[cell] + states)


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5])
def test_the_forget_bias_is_what_both_biases_add_up_to(value: float, backend: Backend) -> None:
    plain = LSTM(D, H, backend=backend, dtype=np.float64, random=Random(4))
    layer = LSTM(D, H, backend=backend, dtype=np.float64, random=Random(4), forget_bias=value)
    found, kept = host(backend, layer.parameters), host(backend, plain.parameters)
    forget = slice(H, 2 * H)
    biases = found["bias_ih_l0"] + found["bias_hh_l0"]
    assert biases[forget].tolist() == [value] * H
    for name in found:
        rows = np.delete(np.arange(4 * H), forget) if name.startswith("bias") else slice(None)
        np.testing.assert_array_equal(found[name][rows], kept[name][rows])
    assert (np.abs(kept["bias_ih_l0"] + kept["bias_hh_l0"] - value)[forget] > 0).all()


@each_cell
@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_saturated_gates_are_silent_and_finite(
    cell: str, kind: str, size: float, backend: Backend
) -> None:
    """A warning is an error here, so an overflow in an exponential would end the test."""
    layer = make(cell, backend, kind)
    rows = len(layer.gates) * H
    for turn in range(rows):  # every gate sees both signs, beside every sign of the others
        signs = np.where((np.arange(rows) * (turn + 1)) // H % 2, 1.0, -1.0) * size
        for name, part_of in (("bias_ih_l0", 1.0), ("bias_hh_l0", 0.5)):
            layer.parameters[name][...] = backend.asarray((part_of * signs).astype(kind))
        problem = Problem(cell, layer, [3, 1, 2], with_initial=turn % 2 == 0)
        outputs, cache = problem.forward()
        assert all(np.isfinite(backend.to_numpy(y)).all() for y in outputs)
        assert np.abs(backend.to_numpy(outputs[0])).max() <= 4.0  # h0 may be above 1
        gradients = problem.backward(cache)
        assert all(np.isfinite(value).all() for value in gradients.values())


@each_cell
def test_saturated_by_the_input_of_a_trained_layer(cell: str, backend: Backend) -> None:
    problem = Problem(cell, make(cell, backend, np.float32), LENGTHS)
    problem.x = (1e4 * problem.x).astype(np.float32)
    outputs, cache = problem.forward()
    assert all(np.isfinite(backend.to_numpy(y)).all() for y in outputs)
    assert all(np.isfinite(value).all() for value in problem.backward(cache).values())


def test_a_reset_gate_of_one_makes_both_grus_one(backend: Backend) -> None:
    after, before = make("gru", backend), make("gru_before", backend)
    for layer in (after, before):
        layer.parameters["bias_ih_l0"][:H] = 1e3  # sigma is 1 to the last digit
        layer.parameters["bias_hh_l0"][2 * H :] = 0
    one, other = Problem("gru", after, LENGTHS), Problem("gru_before", before, LENGTHS)
    (outputs, cache), (expected, cache_expected) = one.forward(), other.forward()
    for y, wanted in zip(outputs, expected, strict=True):
        assert_close(y, backend.to_numpy(wanted), 1e-14, backend)
    found = one.backward(cache)
    assert_same(found, other.backward(cache_expected), 1e-13)
    assert not found["weight_hh_l0"][:H].any()
    with_bias = make("gru", backend), make("gru_before", backend)
    different = [Problem(cell, layer, LENGTHS).forward()[0][0]
                 for cell, layer in zip(("gru", "gru_before"), with_bias, strict=True)]  # fmt: skip
    apart = backend.to_numpy(different[0]) - backend.to_numpy(different[1])
    assert np.abs(apart).max() > 1e-2  # elsewhere they are two cells


def test_an_lstm_that_forgets_nothing_carries_its_cell_exactly(
    backend: Backend, dtype: np.dtype[Any]
) -> None:
    layer = LSTM(D, H, backend=backend, dtype=dtype)
    layer.parameters["bias_ih_l0"][:H] = -1e4
    layer.parameters["bias_ih_l0"][H : 2 * H] = 1e4
    problem = Problem("lstm", layer, [40, 1, 17])
    (_, _, c_last), cache = problem.forward()
    np.testing.assert_array_equal(backend.to_numpy(c_last), problem.initial[1])
    found = problem.backward(cache, "1")
    np.testing.assert_array_equal(found["state 1"], problem.d_lasts[1])  # nor does the gradient
    assert not found["state 0"].any()


def test_a_gru_that_updates_nothing_carries_its_state_exactly(backend: Backend) -> None:
    for cell in ("gru", "gru_before"):
        layer = make(cell, backend)
        layer.parameters["bias_ih_l0"][H : 2 * H] = 1e4
        problem = Problem(cell, layer, [40, 1, 17])
        (_, last), cache = problem.forward()
        assert_close(last, problem.initial[0], 1e-14, backend)
        assert_close(problem.backward(cache, "0")["state 0"], problem.d_lasts[0], 1e-14)


def test_one_of_two_initial_states_is_refused() -> None:
    layer, packing = make("lstm"), Packing.of(np.array([2, 1]), NUMPY)
    for states in ((draw(0, 2, H),), (draw(0, 2, H), None), (None, draw(0, 2, H))):
        with pytest.raises(InputError, match=r"1 initial states .* has 2 \(hidden, cell\)"):
            layer.forward(draw(1, 3, D), *states, packing=packing)
    with pytest.raises(InputError, match=r"2 initial states .* has 1 \(hidden\)"):
        make("gru").forward(draw(1, 3, D), draw(0, 2, H), draw(0, 2, H), packing=packing)


@each_cell
def test_a_probe_sees_every_gradient_and_changes_none(cell: str, backend: Backend) -> None:
    problem = Problem(cell, make(cell, backend), LENGTHS)
    _, cache = problem.forward()
    expected = problem.backward(cache)
    shown: list[Any] = []
    dy = (backend.asarray(pack(problem.d_hidden, LENGTHS)),
          *(backend.asarray(d) for d in problem.d_lasts))  # fmt: skip
    problem.layer.zero_grads()
    problem.layer.backward(dy, cache, shown.append)
    for name, grad in host(backend, problem.layer.grads).items():
        np.testing.assert_array_equal(grad, expected[name])
    (trace,) = shown
    assert trace.layer is problem.layer
    assert trace.cache is cache
    assert trace.from_above is dy[0]
    # dL/dh_t at the first step, seen from the second on: h_1 is the state they begin with, and what
    # reached the first step's own output is added.
    rows = [b for b, length in enumerate(LENGTHS) if length > 1]
    late = from_the_second_step(problem, rows)
    found = late.backward(late.forward()[1])
    longest_first = sorted(range(len(rows)), key=lambda place: -LENGTHS[rows[place]])
    for k, d_state in enumerate(trace.d_states):
        above = problem.d_hidden[0, rows] if k == 0 else 0.0
        expected_state = (found[f"state {k}"] + above)[longest_first]
        assert_close(backend.to_numpy(d_state)[: len(rows)], expected_state)


def from_the_second_step(problem: Problem, rows: list[int]) -> Problem:
    """Those sequences without their first step, which all have more than one."""
    late = Problem(problem.cell, problem.layer, [problem.lengths[b] - 1 for b in rows])
    _, *states = reference_cells.run(
        problem.cell, problem.x[:1], [1] * len(problem.lengths), problem.initial, problem.weights
    )
    late.initial = [state.real[rows] for state in states]
    late.x, late.d_hidden = problem.x[1:, rows], problem.d_hidden[1:, rows]
    late.d_lasts = [d[rows] for d in problem.d_lasts]
    return late
