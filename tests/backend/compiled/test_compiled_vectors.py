"""Formulas on rows, compiled as vectors, against the same formulas in NumPy."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.reference import draw
from tests.support.tables import environment

numba = pytest.importorskip("numba", reason="Numba is not installed")
pytestmark = pytest.mark.peers


def mixed(x: Any, y: Any) -> tuple[Any, ...]:
    """Of arrays, and of what code is generated from."""
    return (x + y) * (2 - y) / (x * x + 1), x - 0.5, 3.0


@pytest.fixture(scope="module")
def run() -> Any:
    """The formula on arrays x and y: into a, into y itself, and into b."""
    from npnlp.backend.compiled.vectors.vectors import rowwise

    compiled = rowwise(mixed)

    def call(x: Any, y: Any, a: Any, b: Any, low: int, high: int) -> None:
        compiled((x, y), (a, y, b), low, high)

    return numba.njit(error_model="numpy")(call)


@given(
    rows=st.integers(0, 5), size=st.integers(1, 70), cuts=st.tuples(*[st.integers(0, 70)] * 2),
    dtype=st.sampled_from(["float32", "float64"]),
)  # fmt: skip
@settings(max_examples=80)
def test_columns_get_what_numpy_computes_and_others_stay(
    run: Any, rows: int, size: int, cuts: tuple[int, int], dtype: str
) -> None:
    low, high = sorted(min(cut, size) for cut in cuts)
    x, y, a, b = (draw(k, rows, size + 1).astype(dtype)[:, 1:] for k in range(4))
    expected = [array.copy() for array in (a, y, b)]
    of = np.s_[:, low:high]
    for array, found in zip(expected, mixed(x[of], y[of]), strict=True):
        array[of] = found
    run(x, y, a, b, low, high)
    bound = 4 * float(np.finfo(dtype).eps)
    for array, wanted in zip((a, y, b), expected, strict=True):
        np.testing.assert_allclose(array[of], wanted[of], rtol=bound)
        np.testing.assert_array_equal(array[:, :low], wanted[:, :low])
        np.testing.assert_array_equal(array[:, high:], wanted[:, high:])


@pytest.fixture(scope="module")
def run_picked() -> Any:
    """The formula on rows of x and y that are looked up: into rows of a, b and c."""
    from npnlp.backend.compiled.vectors.vectors import picked

    compiled = picked(mixed)

    def call(
        arrays: Any, of_x: Any, of_y: Any, found: Any, target: Any, first: int, last: int
    ) -> None:  # fmt: skip
        compiled(arrays, (of_x, of_y), found, target, first, last)

    return numba.njit(error_model="numpy")(call)


@given(
    size=st.integers(1, 70), count=st.integers(1, 9),
    cuts=st.tuples(*[st.integers(0, 9)] * 2), dtype=st.sampled_from(["float32", "float64"]),
    places=st.sampled_from(["int32", "int64"]),
)  # fmt: skip
@settings(max_examples=80)
def test_rows_that_are_looked_up_get_what_numpy_computes_and_others_stay(
    run_picked: Any, size: int, count: int, cuts: tuple[int, int], dtype: str, places: str
) -> None:
    first, last = sorted(min(cut, count) for cut in cuts)
    random = np.random.default_rng(size + count)
    x, y = draw(0, 4, size).astype(dtype), draw(1, 6, size).astype(dtype)
    of_x, of_y = (random.integers(0, n, count).astype(places) for n in (4, 6))
    target = random.permutation(12)[:count].astype(places)
    found = tuple(draw(2 + k, 12, size).astype(dtype) for k in range(3))
    expected = [array.copy() for array in found]
    here = slice(first, last)
    for array, value in zip(expected, mixed(x[of_x[here]], y[of_y[here]]), strict=True):
        array[target[here]] = value
    run_picked((x, y), of_x, of_y, found, target, first, last)
    for array, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=8 * float(np.finfo(dtype).eps))


def test_a_number_has_the_same_bits_wherever_it_stands(run: Any, dtype: np.dtype[Any]) -> None:
    columns = [np.full((1, 41), value, dtype=dtype) for value in (0.3, -1.7, 0, 0)]
    run(*columns, 0, 41)
    for array in columns:
        assert len(np.unique(array)) == 1
    found = columns[2][0, 0]
    for size in range(1, 20):
        columns = [np.full((2, size), value, dtype=dtype) for value in (0.3, -1.7, 0, 0)]
        run(*columns, 0, size)
        np.testing.assert_array_equal(columns[2], found)


def test_what_is_not_a_number_stays_where_it_is(run: Any, dtype: np.dtype[Any]) -> None:
    x, y, a, b = (np.ones((1, 21), dtype=dtype) for _ in range(4))
    x[0, [3, 18]] = np.nan
    run(x, y, a, b, 0, 21)
    assert np.flatnonzero(np.isnan(a[0])).tolist() == [3, 18]


LAYERS = """
import numpy as np
from npnlp.backend import get_backend
from npnlp.layers import GRU, LSTM, Packing
for cell in (GRU, LSTM):
    for size in (20, 13):
        found = []
        for name in ("numba", "numpy"):
            backend = get_backend(name)
            layer, packing = cell(3, size, backend=backend), Packing.of(np.array([4, 7]), backend)
            x = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
            (hidden, *last), cache = layer.forward(x, packing=packing)
            found.append((hidden, layer.backward((hidden, *last), cache)[0]))
        for ours, theirs in zip(*found):
            assert np.abs(ours - theirs).max() < 1e-5
print("equal")
"""


@pytest.mark.slow  # it compiles everything once more
def test_a_processor_with_short_vectors_computes_the_same() -> None:
    variables = environment(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
    done = subprocess.run(
        [sys.executable, "-c", LAYERS], env=variables, capture_output=True, text=True, timeout=900,
        check=False,
    )  # fmt: skip
    assert done.stdout == "equal\n", done.stderr
