"""What the compiled backend does of a training step beside the loop over time, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Random, get_backend
from npnlp.backend.operations import CrossEntropyPasses
from npnlp.backend.random import Share
from npnlp.layers import Dropout
from npnlp.layers.loss import count_correct
from tests.support.door import cross_entropy, maps
from tests.support.reference import draw

pytest.importorskip("numba", reason="Numba is not installed")
pytest.importorskip("scipy", reason="SciPy, whose BLAS Numba calls, is not installed")
pytestmark = pytest.mark.peers

NUMPY, NUMBA = get_backend("numpy"), get_backend("numba")
BOUND = {"float32": 1e-6, "float64": 1e-12}
HARD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0]


def both(call: Any) -> tuple[Any, Any]:
    """What ``call(backend)`` returns on the compiled backend and on NumPy's."""
    return call(NUMBA), call(NUMPY)


def close(found: Any, expected: Any, dtype: np.dtype[Any]) -> None:
    assert found.dtype == expected.dtype == dtype
    assert found.shape == expected.shape
    scale = np.abs(expected).max(initial=1.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=BOUND[dtype.name] * scale)


@settings(max_examples=25)
@given(
    batch=st.lists(st.tuples(*[st.integers(1, 9)] * 4), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_batches_are_laid_out_as_numpys(batch: list[tuple[int, ...]], seed: int) -> None:
    lengths = np.array([sorted(row, reverse=True) for row in batch])
    random = np.random.default_rng(seed)
    tokens, starts = random.integers(0, 300, 40), random.integers(0, 31, lengths.shape)
    both = []
    for backend in (NUMBA, NUMPY):
        layout = backend.lay_out(lengths)
        both.append((layout, backend.number(tokens, starts, layout)))
    (layout, numbered), (expected, of_expected) = both
    firsts = (expected.ends - lengths.sum(axis=1))[:, None] + np.arange(4)
    later = np.setdiff1d(np.arange(expected.ends[-1]), firsts)
    there = expected.runs * (expected.runs[:, 1:] > 0)
    np.testing.assert_array_equal(layout.runs * (layout.runs[:, 1:] > 0), there)
    np.testing.assert_array_equal(layout.last_rows, expected.last_rows)
    np.testing.assert_array_equal(layout.ends, expected.ends)
    np.testing.assert_array_equal(layout.previous_rows[later], expected.previous_rows[later])
    for found, wanted in zip(numbered, of_expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_layout_that_would_read_elsewhere_is_refused() -> None:
    for lengths in ([[5, 1, 5]], [[3, 0]], [[2, 2], [4, -1]]):
        with pytest.raises(ValueError, match="longest first"):
            NUMBA.lay_out(np.array(lengths))
    layout, starts = NUMBA.lay_out(np.array([[3, 1]])), np.array([[0, 3]])
    for tokens in (np.arange(3), np.array([1, 2, -1, 4])):
        with pytest.raises(IndexError, match="token"):
            NUMBA.number(tokens, starts, layout)


@pytest.mark.parametrize("shape", [(64, 64), (1,), (5, 7, 3), (0, 4), (4, 4), (17,)])
@pytest.mark.parametrize("p", [0.0, 1e-5, 0.3, 0.5, 0.999])
@pytest.mark.parametrize("step", [0, 1, 2**64 - 1])
def test_dropout_leaves_out_what_numpy_does_to_the_bit(
    shape: tuple[int, ...], p: float, step: int, dtype: np.dtype[Any]
) -> None:
    x, random = draw(1, *shape).astype(dtype), Random(2**63 + 5, "a.stream").at(step)
    found, expected = both(lambda backend: backend.dropout(x, random, p))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == dtype


def test_a_part_of_a_batch_is_masked_as_the_whole() -> None:
    class Odd:
        def from_steps(self, steps: tuple[int, ...]) -> Share:
            return self

        def place(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Any]:
            return (2 * shape[0], *shape[1:]), slice(1, None, 2)

    x, random = draw(0, 4, 5), Random(3, "mask")
    (y, _), (expected, _) = both(lambda backend: backend.dropout(x, random.within(Odd()), 0.5))
    np.testing.assert_array_equal(y, expected)
    whole, _ = NUMBA.dropout(np.repeat(x, 2, axis=0), random, 0.5)
    np.testing.assert_array_equal(y, whole[1::2])


def test_dropout_hides_no_number_that_is_not_one(dtype: np.dtype[Any]) -> None:
    x = np.array(HARD * 9, dtype=dtype)
    with np.errstate(invalid="ignore"):
        found, expected = both(lambda backend: backend.dropout(x, Random(0, "m"), 0.5)[0])
    np.testing.assert_array_equal(found, expected)


def test_what_is_not_contiguous_is_dropped_alike(dtype: np.dtype[Any]) -> None:
    x = draw(0, 6, 8).astype(dtype)[:, ::2]
    layers = [Dropout(0.5, backend=backend, dtype=dtype) for backend in (NUMBA, NUMPY)]
    found, expected = (layer.forward(x, Random(1, "m"))[0] for layer in layers)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("rows", "inside", "outside"), [(64, 64, 64), (64, 64, 18), (1, 3, 5), (0, 3, 5), (7, 1, 1)]
)
def test_linear_equals_numpys(rows: int, inside: int, outside: int, dtype: np.dtype[Any]) -> None:
    x, dy = draw(0, rows, inside).astype(dtype), draw(1, rows, outside).astype(dtype)
    weight, bias = draw(2, outside, inside).astype(dtype), draw(3, outside).astype(dtype)

    def passes(backend: Any) -> list[Any]:
        d_weight, d_bias = weight.copy(), bias.copy()
        y = maps(backend).affine(x, weight, bias, 1)
        return [y, maps(backend).affine_backward(dy, x, weight, d_weight, d_bias), d_weight, d_bias]

    for found, expected in zip(*both(passes), strict=True):
        close(found, expected, dtype)


def losses_of(backend: Any) -> CrossEntropyPasses:
    return cross_entropy(backend, np.zeros(1))


def test_a_linear_layer_of_columns_or_of_two_types_goes_by_numpy() -> None:
    x, weight, bias = draw(0, 6, 8)[:, ::2], draw(1, 3, 4), draw(2, 3)
    for some in (x, x.astype(np.float32)):
        found, expected = both(lambda backend, x=some: maps(backend).affine(x, weight, bias, 1))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_linear_layer_refuses_rows_that_do_not_fit() -> None:
    weight, bias = draw(0, 3, 4), draw(1, 3)
    with pytest.raises(ValueError, match="incompatible"):
        maps(NUMBA).affine(draw(0, 2, 5), weight, bias, 1)
    with pytest.raises(ValueError, match="incompatible"):
        maps(NUMBA).affine_backward(draw(0, 2, 2), draw(0, 2, 4), weight, weight.copy(), bias)


def test_relu_equals_numpys(dtype: np.dtype[Any]) -> None:
    x = np.concatenate([HARD, draw(0, 100)]).astype(dtype)
    from npnlp.backend.compiled.vectors import elementwise

    y, active = np.empty_like(x), np.empty_like(x)
    elementwise.relu(x, y, active)
    expected, is_active = np.maximum(x, 0), x > 0
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(active, is_active.astype(dtype))
    assert y.dtype == active.dtype == dtype


def test_the_losses_gradient_equals_numpys(dtype: np.dtype[Any]) -> None:
    targets = np.array([0, 4, 2])
    probabilities = losses_of(NUMPY).forward(draw(0, 3, 5).astype(dtype), targets)[0]
    for d in (0.25, np.float32(2), np.asarray(3.0), draw(1, 3).astype(dtype)):
        found, expected = both(
            lambda backend, d=d: losses_of(backend).backward(d, probabilities, targets)
        )
        close(found, expected.astype(dtype), dtype)
    with pytest.raises(ValueError, match="rows"):
        losses_of(NUMBA).backward(draw(0, 2), probabilities.astype(np.float64), targets)
    with pytest.raises(ValueError, match="as many"):
        losses_of(NUMBA).forward(draw(0, 3, 5), targets[:2])
    with pytest.raises(IndexError, match="target"):
        losses_of(NUMBA).backward(1.0, probabilities, targets + 1)


def test_losses_of_hard_logits_equal_numpys(dtype: np.dtype[Any]) -> None:
    logits = np.zeros((len(HARD) + 2, 4), dtype=dtype)
    logits[: len(HARD), 1] = HARD
    logits[-2:] = np.array([[-1e4, 0, 1e4, 3], [-87, 0, -88, -700]])
    targets = np.arange(len(logits)) % 4
    with np.errstate(invalid="ignore"):
        found, expected = both(lambda backend: losses_of(backend).forward(logits, targets))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=BOUND[dtype.name], atol=BOUND[dtype.name])


def test_exp_is_within_two_units_in_the_last_place(dtype: np.dtype[Any]) -> None:
    lowest = np.log(np.finfo(dtype).tiny) + 2
    z = np.concatenate([np.linspace(lowest, 0, 100_001), -np.geomspace(1e-30, -lowest, 100_000)])
    logits = np.stack([z, np.zeros_like(z)], axis=1).astype(dtype)
    probabilities, _ = losses_of(NUMBA).forward(logits, np.ones(len(z), dtype=np.int64))
    exponentials = np.exp(logits[:, 0].astype(np.longdouble))
    exact = exponentials / (1 + exponentials)
    off = np.abs(probabilities[:, 0] - exact) / np.spacing(exact.astype(dtype))
    assert off.max() < 3  # the sum and the division are one of them


def test_correct_rows_are_counted_as_numpys(dtype: np.dtype[Any]) -> None:
    random = np.random.default_rng(0)
    logits = random.integers(0, 3, (500, 4)).astype(dtype)  # many largest are not alone
    logits[::7, 2], logits[::11, 1] = np.nan, np.inf
    targets = random.integers(0, 4, 500)
    from npnlp.backend.compiled import sums

    found = sums.count_correct(logits, targets)
    assert found == count_correct(logits, targets)
    assert 0 < found < 500


def test_squares_of_each_part_equal_numpys(dtype: np.dtype[Any]) -> None:
    values, ends = draw(0, 1000).astype(dtype), np.array([3, 3, 700, 1000])
    close(*both(lambda backend: backend.square_sums(values, ends)), dtype)
    values[5] = np.nan
    found = NUMBA.square_sums(values, ends)
    assert np.isnan(found).tolist() == [False, False, True, False]


def test_rows_are_added_as_numpys(dtype: np.dtype[Any]) -> None:
    values, rows = draw(0, 4, 3).astype(dtype), np.array([5, 0, 2, 7])

    def added(backend: Any) -> Any:
        table = draw(1, 8, 3).astype(dtype)
        backend.add_rows(table, rows, values)
        backend.add_rows(table, slice(4, None), values)
        return table

    np.testing.assert_array_equal(*both(added))
    with pytest.raises(IndexError, match="row"):
        NUMBA.add_rows(np.zeros((7, 3), dtype=dtype), rows, values)
    with pytest.raises(ValueError, match="shape"):
        NUMBA.add_rows(np.zeros((8, 4), dtype=dtype), rows, values)
