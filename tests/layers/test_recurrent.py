"""The Elman layer against loops over steps, sequences and units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Backend, Random, get_backend
from npnlp.backend.operations import LookedUp
from npnlp.errors import InputError
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.layers import Elman, Embedding, Packing
from tests.support import reference
from tests.support.reference import BOUNDS, Floats, assert_close, draw, host, pack, pad

NUMPY = get_backend("numpy")
D, H, V = 3, 4, 6
LENGTHS = {
    "any order": [3, 1, 5, 5, 2],
    "sorted": [4, 3, 1],
    "one step": [1, 1, 1],
    "batch of one": [6],
    "one number": [1],
    "equal": [4, 4],
}

each_length = pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
each_phi = pytest.mark.parametrize("phi", ["tanh", "relu"])
with_h0 = pytest.mark.parametrize("with_h0", [True, False], ids=["h0", "no h0"])
property_test = settings(max_examples=15)


@dataclass
class Problem:
    """A layer, a padded batch, and gradients of its outputs, in float64 on the host."""

    layer: Elman
    lengths: list[int]
    with_h0: bool
    seed: int = 0
    inputs: int = D

    def __post_init__(self) -> None:
        batch, units = len(self.lengths), self.layer.hidden_size
        running = np.arange(max(self.lengths))[:, None, None] < np.array(self.lengths)[:, None]
        padded = (max(self.lengths), batch)
        as_layer = self.layer.dtype
        self.x = draw(self.seed, *padded, self.inputs).astype(as_layer)
        self.h0 = (draw(self.seed + 1, batch, units) * self.with_h0).astype(as_layer)
        self.d_hidden = (draw(self.seed + 2, *padded, units) * running).astype(as_layer)
        self.d_last = draw(self.seed + 3, batch, units).astype(as_layer)
        self.weights = host(self.layer.backend, self.layer.parameters)
        self.packing = Packing.of(np.array(self.lengths), self.layer.backend)

    def forward(self) -> tuple[Any, Any]:
        backend = self.layer.backend
        return self.layer.forward(
            backend.asarray(pack(self.x, self.lengths)),
            backend.asarray(self.h0) if self.with_h0 else None,
            packing=self.packing,
        )

    def backward(self, cache: Any, through: str = "both") -> dict[str, Floats]:
        """All gradients, the input's padded; ``through`` names the outputs that have one."""
        backend = self.layer.backend
        d_hidden = backend.asarray(pack(self.d_hidden, self.lengths))
        dy = (
            None if through == "last" else d_hidden,
            None if through == "hidden" else backend.asarray(self.d_last),
        )
        self.layer.zero_grads()
        d_x, d_h0 = self.layer.backward(dy, cache)
        assert (d_h0 is None) == (not self.with_h0)
        found = {"x": pad(backend.to_numpy(d_x), self.lengths)}
        if d_h0 is not None:
            found["h0"] = backend.to_numpy(d_h0)
        return found | host(backend, self.layer.grads)

    def expected(self, through: str = "both") -> dict[str, Floats]:
        found = reference.elman_backward(
            self.x, self.lengths, self.h0, self.weights,
            self.d_hidden * (through != "last"), self.d_last * (through != "hidden"),
            self.layer.nonlinearity,
        )  # fmt: skip
        if not self.with_h0:
            del found["h0"]
        return found


def elman(backend: Backend = NUMPY, phi: str = "tanh", dtype: Any = np.float64) -> Elman:
    return Elman(D, H, nonlinearity=phi, backend=backend, dtype=dtype, random=Random(4))


def assert_same_gradients(
    found: dict[str, Floats], expected: dict[str, Floats], bound: float = 1e-12, floor: float = 0.0
) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert_close(gradient, expected[name], bound, floor=floor)


@each_length
@each_phi
@with_h0
def test_forward_and_backward_equal_the_loops(
    lengths: list[int], phi: str, with_h0: bool, backend: Backend, dtype: np.dtype[Any]
) -> None:
    problem = Problem(elman(backend, phi, dtype), lengths, with_h0)
    (hidden, last), cache = problem.forward()
    hidden_expected, last_expected, _ = reference.elman(
        problem.x, lengths, problem.h0, problem.weights, phi
    )
    bound = BOUNDS[dtype.name]
    assert hidden.dtype == last.dtype == dtype
    assert_close(pad(backend.to_numpy(hidden), lengths), hidden_expected, bound)
    assert_close(last, last_expected, bound, backend)
    assert_same_gradients(problem.backward(cache), problem.expected(), bound)


