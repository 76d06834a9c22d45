"""Attention in parts: the numbers of the whole, and the memory of a part."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npnlp.backend import Backend, Random
from npnlp.errors import InputError
from npnlp.gradients.heads import head_flow
from npnlp.layers import Packing
from npnlp.layers.attention import parts
from npnlp.layers.attention.attention import AttentionTrace, MultiHeadAttention
from npnlp.layers.attention.parts import QueriesCache, parts_of
from tests.support.packed import NUMPY, scrambled
from tests.support.reference import assert_close, draw

LENGTHS = np.array([3, 9, 1, 5, 4, 9, 2])


def results(
    lengths: NDArray[np.int64], backend: Backend, random: Random | None = None, dropout: float = 0
) -> tuple[list[Any], Any, list[AttentionTrace]]:
    layer = scrambled(MultiHeadAttention(4, 2, dropout=dropout, dtype=np.float64, backend=backend))
    packing, traces = Packing.of(lengths, backend), list[AttentionTrace]()
    x, dy = (backend.asarray(draw(seed, packing.rows, 4)) for seed in (0, 1))
    y, cache = layer.forward(x, random, packing=packing)
    d_x = layer.backward(dy, cache, traces.append)
    return [y, d_x, *layer.grads.values()], cache, traces


def set_limits(patch: pytest.MonkeyPatch, most: int) -> None:
    patch.setattr(parts, "WHOLE", most)
    patch.setattr(parts, "MOST_WEIGHTS", most)


@pytest.mark.parametrize("most", [1, 60, 2 * 9 * 9, 400])
def test_parts_have_the_numbers_of_the_whole(
    most: int, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _, (whole,) = results(LENGTHS, backend)
    set_limits(monkeypatch, most)
    found, cache, (trace,) = results(LENGTHS, backend)
    assert len(cache.parts) > 1
    assert isinstance(cache.heads[0], QueriesCache) == (most < 2 * 9 * 9)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, backend.to_numpy(other), 1e-12, backend)
    np.testing.assert_allclose(head_flow(trace).attention, head_flow(whole).attention, 1e-12)
    with pytest.raises(InputError, match="the weights of long sequences are not kept"):
        _ = cache.weights


def test_backward_drops_what_forward_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """By central differences along a direction, with the same stream."""
    set_limits(monkeypatch, 60)
    layer = scrambled(MultiHeadAttention(4, 2, dropout=0.4, dtype=np.float64, backend=NUMPY))
    packing, random = Packing.of(LENGTHS, NUMPY), Random(3, "drop")
    x, dy, way = (draw(seed, packing.rows, 4) for seed in range(3))

    def loss(step: float) -> float:
        return float((layer.forward(x + step * way, random, packing=packing)[0] * dy).sum())

    _, cache = layer.forward(x, random, packing=packing)
    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    assert (layer.backward(dy, cache) * way).sum() == pytest.approx(slope, rel=1e-7)
    plain, _ = layer.forward(x, packing=packing)
    assert np.abs(layer.forward(x, random, packing=packing)[0] - plain).max() > 1e-3


def test_each_sequence_is_in_one_part() -> None:
    lengths = np.array([2_000, 700, 600, *[300] * 40, *[7] * 2_000])
    packing = Packing.of(lengths, NUMPY)
    found = parts_of(packing, 4)
    rows = np.concatenate([np.asarray(part.rows) for part in found])
    assert sorted(rows.tolist()) == list(range(packing.rows))
    assert np.concatenate([part.packing.lengths for part in found]).tolist() == lengths.tolist()
    for part in found:
        batch, longest = len(part.packing.lengths), int(part.packing.lengths[0])
        assert batch * 4 * longest * part.queries <= parts.MOST_WEIGHTS
        assert batch == 1 or part.queries == longest
    (whole,) = parts_of(Packing.of(np.full(512, 40), NUMPY), 4)
    assert whole.rows == slice(None)


def test_a_long_sequence_has_no_square_of_weights() -> None:
    layer = MultiHeadAttention(8, 2, dropout=0.1, backend=NUMPY)
    packing = Packing.of(np.array([3_000, *[9] * 30]), NUMPY)
    x = draw(0, packing.rows, 8).astype(np.float32)
    tracemalloc.start()
    try:
        y, cache = layer.forward(x, Random(0), packing=packing)
        layer.backward(y, cache)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 4 * parts.MOST_WEIGHTS
    assert peak < 3_000**2 * 2 * 4 / 2
