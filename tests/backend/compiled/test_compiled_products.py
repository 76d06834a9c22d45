"""Products made of tiles against NumPy's, and what holds of their bits."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import get_backend
from npnlp.backend.operations import LookedUp
from npnlp.backend.threads import blas_threads, threads_now
from npnlp.errors import InputError
from npnlp.layers import CELLS, Elman, Packing
from tests.support.door import is_compiled, maps
from tests.support.reference import draw
from tests.support.tables import environment

pytest.importorskip("numba", reason="Numba is not installed")
pytest.importorskip("scipy", reason="SciPy, whose BLAS Numba calls, is not installed")
pytestmark = pytest.mark.peers

NUMPY, NUMBA = get_backend("numpy"), get_backend("numba")
BOUND = {"float32": 1e-5, "float64": 1e-13}
SIZES = st.integers(1, 70)
TYPES = st.sampled_from(list(BOUND))


def close(found: Any, expected: Any, terms: Any) -> None:
    """Equal to so much of the largest sum of sizes, which is what rounding goes by."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert np.abs(found - expected).max() <= BOUND[found.dtype.name] * np.abs(terms).max()


@given(rows=SIZES, inner=SIZES, columns=SIZES, groups=st.integers(1, 4), dtype=TYPES)
@settings(max_examples=60)
def test_an_affine_map_is_numpys(
    rows: int, inner: int, columns: int, groups: int, dtype: str
) -> None:
    x, bias = draw(0, rows, inner).astype(dtype), draw(1, groups * columns).astype(dtype)
    weight = draw(2, groups * columns, inner).astype(dtype)
    found, expected = (maps(b).affine(x, weight, bias, groups) for b in (NUMBA, NUMPY))
    close(found, expected, np.abs(x) @ np.abs(weight.T) + np.abs(bias))


@pytest.mark.parametrize("dtype", list(BOUND))
@pytest.mark.parametrize(("columns", "inner"), [(64, 64), (33, 70), (18, 47), (7, 80)])
@pytest.mark.parametrize("step", [1, 2])
def test_weights_arrive_where_they_belong(columns: int, inner: int, step: int, dtype: str) -> None:
    from npnlp.backend.compiled import products

    weight = draw(0, columns, step * inner).astype(dtype)[:, ::step]  # side by side, or not
    out, bias = np.empty((1, inner, columns), dtype), np.zeros((1, columns), dtype)
    products.affine(np.eye(inner, dtype=dtype), weight.T, bias, out, 0, columns)
    np.testing.assert_array_equal(out[0], weight.T)


@pytest.fixture(scope="module")
def put() -> Any:
    """``out = x W``, where ``out`` may have been anything before."""
    import numba

    from npnlp.backend.compiled.panels import panels_of, room_for
    from npnlp.backend.compiled.products import put_product

    def call(x: Any, weights: Any, out: Any) -> None:
        panels = panels_of(weights, 1, 0, weights.shape[1])
        put_product(x, panels[0], room_for(len(x), panels), out, 0, weights.shape[1])

    return numba.njit(call)


@given(rows=SIZES, inner=SIZES, columns=SIZES, dtype=TYPES)
@settings(max_examples=60)
def test_a_product_that_is_put_somewhere_is_numpys_and_leaves_nothing_of_before(
    put: Any, rows: int, inner: int, columns: int, dtype: str
) -> None:
    x, weights = draw(0, rows, inner).astype(dtype), draw(1, inner, columns).astype(dtype)
    out = np.full((rows, columns), np.nan, dtype)
    put(x, weights, out)
    close(out, x @ weights, np.abs(x) @ np.abs(weights))
    added = maps(NUMBA).affine(x, np.ascontiguousarray(weights.T), np.zeros(columns, dtype), 1)
    if x.size * columns > NUMBA.small_product:
        np.testing.assert_array_equal(out, added)


@given(rows=SIZES, inner=SIZES, columns=SIZES, turned=st.booleans(), dtype=TYPES)
@settings(max_examples=60)
def test_the_gradients_of_an_affine_map_are_numpys(
    rows: int, inner: int, columns: int, turned: bool, dtype: str
) -> None:
    dy, x = draw(0, rows, columns).astype(dtype), draw(1, rows, inner).astype(dtype)
    weight = draw(2, columns, inner).astype(dtype)
    if turned:
        dy, x, weight = map(np.asfortranarray, (dy, x, weight))
    results = []
    for backend in (NUMBA, NUMPY):
        d_weight, d_bias = weight.copy(), dy[0].copy()
        d_x = maps(backend).affine_backward(dy, x, weight, d_weight, d_bias)
        results.append((d_x, d_weight, d_bias))
    terms = (np.abs(dy) @ np.abs(weight), np.abs(dy.T) @ np.abs(x) + np.abs(weight),
             2 * np.abs(dy).sum(axis=0))  # fmt: skip
    for found, expected, sums in zip(*results, terms, strict=True):
        close(found, expected, sums)


