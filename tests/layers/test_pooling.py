"""Poolings against loops, PyTorch and themselves in other batches."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from npnlp.backend import Array, Backend
from npnlp.errors import InputError
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.layers import FlatParameters, Packing
from npnlp.layers.pooling.attention import AttentionPooling, AttentionPoolingCache
from npnlp.layers.pooling.by_name import POOLINGS
from npnlp.layers.pooling.per_sequence import spread, total
from npnlp.layers.pooling.plain import MaxPooling, MeanPooling, MeanPoolingCache, Pooling
from npnlp.training.optimizers import Adam
from tests.support.cupy_on_shim import CupyOnShim
from tests.support.packed import (
    NUMPY,
    Outputs,
    assert_gradients,
    batch,
    dependence,
    scrambled,
    set_parameters,
    stored,
    unbatch,
)
from tests.support.reference import BOUNDS, Floats, assert_close, draw, pack, pad, softmax

LENGTHS = np.array([3, 1, 5, 5, 2])
OF_STATES = ["mean", "max", "attention"]
each_pooling = pytest.mark.parametrize("name", OF_STATES)


def make(name: str, features: int, backend: Backend, kind: Any = np.float64) -> Any:
    return scrambled(POOLINGS[name](features, dtype=kind, backend=backend))


def run(layer: Any, x: Sequence[Floats], seeds: Sequence[Floats]) -> tuple[Outputs, Outputs]:
    hidden, packing = batch(x, layer.backend)
    h_last = hidden.take(packing.last_rows, axis=0)
    y, cache = layer.forward(hidden, h_last, packing=packing)
    dy = layer.backend.asarray(np.array([seed[0] for seed in seeds]))
    d_hidden, d_last = layer.backward(dy, cache)
    if d_hidden is None:
        return list(layer.backend.to_numpy(y)), list(layer.backend.to_numpy(d_last))
    return list(layer.backend.to_numpy(y)), unbatch(d_hidden, packing)


@each_pooling
@pytest.mark.parametrize("method", ["complex", "central"])
def test_gradients(name: str, method: str, backend: Backend) -> None:
    packing = Packing.of(LENGTHS, backend)
    x, last = backend.asarray(draw(0, 16, 3)), backend.asarray(draw(1, 5, 3))
    layer = make(name, 3, backend)
    report = check_gradients(layer, x, method=method, h_last=last, packing=packing)
    assert report.passed, str(report)


@each_pooling
def test_adjoint_at_full_size(name: str, backend: Backend) -> None:
    packing = Packing.of(np.array([700, 1024, 1, 513]), backend)
    x, last = backend.asarray(draw(0, packing.rows, 16)), backend.asarray(draw(1, 4, 16))
    report = check_adjoint(make(name, 16, backend), x, h_last=last, packing=packing)
    assert report.passed, str(report)


def test_last_is_the_last_state_itself(backend: Backend) -> None:
    layer = POOLINGS["last"](3, backend=backend)
    last, dy = backend.asarray(draw(0, 5, 3)), backend.asarray(draw(1, 5, 3))
    hidden = backend.asarray(draw(2, 16, 3))
    y, cache = layer.forward(hidden, last, packing=Packing.of(LENGTHS, backend))
    assert y is last
    d_hidden, d_last = layer.backward(dy, cache)
    assert d_hidden is None
    assert d_last is dy


def pooled(name: str, h: Floats, weights: dict[str, Floats]) -> list[float]:
    """One sequence ``(L, D)``, one feature at a time."""
    features = range(h.shape[1])
    if name == "mean":
        return [math.fsum(h[:, d]) / len(h) for d in features]
    if name == "max":
        return [max(h[:, d]) for d in features]
    scores = []
    for state in h:
        u = [
            math.tanh(weights["bias"][i] + math.fsum(weights["weight"][i] * state))
            for i in features
        ]
        scores.append(math.fsum(weights["context"] * u))
    alpha = softmax(np.array(scores))
    return [math.fsum(a * state[d] for a, state in zip(alpha, h, strict=True)) for d in features]


@each_pooling
def test_equals_the_loops(name: str, backend: Backend, dtype: np.dtype[Any]) -> None:
    layer = make(name, 4, backend, dtype)
    weights = {key: backend.to_numpy(value) for key, value in layer.parameters.items()}
    x = [draw(b, length, 4).astype(dtype) for b, length in enumerate(LENGTHS)]
    hidden, packing = batch(x, backend)
    hidden = hidden.astype(dtype)
    last = hidden.take(packing.last_rows, axis=0)
    y, cache = layer.forward(hidden, last, packing=packing)
    d_hidden, d_last = layer.backward(y, cache)
    assert d_last is None
    assert y.dtype == d_hidden.dtype == dtype
    assert_close(y, [pooled(name, h, weights) for h in x], BOUNDS[dtype.name], backend)


@pytest.mark.parametrize("name", POOLINGS)
def test_other_sequences_change_nothing(name: str, backend: Backend) -> None:
    assert dependence(run, make(name, 4, backend), 4) < 1e-12


def test_max_gives_the_gradient_to_the_first_of_equals(backend: Backend) -> None:
    x = np.array([[[1.0, 5.0], [0.0, 0.0]], [[3.0, 5.0], [9.0, 9.0]], [[3.0, 5.0], [9.0, 9.0]]])
    lengths = [3, 1]  # what is 9 in the second sequence is padding
    packing, layer = Packing.of(np.array(lengths), backend), MaxPooling(2, backend=backend)
    hidden = backend.asarray(pack(x, lengths))
    y, cache = layer.forward(hidden, hidden, packing=packing)
    assert backend.to_numpy(y).tolist() == [[3, 5], [0, 0]]
    d_hidden, _ = layer.backward(backend.asarray(np.array([[1.0, 2.0], [3.0, 4.0]])), cache)
    d_x = pad(backend.to_numpy(d_hidden), lengths)
    assert d_x.tolist() == [[[0, 2], [3, 4]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]]


@pytest.mark.parametrize("lengths", [LENGTHS, np.array([1]), np.array([40, 1, 1, 2, 1, 3, 1])])
def test_the_first_largest_is_that_of_padded_steps(
    lengths: NDArray[np.int64], backend: Backend
) -> None:
    packing = Packing.of(lengths, NUMPY)
    x = np.random.default_rng(0).integers(-2, 3, (packing.rows, 50)).astype(np.float64)
    x[::5, 3], x[::3, 4], x[::4, 5], x[:, 6] = np.nan, np.inf, -np.inf, -np.inf
    x[::2, 7:][x[::2, 7:] == 0] = -0.0
    padded = np.full((len(packing.runs[0]), len(lengths), 50), -np.inf)
    padded[packing.steps, packing.places] = x
    expected = packing.runs[0].take(padded.argmax(axis=0)) + np.arange(len(lengths))[:, None]
    for each in (backend, CupyOnShim()):
        found = each.first_largest(each.asarray(x), Packing.of(lengths, each))
        np.testing.assert_array_equal(each.to_numpy(found), expected)


@pytest.mark.parametrize("name", OF_STATES)
def test_one_long_sequence_makes_no_padding(name: str) -> None:
    packing = Packing.of(np.array([5_000, *[7] * 63]), NUMPY)
    x, layer = draw(0, packing.rows, 16), make(name, 16, NUMPY)
    _ = packing.steps, packing.places, packing.offsets, packing.batch_sizes  # they are kept
    tracemalloc.start()
    try:
        y, cache = layer.forward(x, x[: len(packing.lengths)], packing=packing)
        layer.backward(y, cache)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * x.nbytes  # padded, it would be 58 for each array


def test_weights_of_attention_sum_to_one_and_stay_finite(backend: Backend) -> None:
    layer = make("attention", 4, backend)
    layer.parameters["context"] *= 1e4
    hidden = backend.asarray(draw(0, 16, 4))
    packing = Packing.of(LENGTHS, backend)
    _, cache = layer.forward(hidden, hidden, packing=packing)
    alpha = unbatch(cache.alpha[:, None], packing)
    assert all(abs(weights.sum() - 1) < 1e-12 for weights in alpha)
    assert max(weights.max() for weights in alpha) > 0.9


def test_spread_and_total_are_each_others_transpose(backend: Backend) -> None:
    packing = Packing.of(LENGTHS, backend)
    rows, data = draw(0, 5, 3), draw(1, 16, 3)
    direct = (backend.to_numpy(spread(backend.asarray(rows), packing)) * data).sum()
    transposed = (rows * backend.to_numpy(total(backend.asarray(data), packing))).sum()
    assert abs(direct - transposed) < 1e-12


def test_two_updates_through_one_buffer(backend: Backend) -> None:
    layer = make("attention", 4, backend)
    flat = FlatParameters({"pool": layer}, backend)
    updates = Adam(flat, backend, 0.1)
    packing, hidden = Packing.of(LENGTHS, backend), backend.asarray(draw(0, 16, 4))
    losses = []
    for _ in range(3):
        y, cache = layer.forward(hidden, hidden, packing=packing)
        losses.append(float(y.sum()))
        layer.zero_grads()
        layer.backward(backend.asarray(np.ones((5, 4))), cache)
        updates.step()
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("name", OF_STATES)
def test_rows_of_another_packing_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="hidden has 4 rows for a packing of 16 rows"):
        POOLINGS[name](3).forward(draw(0, 4, 3), draw(0, 5, 3), packing=Packing.of(LENGTHS, NUMPY))


def assert_pooling(name: str, o: dict[str, Any], backend: Backend) -> None:
    lengths = o["lengths"].tolist()
    layer = make(name, o["x"].shape[2], backend)
    set_parameters(layer, o)
    hidden = backend.asarray(pack(o["x"], lengths))
    y, cache = layer.forward(hidden, hidden, packing=Packing.of(o["lengths"], backend))
    assert_close(y, o["y"], backend=backend, floor=1.0)
    d_hidden, _ = layer.backward(backend.asarray(o["dy"]), cache)
    assert_close(pad(backend.to_numpy(d_hidden), lengths), o["d_x"], floor=1.0)
    assert_gradients(layer, o)


@each_pooling
def test_stored(name: str, backend: Backend) -> None:
    assert_pooling(name, stored(f"pooling_{name}"), backend)


@pytest.mark.peers
@each_pooling
@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=5),
    size=st.integers(1, 6),
    seed=st.integers(0, 2**30),
)
def test_live(name: str, lengths: list[int], size: int, seed: int) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from tests.oracles.attention import make_oracles

    assert_pooling(name, make_oracles.pooling(name, seed, lengths, size), NUMPY)


class WithoutSoftmaxSum(AttentionPooling):
    """Takes each weight's own share of the softmax's derivative only."""

    def backward(self, dy: Array, cache: AttentionPoolingCache) -> tuple[Array, None]:
        d_hidden, _ = super().backward(dy, cache)
        d_alpha = (spread(dy, cache.packing) * cache.hidden).sum(axis=1)
        mean = spread(total((cache.alpha * d_alpha)[:, None], cache.packing), cache.packing)
        missing = (cache.alpha[:, None] * mean) * self.parameters["context"]
        missing = missing * (1 - cache.u * cache.u)
        self.grads["bias"] += missing.sum(axis=0)
        return d_hidden + missing @ self.parameters["weight"], None


class MeanOfTheLongest(MeanPooling):
    """Divides by the number of steps of the longest sequence."""

    def backward(self, dy: Array, cache: MeanPoolingCache) -> tuple[Array, None]:
        return spread(dy / len(cache.packing.batch_sizes), cache.packing), None


class SortedOrder(MeanPooling):
    """Takes the caller's rows for sorted ones."""

    def backward(self, dy: Array, cache: MeanPoolingCache) -> tuple[Array, None]:
        return (dy * cache.scale).take(cache.packing.places, axis=0), None


@pytest.mark.parametrize("mistake", [WithoutSoftmaxSum, MeanOfTheLongest, SortedOrder])
def test_planted_mistakes_are_caught(mistake: type[Pooling]) -> None:
    layer: Any = scrambled(mistake(3, dtype=np.float64))
    inputs: Any = {"h_last": draw(1, 5, 3), "packing": Packing.of(LENGTHS, NUMPY)}
    assert not check_gradients(layer, draw(0, 16, 3), **inputs).passed
    assert not check_adjoint(layer, draw(0, 16, 3), **inputs).passed
