"""Batches with a long tail, piece by piece, against the same batches whole."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend, Random, get_backend
from npnlp.backend.operations import LookedUp
from npnlp.layers import CELLS, Packing
from npnlp.layers.recurrent import pieces
from npnlp.layers.recurrent.pieces import pieces_of
from npnlp.layers.recurrent.recurrent import Recurrent
from tests.support.reference import Floats, assert_close, draw, host

NUMPY = get_backend("numpy")
LENGTHS = [3, 2, 40, 3, 1, 2, 3, 2, 3, 3, 2, 1, 3, 2, 1, 23]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "ROWS", 7)


def packed(lengths: list[int], backend: Backend = NUMPY) -> Packing:
    return Packing.of(np.array(lengths), backend)


def test_pieces_follow_one_another() -> None:
    packing = packed(LENGTHS)
    found = pieces_of(packing)
    assert len(found) > 3
    assert found[0].before is None
    ends = [0, *(piece.rows.stop for piece in found)]
    assert [piece.rows.start for piece in found] == ends[:-1]
    assert ends[-1] == packing.rows
    assert all(piece.packing.rows <= 7 for piece in found[1:])
    previous = np.concatenate([np.full(len(LENGTHS), -1), packing.previous_rows])
    for piece in found[1:]:
        assert piece.before is not None
        first = previous[piece.rows][: len(piece.packing.lengths)]
        np.testing.assert_array_equal(first, np.arange(piece.before.start, piece.before.stop))


@pytest.mark.parametrize("lengths", [[7], [40] * 20, [9] * 15 + [12], [5, 12], [40, 40, 42]])
def test_without_a_long_tail_there_are_no_pieces(lengths: list[int]) -> None:
    assert not pieces_of(packed(lengths))


@pytest.mark.parametrize("lengths", [[8], [40], [5, 40], [2] * 7 + [40]])
def test_a_single_sequence_may_be_the_tail(lengths: list[int]) -> None:
    assert pieces_of(packed(lengths))


def passes(
    layer: Recurrent, x: Any, packing: Packing, initial: bool, whole: bool, probe: Any = None
) -> dict[str, Floats]:
    """All that both passes return and add."""
    backend, shape = layer.backend, (len(packing.lengths), layer.hidden_size)
    given = [draw(5 + k, *shape) for k in range(len(layer.states))] if initial else []
    layer.zero_grads()
    found, cache = layer.forward(x, *map(backend.asarray, given), packing=packing, whole=whole)
    d = [draw(9, packing.rows, layer.hidden_size), *(draw(7, *shape) for _ in layer.states)]
    d_x, *d_initial = layer.backward(tuple(map(backend.asarray, d)), cache, probe)
    arrays = {f"y{k}": y for k, y in enumerate(found)} | {"d_x": d_x, **layer.grads}
    arrays |= {f"d{k}": one for k, one in enumerate(d_initial) if one is not None}
    return host(backend, {name: value.copy() for name, value in arrays.items()})


@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("looked_up", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_they_are_the_passes_of_the_whole(
    cell: str, looked_up: bool, initial: bool, backend: Backend
) -> None:
    layer = CELLS[cell](3, 4, backend=backend, dtype=np.float64, random=Random(3))
    packing = packed(LENGTHS, backend)
    x: Any = backend.asarray(draw(1, 5 if looked_up else packing.rows, 3))
    if looked_up:
        tokens = np.random.default_rng(2).integers(0, 5, packing.rows)
        x = LookedUp(x, backend.asarray(tokens))
    found = passes(layer, x, packing, initial, False)
    traced: list[Any] = []
    shown = passes(layer, x, packing, initial, False, traced.append)
    expected = passes(layer, x, packing, initial, True)
    of_whole: list[Any] = []
    passes(layer, x, packing, initial, True, of_whole.append)
    for other in (found, shown):
        assert other.keys() == expected.keys()
        for name, value in expected.items():
            assert_close(other[name], value, floor=1.0)
    for name in ("d_hidden", "delta"):
        one, other = (getattr(seen[0], name) for seen in (traced, of_whole))
        assert_close(one, backend.to_numpy(other), backend=backend)
    assert len(traced[0].cache.memory) == len(of_whole[0].cache.memory)


def test_a_long_name_costs_little_more_than_its_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "ROWS", 500)
    lengths, units = [*([5] * 30), 10_000], 32
    layer = CELLS["gru"](3, units, backend=NUMPY, dtype=np.float32, random=Random(3))
    packing = packed(lengths)
    x = draw(1, packing.rows, 3).astype(np.float32)

    def most(whole: bool) -> float:
        tracemalloc.start()
        (_, last), cache = layer.forward(x, packing=packing, whole=whole)
        layer.backward((None, last), cache)
        try:
            return tracemalloc.get_traced_memory()[1] / (packing.rows * units * 4)
        finally:
            tracemalloc.stop()

    assert most(whole=False) < 3  # of the size of all states
    assert most(whole=True) > 8