@given(rows=st.integers(0, 600), left=SIZES, right=SIZES, looked_up=st.booleans(), dtype=TYPES)
@settings(max_examples=60)
def test_a_sum_of_outer_products_is_numpys(
    rows: int, left: int, right: int, looked_up: bool, dtype: str
) -> None:
    wide = draw(0, rows, left + 3).astype(dtype)[:, 1 : left + 1]  # columns of a larger array
    table = draw(1, max(rows, 1), right).astype(dtype)
    places = np.random.default_rng(rows).integers(0, len(table), rows) if looked_up else None
    table = table if looked_up else table[:rows]
    start = draw(2, left, right).astype(dtype)
    sums = [start.copy(), start.copy()]
    for backend, out in zip((NUMBA, NUMPY), sums, strict=True):
        maps(backend).add_outer(out, wide, table, places)
    turned = np.asfortranarray(start)
    maps(NUMBA).add_outer(turned, wide, np.asfortranarray(table), places)
    np.testing.assert_allclose(turned, sums[1], rtol=0, atol=1e-3)
    seen = table if places is None else table[places]
    close(sums[0], sums[1], np.abs(wide.T) @ np.abs(seen) + np.abs(start))


@pytest.mark.parametrize("place", [3, -1])
def test_a_row_that_is_not_there_is_refused(place: int) -> None:
    out, left, right = (np.ones(shape, dtype=np.float32) for shape in ((2, 2), (2, 2), (3, 2)))
    with pytest.raises(IndexError, match="row"):
        maps(NUMBA).add_outer(out, left, right, np.array([0, place]))


def test_a_sum_written_to_a_part_leaves_the_rest() -> None:
    whole = np.zeros((4, 9), dtype=np.float32)
    left, right = np.ones((5, 2), np.float32), np.ones((5, 9), np.float32)
    maps(NUMBA).add_outer(whole[1:3], left, right, None)
    assert whole.tolist() == [[0] * 9, [5] * 9, [5] * 9, [0] * 9]


@given(batch=st.integers(1, 40), first=st.integers(0, 39), size=SIZES, dtype=TYPES)
@settings(max_examples=40)
def test_a_sequence_has_the_same_bits_in_any_batch(
    batch: int, first: int, size: int, dtype: str
) -> None:
    layer, first = Elman(5, size, backend=NUMBA, dtype=dtype), min(first, batch - 1)
    x = draw(0, 3, batch, 5).astype(dtype)
    results = []
    for some in (x, x[:, first:]):
        packing = Packing.of(np.full(some.shape[1], 3), NUMBA)
        (hidden, _), _ = layer.forward(some.reshape(-1, 5), packing=packing)
        results.append(hidden.reshape(3, -1, size))
    np.testing.assert_array_equal(results[0][:, first:], results[1])


@pytest.mark.parametrize("looked_up", [False, True])
@pytest.mark.parametrize("cell", list(CELLS))
@pytest.mark.parametrize("lengths", [[23, 17, 17, 9] * 8 + [1], [5, 3, 4, 6] * 75 + [1] * 30])
def test_threads_share_work_and_change_no_bit(
    cell: str, lengths: list[int], looked_up: bool, dtype: np.dtype[Any]
) -> None:
    packing = Packing.of(np.array(lengths), NUMBA)
    layer = CELLS[cell](64, 96, backend=NUMBA, dtype=dtype)
    x, dy = (draw(k, packing.rows, n).astype(dtype) for k, n in enumerate((64, 96)))
    first = [draw(k, len(lengths), 96).astype(dtype) for k, _ in enumerate(layer.states)]
    tokens = np.random.default_rng(0).integers(0, 50, packing.rows) if looked_up else None
    rows: Any = x if tokens is None else LookedUp(x[:50], tokens)
    results = []
    for count in (1, 2, 3):
        with blas_threads(count):
            assert threads_now() == count
            (hidden, *last), cache = layer.forward(rows, *first, packing=packing)
            layer.zero_grads()
            d = layer.backward((dy, *last), cache)
        results.append([hidden, *last, *d, *(grad.copy() for grad in layer.grads.values())])
    assert threads_now() == 1
    if not is_compiled(layer):
        pytest.skip(f"{cell} has no compiled loop: its products are those of NumPy's BLAS")
    for result in results[1:]:
        for found, expected in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(found, expected)


