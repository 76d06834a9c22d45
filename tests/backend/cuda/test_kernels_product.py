"""The matrix product for captured steps: run on the CPU through the shim, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend.cuda import products
from npnlp.backend.cuda.products import Cut, Namespace, cut
from tests.support.cupy_on_shim import ShimKernels, declared
from tests.support.reference import draw
from tests.support.shim import compiled

BOUND = {"float32": 1e-6, "float64": 1e-14}


class Case:
    """A namespace on the shim, and what it is held against."""

    def __init__(self) -> None:
        self.kernels = ShimKernels()
        self.xp = Namespace(np, self.kernels)

    def dot(self, *arguments: Any) -> Any:
        with self.xp.own_products():
            return self.xp.dot(*arguments)

    def matmul(self, *arguments: Any, **keywords: Any) -> Any:
        with self.xp.own_products():
            return self.xp.matmul(*arguments, **keywords)


@pytest.fixture
def case() -> Case:
    return Case()


def close(found: Any, a: Any, b: Any, expected: Any) -> None:
    """Within rounding of the sum of the products' sizes."""
    assert found.shape == expected.shape
    assert found.dtype == a.dtype
    scale = np.matmul(np.abs(a), np.abs(b)) + 1e-30
    assert (np.abs(found - expected) <= BOUND[a.dtype.name] * scale).all()


def laid_out(values: Any, transposed: bool) -> Any:
    """The same matrix, its columns or its rows together in memory."""
    return np.ascontiguousarray(values.T).T if transposed else values


SIZES = st.integers(1, 70)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=12)
@given(
    sizes=st.tuples(SIZES, SIZES, st.integers(1, 600)),
    turned=st.tuples(st.booleans(), st.booleans()),
)
def test_dot_equals_numpy(
    dtype: str, sizes: tuple[int, int, int], turned: tuple[bool, bool]
) -> None:
    rows, columns, depth = sizes
    a = laid_out(draw(1, rows, depth).astype(dtype), turned[0])
    b = laid_out(draw(2, depth, columns).astype(dtype), turned[1])
    close(Case().dot(a, b), a, b, np.dot(a, b))


@pytest.mark.parametrize("tile", [32, 64])
def test_both_tiles_equal_numpy(tile: int, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = draw(1, 130, 90).astype(np.float32), draw(2, 90, 70).astype(np.float32)
    monkeypatch.setattr(products, "cut", lambda *sizes: Cut(tile, 2, 64))
    close(case.dot(a, b), a, b, np.dot(a, b))


@pytest.mark.parametrize(
    ("left", "right"), [((300,), (300,)), ((300,), (300, 7)), ((7, 300), (300,)), ((1,), (1,))]
)
def test_vectors_are_rows_and_columns(case: Case, left: Any, right: Any) -> None:
    a, b = draw(1, *left).astype(np.float32), draw(2, *right).astype(np.float32)
    close(case.dot(a, b), a, b, np.dot(a, b))


@pytest.mark.parametrize(
    ("left", "right"),
    [((80, 10), (3, 10, 16)), ((3, 5, 10), (3, 10, 6)), ((3, 5, 600), (600, 6)), ((4, 3), (3, 2))],
)
def test_matmul_of_batches(case: Case, left: Any, right: Any) -> None:
    a, b = draw(1, *left).astype(np.float32), draw(2, *right).astype(np.float32)
    close(case.matmul(a, b), a, b, np.matmul(a, b))


def test_slices_as_the_layers_have_them(case: Case) -> None:
    """A part of the columns, a weight of several gates turned around, rows of a larger array."""
    delta, w = draw(1, 40, 64).astype(np.float32), draw(2, 48, 16).astype(np.float32)
    part = delta[5:, :48]
    close(case.dot(part, w), part, w, np.dot(part, w))
    close(case.dot(part.T, delta[5:]), part.T, delta[5:], np.dot(part.T, delta[5:]))
    turned, x = w.reshape(3, 16, 16).swapaxes(1, 2), draw(3, 9, 16).astype(np.float32)
    close(case.matmul(x, turned), x, turned, np.matmul(x, turned))
    room = np.full((3, 12, 16), np.nan, np.float32)
    assert case.matmul(x, turned, out=room[:, :9]) is not None
    close(room[:, :9], x, turned, np.matmul(x, turned))
    assert np.isnan(room[:, 9:]).all()


def test_what_is_empty(case: Case) -> None:
    nothing, some = np.ones((4, 0), np.float32), np.ones((0, 3), np.float32)
    np.testing.assert_array_equal(case.dot(nothing, some), np.zeros((4, 3), np.float32))
    assert case.dot(some, np.ones((3, 2), np.float32)).shape == (0, 2)
    assert case.kernels.launched == []


def test_a_wrong_shape_or_target_is_refused(case: Case) -> None:
    a, b = np.ones((4, 3), np.float32), np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match="product of"):
        case.dot(a, b)
    with pytest.raises(ValueError, match="not contiguous"):
        case.dot(a, b.T, np.empty((4, 8), np.float32)[:, ::2])


def test_outside_products_are_cupys(case: Case) -> None:
    a = np.ones((3, 3), np.float32)
    case.xp.dot(a, a)
    case.xp.matmul(a, a)
    assert case.kernels.launched == []
    case.dot(a.astype(np.complex64), a.astype(np.complex64))
    assert case.kernels.launched == []
    assert case.xp.tanh is np.tanh


def test_a_tall_product_is_cut_and_a_large_one_is_not() -> None:
    assert cut(64, 64, 100, 1) == (32, 1, 128)
    tall = cut(64, 64, 16384, 1)
    assert tall.parts == 64
    assert tall.part * tall.parts >= 16384
    assert cut(4096, 4096, 4096, 1) == (64, 1, 4096)
    for depth in range(1, 3000, 17):
        how = cut(1, 1, depth, 1)
        assert how.part * (how.parts - 1) < depth <= how.part * how.parts


@pytest.mark.parametrize("depth", [40, 1000])
def test_no_order_of_the_threads_changes_a_bit(case: Case, depth: int) -> None:
    a, b = draw(1, 40, depth).astype(np.float32), draw(2, depth, 35).astype(np.float32)
    first = case.dot(a, b)
    for seed in range(1, 5):
        case.kernels.seed = seed
        np.testing.assert_array_equal(case.dot(a, b), first)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("    __syncthreads();\n#pragma unroll 8", "#pragma unroll 8"),
        ("    }\n    __syncthreads();\n  }", "    }\n  }"),
        ("p * count + i", "i"),
        ("depth - from < part ? depth : from + part", "depth"),
    ],
)
def test_a_planted_mistake_is_caught(
    right: str, wrong: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = draw(1, 40, 600).astype(np.float32), draw(2, 600, 35).astype(np.float32)

    def broken(file: str, function: str, *options: str) -> Any:
        made = compiled(file, tuple(declared(file, options)), options, ((right, wrong),))
        return lambda grid, block, arguments: made.launch(
            function, grid, block, arguments, seed=3, strided=True
        )

    monkeypatch.setattr(case.kernels, "get", broken)
    monkeypatch.setattr(products, "cut", lambda *sizes: Cut(32, 3, 224))
    assert not np.allclose(case.dot(a, b), np.dot(a, b), rtol=1e-4, atol=1e-4)
