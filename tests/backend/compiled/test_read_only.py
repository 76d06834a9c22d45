"""Inputs that are read-only, as memory-mapped ones are, compile nothing again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npnlp.backend import get_backend

pytest.importorskip("numba", reason="Numba is not installed")
pytest.importorskip("scipy", reason="SciPy, whose BLAS Numba calls, is not installed")
pytestmark = pytest.mark.peers


def frozen(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_sequences_to_predict(kind: Any) -> None:
    from npnlp.backend.compiled.inference import prefixes

    kernels: tuple[Any, ...] = prefixes.fill_keys, prefixes.radix_sort, prefixes.front_code
    lengths, tokens = np.array([3, 1, 2]), np.array([4, 5, 6, 4, 4, 5]).astype(kind)
    expected = prefixes.sort(tokens, lengths, 30, False)
    before = [len(kernel.signatures) for kernel in kernels]
    found = prefixes.sort(frozen(tokens), frozen(lengths), 30, False)
    assert [len(kernel.signatures) for kernel in kernels] == before
    np.testing.assert_array_equal(found.order, expected.order)
    np.testing.assert_array_equal(found.shared, expected.shared)


def test_batches_to_lay_out() -> None:
    from npnlp.backend.compiled import layout

    kernels: tuple[Any, ...] = layout.lay_out, layout.number
    backend = get_backend("numba")
    lengths, tokens = np.array([[3, 2]]), np.array([4, 5, 6, 4, 4, 5])
    starts = np.array([[0, 3]])
    where = backend.lay_out(lengths)
    numbered = backend.number(tokens, starts, where)
    before = [len(kernel.signatures) for kernel in kernels]
    again = backend.number(frozen(tokens), frozen(starts), backend.lay_out(frozen(lengths)))
    assert [len(kernel.signatures) for kernel in kernels] == before
    np.testing.assert_array_equal(again.numbers, numbered.numbers)
