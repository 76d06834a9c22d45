"""The GRU with its reset before: its kernels, on the CPU through the shim, against NumPy's loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npnlp.backend import get_backend
from npnlp.backend.operations import Weights
from npnlp.layers import Packing
from tests.support.cupy_on_shim import CupyOnShim, declared
from tests.support.reference import draw
from tests.support.shim import compiled

NUMPY = get_backend("numpy")
KIND = "gru_reset_before"
BOUND = {"float32": 1e-5, "float64": 1e-12}


class Spare:
    """A packing with steps that have no rows, and more rows than the steps have."""

    def __init__(self, packing: Packing, steps: int, rows: int) -> None:
        runs = np.pad(packing.runs, ((0, 0), (0, steps)))
        runs[0, packing.runs.shape[1] :] = packing.rows
        self.on_device = (*np.ascontiguousarray(runs), len(packing.lengths), runs.shape[1])
        more = np.zeros(rows, np.int64)
        self.previous_rows = np.concatenate([packing.previous_rows, more])


def results(
    backend: Any, size: int, lengths: list[int], dtype: Any, *, given: bool, above: bool,
    spare: int = 0,
) -> list[Any]:  # fmt: skip
    """Everything that both passes give, without the rows that no step has."""
    packing = Packing.of(np.array(lengths), NUMPY)
    rows, batch = packing.rows, len(lengths)
    shapes = (3 * size, 5), (3 * size, size), (3 * size,), (3 * size,)
    weights, grads = (
        Weights(*(draw(10 * of + k, *s).astype(dtype) / 3 for k, s in enumerate(shapes)))
        for of in (1, 2)
    )
    x = np.zeros((rows + spare, 5), dtype)
    x[:rows] = draw(3, rows, 5)
    initial = (draw(4, batch, size).astype(dtype),) if given else None
    d_hidden = np.full((rows + spare, size), np.nan, dtype)
    d_hidden[:rows] = draw(5, rows, size)
    steps: Any = Spare(packing, 2, spare) if spare else packing
    passes = backend.recurrent_passes(KIND, size, np.dtype(dtype))
    found = passes.forward(x, weights, initial, steps)
    d_last = (draw(6, batch, size).astype(dtype),)
    back = passes.backward(
        d_hidden if above else None, d_last, found, x, weights, grads, initial, steps, traced=True
    )
    for array in (*found.states, found.memory[1], back.d_u, back.d_x):
        np.testing.assert_array_equal(array[rows:], 0)
    packed = [found.states[0], back.d_x, back.d_states[0], back.d_u]
    initials = [back.d_initial[0]] if given else []
    return [*[array[:rows] for array in packed], *initials, *grads]


def close(found: list[Any], expected: list[Any], bound: float) -> None:
    for one, right in zip(found, expected, strict=True):
        assert one.dtype == right.dtype
        assert np.abs(one - right).max() <= bound * max(1, np.abs(right).max())


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize(
    ("size", "lengths"), [(1, [1]), (13, [9, 4, 4, 1]), (45, [5] * 30 + [3] * 9)]
)
def test_both_passes_are_numpys(
    size: int, lengths: list[int], given: bool, above: bool, dtype: np.dtype[Any]
) -> None:
    case: Any = {"given": given, "above": above}
    expected = results(NUMPY, size, lengths, dtype, **case)
    shim = CupyOnShim()
    close(results(shim, size, lengths, dtype, **case), expected, BOUND[dtype.name])
    assert {"reset_gates", "new_state", "undo_new_state", "undo_reset"} <= set(
        shim.kernels.launched
    )
    with shim.xp.own_products():
        close(results(shim, size, lengths, dtype, **case, spare=70), expected, BOUND[dtype.name])


def test_no_order_of_the_threads_changes_a_bit() -> None:
    shim = CupyOnShim()
    found = []
    for shim.kernels.seed in range(3):
        found.append(results(shim, 40, [3, 2, 2], np.float32, given=True, above=True))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("n + z * (h - n);  // (4)", "h + z * (h - n);"),
        ("sigma * before[", "before["),
        ("* reset[place] * (1 - r)", "* reset[place]"),
        ("+= sums[i][j] * r;", "+= sums[i][j];"),
        ("w_hh + 2LL * size * size, 1, size", "w_hh + 1LL * size * size, 1, size"),
        ("int later = t + 1 < steps ? sizes[t + 1] : 0;", "int later = sizes[t < 0 ? 0 : t];"),
        ("if (t == 0) clear_spare(delta,", "if (t == 9) clear_spare(delta,"),
    ],
)
def test_a_planted_mistake_is_caught(
    right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = CupyOnShim()
    get, source, real = shim.kernels.get, "gru_reset_before.cu", ("-DREAL=double",)
    made = compiled(source, tuple(declared(source, real)), real, ((right, wrong),))

    def broken(file: str, function: str, *options: str) -> Any:
        if file != source:
            return get(file, function, *options)
        return lambda grid, block, arguments: made.launch(function, grid, block, arguments, seed=3)

    monkeypatch.setattr(shim.kernels, "get", broken)
    expected = results(NUMPY, 13, [5, 4, 4, 1], np.float64, given=True, above=True)
    with pytest.raises(AssertionError), shim.xp.own_products():  # noqa: PT012
        monkeypatch.setattr(shim.xp, "empty", lambda s, dtype=float: np.full(s, 0.5, dtype))
        found = results(shim, 13, [5, 4, 4, 1], np.float64, given=True, above=True, spare=70)
        close(found, expected, 1e-6)