@each_length
@with_h0
@pytest.mark.parametrize("through", ["hidden", "last"])
def test_gradients_through_one_of_the_outputs(
    lengths: list[int], with_h0: bool, through: str, backend: Backend
) -> None:
    problem = Problem(elman(backend), lengths, with_h0)
    found = problem.backward(problem.forward()[1], through)
    assert_same_gradients(found, problem.expected(through))


def test_no_gradient_of_either_output_is_a_gradient_of_zero(backend: Backend) -> None:
    problem = Problem(elman(backend), [3, 1, 2], with_h0=True)
    _, cache = problem.forward()
    d_x, d_h0 = problem.layer.backward((None, None), cache)
    assert d_h0 is not None
    assert not backend.to_numpy(d_x).any()
    assert not backend.to_numpy(d_h0).any()
    assert not any(grad.any() for grad in host(backend, problem.layer.grads).values())


@each_length
@each_phi
@with_h0
def test_gradients_by_complex_step(
    lengths: list[int], phi: str, with_h0: bool, backend: Backend
) -> None:
    problem = Problem(elman(backend, phi), lengths, with_h0)
    inputs = [pack(problem.x, lengths)] + [problem.h0] * with_h0
    arrays = [backend.asarray(value) for value in inputs]
    report = check_gradients(problem.layer, *arrays, packing=problem.packing)
    assert report.passed, str(report)
    checked = {row.quantity for row in report.rows}
    assert checked == {"repeatable", *problem.weights, *(f"input {i}" for i in range(len(inputs)))}


def test_relu_gradients_by_central_difference_away_from_kinks() -> None:
    problem = Problem(elman(phi="relu"), [3, 1, 5, 5, 2], with_h0=True)
    _, _, a = reference.elman(problem.x, problem.lengths, problem.h0, problem.weights, "relu")
    assert np.abs(pack(a, problem.lengths)).min() > 1e-4
    x = pack(problem.x, problem.lengths)
    report = check_gradients(
        problem.layer, x, problem.h0, packing=problem.packing, method="central"
    )
    assert report.passed, str(report)


@each_phi
@pytest.mark.parametrize("lengths", [[1024], [1024, 1, 1000, 513]], ids=["one", "several"])
def test_adjoint_over_1024_steps(phi: str, lengths: list[int], backend: Backend) -> None:
    layer = Elman(8, 16, nonlinearity=phi, backend=backend, dtype=np.float64)
    # A spectral norm of 1: gradients then reach far back and do not explode.
    w_hh = backend.to_numpy(layer.parameters["weight_hh_l0"])
    layer.parameters["weight_hh_l0"][...] = backend.asarray(w_hh / np.linalg.norm(w_hh, 2))
    packing = Packing.of(np.array(lengths), backend)
    x, h0 = draw(0, packing.rows, 8), draw(1, len(lengths), 16)
    report = check_adjoint(layer, backend.asarray(x), backend.asarray(h0), packing=packing)
    assert report.passed, str(report)


@each_phi
def test_the_product_of_jacobians_carries_the_gradient_back(phi: str) -> None:
    problem = Problem(elman(phi=phi), [6], with_h0=True)
    found = problem.backward(problem.forward()[1], "last")
    _, _, a = reference.elman(problem.x, [6], problem.h0, problem.weights, phi)
    d = problem.d_last[0]
    for t in reversed(range(6)):
        slopes = [reference.PHI_PRIME[phi](value) for value in a[t, 0]]
        d = (np.diag(slopes) @ problem.weights["weight_hh_l0"]).T @ d
    assert_close(found["h0"][0], d)


