"""Poolings in kernels: on the CPU through the shim, against the array calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npnlp.backend import get_backend
from npnlp.backend.cuda.pooling import KernelPooling
from npnlp.layers import Packing
from npnlp.layers.pooling.attention import PackedSoftmax
from tests.support.cupy_on_shim import CupyOnShim, declared
from tests.support.reference import draw
from tests.support.shim import compiled

NUMPY = get_backend("numpy")
LENGTHS = np.array([300, 4, 4, 2, 1, 1])
BOUND = {"float32": 1e-6, "float64": 1e-14}


@pytest.fixture
def shim() -> CupyOnShim:
    return CupyOnShim()


class Spare:
    """A packing whose rows are fewer than the arrays have, as in captured steps."""

    def __init__(self, steps: int, shim: CupyOnShim) -> None:
        packing = Packing.of(LENGTHS, shim)
        self.rows = packing.rows
        runs = np.pad(packing.runs, ((0, 0), (0, steps)))
        runs[0, packing.runs.shape[1] :] = packing.rows
        self.on_device = (*np.ascontiguousarray(runs), len(LENGTHS), runs.shape[1])


def test_the_row_of_the_largest_number_is_numpys(shim: CupyOnShim, dtype: np.dtype[Any]) -> None:
    packing = Packing.of(LENGTHS, NUMPY)
    x = np.round(draw(1, packing.rows, 5), 1).astype(dtype)  # many are equal
    x[7, 1], x[250, 2], x[[3, 200], 3] = np.nan, np.inf, np.nan
    x[:, 4] = -np.inf
    expected = NUMPY.first_largest(x, packing)
    np.testing.assert_array_equal(shim.first_largest(x, packing), expected)
    spare: Any = Spare(3, shim)
    more = np.concatenate([x, np.full((9, 5), 100, dtype)])
    np.testing.assert_array_equal(
        KernelPooling(np, shim.kernels).first_largest(more, spare), expected
    )
    assert shim.kernels.launched == ["first_largest"] * 2


def test_softmax_over_steps_and_its_gradient(shim: CupyOnShim, dtype: np.dtype[Any]) -> None:
    """Rows of no sequence get zeros, whatever stands in them."""
    packing = Packing.of(LENGTHS, NUMPY)
    e, d_alpha = (3 * draw(k, packing.rows).astype(dtype) for k in (1, 2))
    expected = PackedSoftmax().forward(e, packing)
    d_expected = PackedSoftmax().backward(d_alpha, expected, packing)
    found = shim.step_softmax(dtype)
    assert found is not None
    spare: Any = Spare(3, shim)
    for steps, more in ((packing, 0), (spare, 400)):
        rubbish = np.full(more, 1e30, dtype)
        alpha = found.forward(np.concatenate([e, rubbish]), steps)
        d_e = found.backward(np.concatenate([d_alpha, rubbish]), alpha, steps)
        for one, right in ((alpha, expected), (d_e, d_expected)):
            bound = BOUND[dtype.name] * np.abs(right).max()
            assert np.abs(one[: packing.rows] - right).max() <= 30 * bound
            np.testing.assert_array_equal(one[packing.rows :], 0)
            assert one.dtype == dtype


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("now > top ||", "now >= top ||"),
        ("&& top == top;", ";"),
        ("alpha[offsets[t] + b] /= sum;", "alpha[offsets[t] + b] /= sum + 1;"),
        ("- alpha[row] * sum;", "- sum;"),
        ("sizes[steps - 1] + blockIdx", "sizes[steps - 1] + 1 + blockIdx"),
    ],
)
def test_a_planted_mistake_is_caught(
    shim: CupyOnShim, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(file: str, function: str, *options: str) -> Any:
        made = compiled(file, tuple(declared(file, options)), options, ((right, wrong),))
        return lambda grid, block, arguments: made.launch(function, grid, block, arguments)

    spare: Any = Spare(3, shim)
    x = np.round(draw(1, spare.rows + 9, 4), 1)
    x[[20, 30], 2] = np.nan
    found: list[Any] = []
    for get in (shim.kernels.get, broken):
        monkeypatch.setattr(shim.kernels, "get", get)
        pooling = KernelPooling(np, shim.kernels)
        alpha = pooling.forward(x[:, 0].copy(), spare)
        rows, d_e = pooling.first_largest(x, spare), pooling.backward(x[:, 3].copy(), alpha, spare)
        found.append(np.concatenate([rows.reshape(-1), alpha, d_e]))
    assert not np.allclose(found[0], found[1], rtol=1e-12, atol=0)