def test_an_error_in_a_part_reaches_the_caller() -> None:
    from npnlp.backend.compiled.threads.sharing import share

    def work(low: int, high: int) -> None:
        if low:
            raise InputError(f"{low} to {high}")

    with blas_threads(2), pytest.raises(InputError, match="32 to 64"):
        share(work, (), 64, 10**8)


@given(
    lengths=st.lists(st.integers(1, 9), min_size=8, max_size=400),
    size=st.integers(64, 300), threads=st.integers(2, 4),
)  # fmt: skip
@settings(max_examples=40)
def test_threads_that_share_sequences_leave_none_out(
    lengths: list[int], size: int, threads: int
) -> None:
    from npnlp.backend.compiled.threads.parts import part_of
    from npnlp.backend.compiled.threads.sharing import UNIT

    threads, sizes = min(threads, size // UNIT), Packing.of(np.array(lengths), NUMBA).batch_sizes
    cuts = [size * part // (threads * UNIT) * UNIT for part in range(threads)] + [size]
    hidden = np.empty((sum(sizes), size))
    parts = [part_of(np.array(sizes), hidden, threads, *cut) for cut in pairwise(cuts)]
    if sum(sizes) < max(8, size // 16) * threads * len(sizes):  # they share units
        assert parts == [(0, len(lengths), *cut, threads) for cut in pairwise(cuts)]
        return
    edges = [(first, last) for first, last, *_ in parts]
    assert edges[0][0] == 0
    assert edges[-1][1] == len(lengths)
    assert all(one[1] == other[0] for one, other in pairwise(edges))
    assert {part[2:] for part in parts} == {(0, size, 1)}
    rows = [sum(sorted(lengths)[::-1][first:last]) for first, last in edges]
    assert max(rows) - min(rows) <= 2 * 8 * 9  # a tile's rows, each as long as the longest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_of_a_process_with_threads_has_its_own() -> None:
    code = (
        "import os; import numpy as np; from npnlp.backend import get_backend;"
        "from npnlp.backend.threads import blas_threads;"
        "from npnlp.layers import GRU, Packing; backend = get_backend('numba');"
        "layer, packing = GRU(64, 64, backend=backend), Packing.of(np.full(64, 40), backend);"
        "x = np.ones((2560, 64), dtype=np.float32); context = blas_threads(2); context.__enter__();"
        "first = layer.forward(x, packing=packing)[0][0]; child = os.fork();"
        "again = layer.forward(x, packing=packing)[0][0];"
        "code = 0 if (first == again).all() else 1;"
        "os._exit(code) if child == 0 else print(os.waitpid(child, 0)[1], code)"
    )
    variables = {**environment(), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=900,
        check=True,
    )  # fmt: skip
    assert done.stdout == "0 0\n"


STORED = """
import sys
import numba
import numpy as np
from npnlp.backend.compiled.backend import MAPS
x, weight = np.random.default_rng(0).normal(size=(2, 128, 128))
ways = {"first": weight, "second": np.asfortranarray(weight)}
for way in sys.argv[1:]:
    if way == "another":
        numba.njit(lambda x: x)(1)
    else:
        off = MAPS.affine(x, ways[way], np.zeros(128), 1) - x @ weight.T
        assert np.abs(off).max() < 1e-12, way
"""


def test_what_two_processes_compiled_is_not_mixed_up(tmp_path: Path) -> None:
    # A second function more or less, and a whole panel has the number of half a one.
    variables = {**environment(), "NUMBA_CACHE_DIR": str(tmp_path)}
    for ways in (["first"], ["another", "second"], ["first", "second"]):
        done = subprocess.run(
            [sys.executable, "-c", STORED, *ways], env=variables, capture_output=True, text=True,
            timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("products.affine-*.nbc"))) == 2


SHORT = """
import numpy as np
from npnlp.backend.compiled.backend import MAPS
from npnlp.backend.compiled.vectors.tile import MOST_ROWS
x, w = np.random.default_rng(0).normal(size=(2, 70, 70))
for kind, bound in (("f4", 1e-4), ("f8", 1e-12)):
    off = MAPS.affine(*(a.astype(kind) for a in (x, w, np.zeros(70))), 1) - x @ w.T
    assert np.abs(off).max() < bound
print(MOST_ROWS)
"""


def test_a_processor_with_short_vectors_gets_smaller_tiles() -> None:
    variables = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run(
        [sys.executable, "-c", SHORT], env={**os.environ, **environment(), **variables},
        capture_output=True, text=True, timeout=900, check=True,
    )  # fmt: skip
    assert done.stdout == "2\n"