@each_phi
@with_h0
def test_a_second_backward_pass_agrees_and_adds(phi: str, with_h0: bool, backend: Backend) -> None:
    problem = Problem(elman(backend, phi), [3, 1, 5, 5, 2], with_h0)
    _, cache = problem.forward()
    first, second = problem.backward(cache), problem.backward(cache)
    for name, gradient in first.items():
        np.testing.assert_array_equal(gradient, second[name])
    dy = (None, backend.asarray(problem.d_last))
    problem.layer.zero_grads()
    problem.layer.backward(dy, cache)
    once = host(backend, problem.layer.grads)
    problem.layer.backward(dy, cache)
    for name, grad in host(backend, problem.layer.grads).items():
        assert_close(grad, 2 * once[name], 1e-14)


def test_neither_pass_changes_what_it_is_given(backend: Backend) -> None:
    problem = Problem(elman(backend), [3, 2], with_h0=True)
    x, h0 = backend.asarray(pack(problem.x, [3, 2])), backend.asarray(problem.h0)
    d_hidden, d_last = backend.asarray(draw(7, 5, H)), backend.asarray(draw(8, 2, H))
    (hidden, last), cache = problem.layer.forward(x, h0, packing=problem.packing)
    outputs = backend.to_numpy(hidden).copy(), backend.to_numpy(last).copy()
    problem.layer.backward((d_hidden, d_last), cache)
    after = [x, h0, d_hidden, d_last, hidden, last]
    before = [pack(problem.x, [3, 2]), problem.h0, draw(7, 5, H), draw(8, 2, H), *outputs]
    for found, expected in zip(after, before, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(found), expected)
    for name, value in host(backend, problem.layer.parameters).items():
        np.testing.assert_array_equal(value, problem.weights[name])


def test_the_cache_counts_its_bytes(backend: Backend) -> None:
    problem = Problem(elman(backend), [3, 1, 2], with_h0=True)
    _, cache = problem.forward()
    assert cache.nbytes == 8 * (6 * H + 3 * H)  # x is the caller's
    _, cache = Problem(elman(backend), [3, 1, 2], with_h0=False).forward()
    assert cache.nbytes == 8 * 6 * H


@each_length
@each_phi
@with_h0
def test_looking_up_equals_embedding_first(
    lengths: list[int], phi: str, with_h0: bool, backend: Backend
) -> None:
    problem = Problem(elman(backend, phi), lengths, with_h0)
    embedding = Embedding(V, D, backend=backend, dtype=np.float64)
    tokens = backend.asarray(np.random.default_rng(0).integers(0, V, sum(lengths)))
    h0 = backend.asarray(problem.h0) if with_h0 else None
    dy = (
        backend.asarray(pack(problem.d_hidden, lengths)),
        backend.asarray(problem.d_last),
    )

    x, looked_up = embedding.forward(tokens)
    plain, cache = problem.layer.forward(x, h0, packing=problem.packing)
    d_x, d_h0_plain = problem.layer.backward(dy, cache)
    embedding.backward(d_x, looked_up)
    expected = host(backend, problem.layer.grads)
    d_table = backend.to_numpy(embedding.grads["weight"]).copy()

    problem.layer.zero_grads()
    rows = LookedUp(embedding.parameters["weight"], tokens)
    found, cache = problem.layer.forward(rows, h0, packing=problem.packing)
    d_table_found, d_h0 = problem.layer.backward(dy, cache)
    for ours, theirs in zip(found, plain, strict=True):
        assert_close(ours, backend.to_numpy(theirs), backend=backend)
    assert_close(d_table_found, d_table, backend=backend)
    assert_same_gradients(host(backend, problem.layer.grads), expected)
    if with_h0:
        assert d_h0 is not None
        assert d_h0_plain is not None
        assert_close(d_h0, backend.to_numpy(d_h0_plain), backend=backend)


@with_h0
def test_look_up_gradients_by_complex_step(with_h0: bool, backend: Backend) -> None:
    problem = Problem(elman(backend), [3, 1, 5, 5, 2], with_h0)
    tokens = backend.asarray(np.random.default_rng(0).integers(0, V, 16))
    inputs = [draw(5, V, D)] + [problem.h0] * with_h0
    arrays: list[Any] = [backend.asarray(value) for value in inputs]
    arrays[0] = LookedUp(arrays[0], tokens)
    report = check_gradients(problem.layer, *arrays, packing=problem.packing)
    assert report.passed, str(report)


