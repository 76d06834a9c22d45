"""Attention in kernels: on the CPU through the shim, against the layer's own array calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random, get_backend
from npnlp.backend.cuda.attention import KernelAttention
from npnlp.layers import Packing
from npnlp.layers.attention.attention import MultiHeadAttention
from tests.support.cupy_on_shim import CupyOnShim, declared
from tests.support.reference import draw
from tests.support.shim import compiled

NUMPY = get_backend("numpy")
BOUND = {"float32": 1e-5, "float64": 1e-13}
BATCHES = {"names": [9, 4, 4, 2, 1], "one": [1], "longer than a warp": [40, 33, 7]}


class Spare:
    """A packing with more steps and rows than its sequences have."""

    def __init__(self, packing: Packing, steps: int) -> None:
        runs = np.pad(packing.runs, ((0, 0), (0, steps)))
        runs[0, packing.runs.shape[1] :] = packing.rows
        self.on_device = (*np.ascontiguousarray(runs), len(packing.lengths), runs.shape[1])


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("heads", [1, 3])
def test_a_layer_is_numpys(batch: str, p: float, heads: int, dtype: np.dtype[Any]) -> None:
    results, shim = [], CupyOnShim()
    for backend in (shim, NUMPY):
        layer = MultiHeadAttention(12, heads, dropout=p, backend=backend, dtype=dtype,
                                   random=Random(1, "layer"))  # fmt: skip
        packing = Packing.of(np.array(BATCHES[batch]), backend)
        x, dy = (draw(k, packing.rows, 12).astype(dtype) for k in (1, 2))
        with shim.xp.own_products():
            y, cache = layer.forward(x, Random(2, "dropout", 9), packing=packing)
            d_x = layer.backward(dy, cache)
        results.append([y, d_x, cache.weights, *layer.grads.values()])
    for found, expected in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        assert np.abs(found - expected).max() <= BOUND[dtype.name] * max(1, np.abs(expected).max())
    assert {"attend", "attend_backward"} <= set(shim.kernels.launched)


class Filled:
    """An array namespace in which what is not written shows."""

    ascontiguousarray = staticmethod(np.ascontiguousarray)

    def empty(self, shape: Any, dtype: Any) -> Any:
        return np.full(shape, 0.5, dtype)

    def empty_like(self, x: Any) -> Any:
        return np.full(x.shape, 0.5, x.dtype)


def both(attention: KernelAttention, spare: int = 0) -> tuple[Any, ...]:
    """Output and gradient of 3 heads of 4 features, with rubbish in rows that no sequence has."""
    packing = Packing.of(np.array(BATCHES["names"]), NUMPY)
    rows = packing.rows
    x, d = (np.full((rows + spare, size), np.nan) for size in (36, 12))
    x[:rows], d[:rows] = draw(1, rows, 36), draw(2, rows, 12)
    steps: Any = Spare(packing, 3) if spare else packing
    random = Random(2, "dropout").at(np.array([9], np.uint64) if spare else 9)
    out, found = attention.forward(x, 3, random, 0.4, steps)
    return out, attention.backward(d, found, steps)


def test_more_steps_and_rows_change_no_bit_and_no_order_of_the_threads_does() -> None:
    shim = CupyOnShim()
    attention = KernelAttention(np, shim.kernels)
    expected = both(attention)
    for shim.kernels.seed in range(3):
        for found, right in zip(both(attention, spare=200), expected, strict=True):
            np.testing.assert_array_equal(found[: len(right)], right)
            np.testing.assert_array_equal(found[len(right) :], 0)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("q[c] * scale * k[c];", "q[c] * scale * scale * k[c];"),
        ("weights[of.weight(i, j)] / sum :", "weights[of.weight(i, j)] :"),
        ("of.heads + of.head) * longest + i", "of.heads + of.head) * of.steps + i"),
        ("-= weights[of.weight(i, j)] * sum;", "-= sum;"),
        ("d_k += slopes[of.weight(j, i)]", "d_k += slopes[of.weight(i, j)]"),
        ("d_v += dropped[of.weight(j, i)]", "d_v += dropped[of.weight(i, j)]"),
        ("  }\n  __syncthreads();\n  for (int place = threadIdx.x; place < length * size; "
         "place += THREADS) {\n    int i = place / size, c = place % size;\n    REAL sum",
         "  }\n  for (int place = threadIdx.x; place < length * size; "
         "place += THREADS) {\n    int i = place / size, c = place % size;\n    REAL sum"),
        ("clear_spare(d_x, wide, rows, of);", ""),
    ],
)  # fmt: skip
def test_a_planted_mistake_is_caught(
    right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim, real = CupyOnShim(), ("-DREAL=double",)
    expected = both(KernelAttention(np, shim.kernels), spare=200)
    edits = ((right, wrong),)
    if not wrong:
        edits = ((right, "(void)rows;"),)
    made = compiled("attention.cu", tuple(declared("attention.cu", real)), real, edits)

    def broken(file: str, function: str, *options: str) -> Any:
        return lambda grid, block, arguments: made.launch(function, grid, block, arguments, seed=3)

    monkeypatch.setattr(shim.kernels, "get", broken)
    found = both(KernelAttention(Filled(), shim.kernels), spare=200)
    same = (np.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(found, expected, strict=True))
    assert not all(same)