SHAPES = {
    "lengths": st.lists(st.integers(1, 6), min_size=1, max_size=5),
    "inputs": st.integers(1, 4),
    "units": st.integers(1, 4),
    "phi": st.sampled_from(["tanh", "relu"]),
    "seed": st.integers(0, 2**32),
}


def random_problem(
    backend: Backend, lengths: list[int], inputs: int, units: int, phi: str, seed: int
) -> Problem:
    layer = Elman(
        inputs, units, nonlinearity=phi, backend=backend, dtype=np.float64, random=Random(seed)
    )
    return Problem(layer, lengths, with_h0=seed % 2 == 0, seed=seed, inputs=inputs)


@property_test
@given(**SHAPES)
def test_any_shape_equals_the_loops(backend: Backend, **shape: Any) -> None:
    problem = random_problem(backend, **shape)
    (hidden, last), cache = problem.forward()
    expected = reference.elman(
        problem.x, problem.lengths, problem.h0, problem.weights, shape["phi"]
    )
    assert_close(pad(backend.to_numpy(hidden), problem.lengths), expected[0], floor=1.0)
    assert_close(last, expected[1], backend=backend, floor=1.0)
    assert_same_gradients(problem.backward(cache), problem.expected(), floor=1.0)


@property_test
@given(data=st.data(), **SHAPES)
def test_another_order_of_the_batch_changes_only_the_order(
    backend: Backend, data: st.DataObject, **shape: Any
) -> None:
    problem, other = random_problem(backend, **shape), random_problem(backend, **shape)
    order = data.draw(st.permutations(range(len(problem.lengths))))
    other.lengths = [problem.lengths[b] for b in order]
    other.packing = Packing.of(np.array(other.lengths), backend)
    for name in ("x", "d_hidden"):
        setattr(other, name, getattr(problem, name)[:, order])
    for name in ("h0", "d_last"):
        setattr(other, name, getattr(problem, name)[order])

    (hidden, last), cache = problem.forward()
    (hidden_other, last_other), cache_other = other.forward()
    padded = pad(backend.to_numpy(hidden), problem.lengths)
    assert_close(pad(backend.to_numpy(hidden_other), other.lengths), padded[:, order], floor=1.0)
    assert_close(last_other, backend.to_numpy(last)[order], backend=backend, floor=1.0)
    expected = problem.backward(cache)
    expected["x"] = expected["x"][:, order]
    if "h0" in expected:
        expected["h0"] = expected["h0"][order]
    assert_same_gradients(other.backward(cache_other), expected, floor=1.0)


@property_test
@given(data=st.data(), **SHAPES)
def test_the_gradients_of_a_split_batch_add_up(
    backend: Backend, data: st.DataObject, **shape: Any
) -> None:
    problem = random_problem(backend, **shape)
    whole = problem.backward(problem.forward()[1])
    cut = data.draw(st.integers(0, len(problem.lengths)))
    sums = {name: np.zeros_like(value) for name, value in problem.weights.items()}
    for rows in (slice(0, cut), slice(cut, None)):
        lengths = problem.lengths[rows]
        if not lengths:
            continue
        part = random_problem(backend, **shape | {"lengths": lengths})
        for name in ("x", "d_hidden"):
            setattr(part, name, getattr(problem, name)[: max(lengths), rows])
        for name in ("h0", "d_last"):
            setattr(part, name, getattr(problem, name)[rows])
        found = part.backward(part.forward()[1])
        for name, total in sums.items():
            total += found[name]
    assert_same_gradients(sums, {name: whole[name] for name in sums}, floor=1.0)


def test_input_of_another_number_of_rows_is_refused() -> None:
    layer, packing = elman(), Packing.of(np.array([2, 1]), NUMPY)
    with pytest.raises(InputError, match="4 rows for a packing of 3 rows"):
        layer.forward(draw(0, 4, D), packing=packing)
    with pytest.raises(InputError, match="5 rows for a packing of 3 rows"):
        layer.forward(LookedUp(draw(0, V, D), np.zeros(5, dtype=np.int64)), packing=packing)


def test_an_unknown_nonlinearity_is_refused_with_the_choices() -> None:
    with pytest.raises(InputError, match=r"'sigmoid' is not known; choose one of tanh, relu"):
        Elman(D, H, nonlinearity="sigmoid")
