"""Dot-product and multi-head attention: gradients, masks, PyTorch, and what a probe is shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Array, Backend, Random
from npnlp.errors import InputError
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.layers import FlatParameters, Packing
from npnlp.layers.attention.attention import AttentionTrace, MultiHeadAttention
from npnlp.layers.attention.dot_product import DotProductAttention, DotProductCache
from npnlp.training.optimizers import SGD
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
from tests.support.reference import BOUNDS, Floats, assert_close, draw, host, pack, pad, softmax

LENGTHS = np.array([3, 1, 4])


def make(embed: int, heads: int, backend: Backend = NUMPY, **options: Any) -> Any:
    made = MultiHeadAttention(embed, heads, dtype=np.float64, backend=backend, **options)
    return scrambled(made)


def run(layer: Any, x: Sequence[Floats], seeds: Sequence[Floats]) -> tuple[Outputs, Outputs]:
    data, packing = batch(x, layer.backend)
    y, cache = layer.forward(data, packing=packing)
    dy, _ = batch(seeds, layer.backend)
    return unbatch(y, packing), unbatch(layer.backward(dy, cache), packing)


@pytest.mark.parametrize("random", [None, Random(5, "mask")])
def test_dot_product_gradients(random: Random | None, backend: Backend) -> None:
    layer = DotProductAttention(0.3, dtype=np.float64, backend=backend)
    q, k, v = (backend.asarray(draw(seed, 3, 2, 4, 2)) for seed in range(3))
    report = check_gradients(layer, q, k, v, random, packing=Packing.of(LENGTHS, backend))
    assert report.passed, str(report)


def test_dot_product_equals_the_loops(backend: Backend, dtype: np.dtype[Any]) -> None:
    layer = DotProductAttention(dtype=dtype, backend=backend)
    q, k, v = (draw(seed, 3, 2, 4, 5).astype(dtype) for seed in range(3))
    packing = Packing.of(LENGTHS, backend)
    on_backend = [backend.asarray(a) for a in (q, k, v)]
    o, cache = layer.forward(on_backend[0], on_backend[1], on_backend[2], packing=packing)
    expected, weights = np.zeros((3, 2, 4, 5)), np.zeros((3, 2, 4, 4))
    for b, head, i in np.ndindex(3, 2, 4):
        if i < LENGTHS[b]:
            keys = range(LENGTHS[b])
            scores = [math.fsum(q[b, head, i] * k[b, head, j]) / math.sqrt(5) for j in keys]
            row = weights[b, head, i, : LENGTHS[b]] = softmax(np.array(scores))
            expected[b, head, i] = sum(row[j] * v[b, head, j] for j in keys)
    assert o.dtype == cache.weights.dtype == dtype
    assert_close(o, expected, BOUNDS[dtype.name], backend)
    assert_close(cache.weights, weights, BOUNDS[dtype.name], backend)


@pytest.mark.parametrize("scale", [1e3, 1e150])
def test_large_scores_stay_finite(scale: float) -> None:
    layer = DotProductAttention(dtype=np.float64)
    q, k, v = (draw(seed, 3, 2, 4, 5) for seed in range(3))
    packing = Packing.of(LENGTHS, NUMPY)
    o, cache = layer.forward(q * scale, -np.abs(k) * scale, v, packing=packing)
    assert np.isfinite(o).all()
    assert all(np.isfinite(d).all() for d in layer.backward(o, cache))
    sums = cache.weights.sum(axis=3)
    np.testing.assert_allclose(sums[np.nonzero(sums)], 1.0)


@pytest.mark.parametrize(("dropout", "random"), [(0.0, None), (0.4, Random(5, "mask"))])
@pytest.mark.parametrize("lengths", [[3, 1, 4], [2, 2], [1]])
def test_gradients(
    dropout: float, random: Random | None, lengths: list[int], backend: Backend
) -> None:
    layer = make(4, 2, backend, dropout=dropout)
    x = backend.asarray(draw(0, sum(lengths), 4))
    packing = Packing.of(np.array(lengths), backend)
    report = check_gradients(layer, x, random, packing=packing)
    assert report.passed, str(report)


def test_gradients_by_central_difference() -> None:
    packing = Packing.of(LENGTHS, NUMPY)
    report = check_gradients(make(6, 3), draw(0, 8, 6), packing=packing, method="central")
    assert report.passed, str(report)


def test_adjoint_at_full_size() -> None:
    packing = Packing.of(np.array([700, 1024]), NUMPY)
    layer = make(16, 2)
    report = check_adjoint(layer, 2 * draw(0, packing.rows, 16), packing=packing)
    assert report.passed, str(report)


def test_other_sequences_change_nothing(backend: Backend) -> None:
    assert dependence(run, make(6, 2, backend), 6) < 1e-12


def test_weights_are_zero_past_the_end(backend: Backend) -> None:
    layer, packing = make(6, 2, backend), Packing.of(LENGTHS, backend)
    _, cache = layer.forward(backend.asarray(draw(0, 8, 6)), packing=packing)
    weights = backend.to_numpy(cache.weights)
    assert weights.shape == (3, 2, 4, 4)
    for b, length in enumerate(LENGTHS):
        inside = weights[b, :, :length, :length]
        np.testing.assert_allclose(inside.sum(axis=-1), 1.0, rtol=1e-14)
        assert inside.all()
        assert not weights[b, :, length:].any()
        assert not weights[b, :, :, length:].any()


def test_float32_stays_float32(backend: Backend) -> None:
    layer = MultiHeadAttention(6, 2, dropout=0.5, backend=backend)
    x = backend.asarray(draw(0, 8, 6).astype(np.float32))
    y, cache = layer.forward(x, Random(0), packing=Packing.of(LENGTHS, backend))
    assert y.dtype == layer.backward(y, cache).dtype == cache.weights.dtype == np.float32
    assert all(grad.dtype == np.float32 for grad in layer.grads.values())


def test_first_values_are_those_of_pytorch() -> None:
    weights = MultiHeadAttention(40, 4, dtype=np.float64).parameters
    assert {name: value.shape for name, value in weights.items()} == {
        "in_proj_weight": (120, 40), "in_proj_bias": (120,),
        "out_proj.weight": (40, 40), "out_proj.bias": (40,),
    }  # fmt: skip
    for name, bound in (("in_proj_weight", math.sqrt(6 / 160)), ("out_proj.weight", 1 / 40**0.5)):
        assert 0.98 * bound < np.abs(weights[name]).max() < bound
        assert abs(weights[name].std() / (bound / math.sqrt(3)) - 1) < 0.05
    assert not weights["in_proj_bias"].any()
    assert not weights["out_proj.bias"].any()


@pytest.mark.parametrize("heads", [0, -1, 4, 7])
def test_heads_have_to_divide_the_size(heads: int) -> None:
    with pytest.raises(InputError, match=f"num_heads is {heads}; it has to be a whole"):
        MultiHeadAttention(6, heads)


def test_rows_of_another_packing_are_refused() -> None:
    with pytest.raises(InputError, match="x has 5 rows for a packing of 8 rows"):
        make(6, 2).forward(draw(0, 5, 6), packing=Packing.of(LENGTHS, NUMPY))


def test_a_probe_sees_the_gradient_of_every_head(backend: Backend) -> None:
    layer, packing = make(6, 3, backend), Packing.of(LENGTHS, backend)
    x, dy = backend.asarray(draw(0, 8, 6)), backend.asarray(draw(1, 8, 6))
    _, cache = layer.forward(x, packing=packing)
    plain = backend.to_numpy(layer.backward(dy, cache))
    traces: list[AttentionTrace] = []
    probed = backend.to_numpy(layer.backward(dy, cache, traces.append))
    np.testing.assert_array_equal(plain, probed)
    (trace,) = traces
    assert trace.cache is cache
    assert trace.layer == 0
    w_out = backend.to_numpy(layer.parameters["out_proj.weight"])
    assert_close(trace.d_heads, (draw(1, 8, 6) @ w_out).reshape(8, 3, 2), backend=backend)


def test_two_updates_through_one_buffer(backend: Backend) -> None:
    layer = make(6, 2, backend)
    updates = SGD(FlatParameters({"attention": layer}, backend), backend, 0.002)
    x, packing = backend.asarray(draw(0, 8, 6)), Packing.of(LENGTHS, backend)
    losses = []
    for _ in range(3):
        before = host(backend, layer.parameters)
        y, cache = layer.forward(x, packing=packing)
        losses.append(float((y * y).sum()))
        layer.zero_grads()
        layer.backward(2 * y, cache)
        grads = host(backend, layer.grads)
        updates.step()
        for name, value in host(backend, layer.parameters).items():
            assert_close(value, before[name] - 0.002 * grads[name])
    assert losses[0] > losses[1] > losses[2]


def assert_attention(
    o: dict[str, Any],
    backend: Backend,
    kind: str = "float64",
    make: Callable[..., MultiHeadAttention] = MultiHeadAttention,
) -> None:
    lengths, bound = o["lengths"].tolist(), BOUNDS[kind]
    layer = make(o["x"].shape[2], o["weights"].shape[1], backend=backend, dtype=kind)
    set_parameters(layer, o)
    x = backend.asarray(pack(o["x"], lengths).astype(kind))
    y, cache = layer.forward(x, packing=Packing.of(o["lengths"], backend))
    assert_close(backend.to_numpy(y), pack(o["y"], lengths), bound, floor=1.0)
    weights = backend.to_numpy(cache.weights)
    for b, length in enumerate(lengths):
        assert_close(weights[b, :, :length], o["weights"][b, :, :length], bound)
    d_x = layer.backward(backend.asarray(pack(o["dy"], lengths).astype(kind)), cache)
    assert_close(pad(backend.to_numpy(d_x), lengths), o["d_x"], bound, floor=1.0)
    assert_gradients(layer, o, bound)


def test_stored(backend: Backend, dtype: np.dtype[Any]) -> None:
    assert_attention(stored("attention"), backend, dtype.name)


@pytest.mark.peers
@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=5),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    seed=st.integers(0, 2**30),
)
def test_live(lengths: list[int], sizes: tuple[int, int], seed: int) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from tests.oracles.attention import make_oracles

    assert_attention(make_oracles.attention(seed, lengths, *sizes), NUMPY)


@pytest.mark.peers
def test_the_stored_numbers_are_those_of_their_script() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from tests.oracles.attention import make_oracles

    for name, arrays in make_oracles.all_oracles().items():
        expected = stored(name)
        assert expected.keys() == arrays.keys()
        for key, value in arrays.items():
            assert_close(value, expected[key], floor=1.0)


class WithoutMask(DotProductAttention):
    """Lets every step look at padding too: a right gradient of a wrong function."""

    def forward(self, q: Array, k: Array, v: Array, random: Any = None, *, packing: Packing) -> Any:
        batch, _, steps, _ = q.shape
        return super().forward(q, k, v, random, packing=Packing.of(np.full(batch, steps), NUMPY))


def test_a_dropped_mask_is_caught() -> None:
    layer = make(6, 2)
    layer.attention = WithoutMask(dtype=np.float64)
    x, packing = draw(0, 8, 6), Packing.of(LENGTHS, NUMPY)
    assert check_gradients(layer.attention, *(draw(s, 3, 2, 4, 3) for s in range(3)),
                           packing=packing).passed  # fmt: skip
    assert np.isfinite(layer.forward(x, packing=packing)[0]).all()
    assert dependence(run, layer, 6) > 1e-3
    with pytest.raises(AssertionError, match="relative error"):
        assert_attention(stored("attention"), NUMPY, make=lambda *sizes, **options: layer)


class WithoutSoftmaxSum(DotProductAttention):
    """Drops the second term of the softmax's derivative."""

    def backward(self, d_o: Array, cache: DotProductCache) -> tuple[Array, Array, Array]:
        d_q, d_k, d_v = super().backward(d_o, cache)
        d_s = cache.weights * np.matmul(d_o, cache.v.swapaxes(2, 3))
        missing = cache.weights * d_s.sum(axis=3, keepdims=True) / math.sqrt(cache.q.shape[3])
        return d_q + missing @ cache.k, d_k + missing.swapaxes(2, 3) @ cache.q, d_v


class WithoutScale(DotProductAttention):
    """Forgets 1 / sqrt(d) on the way back."""

    def backward(self, d_o: Array, cache: DotProductCache) -> tuple[Array, Array, Array]:
        d_q, d_k, d_v = super().backward(d_o, cache)
        root = math.sqrt(cache.q.shape[3])
        return root * d_q, root * d_k, d_v


class DropoutOnTheWrongSide(DotProductAttention):
    """Uses the weights before dropout for the values."""

    def backward(self, d_o: Array, cache: DotProductCache) -> tuple[Array, Array, Array]:
        d_q, d_k, _ = super().backward(d_o, cache)
        return d_q, d_k, np.matmul(cache.weights.swapaxes(2, 3), d_o)


@pytest.mark.parametrize("mistake", [WithoutSoftmaxSum, WithoutScale, DropoutOnTheWrongSide])
def test_planted_mistakes_are_caught(mistake: type[DotProductAttention]) -> None:
    inputs = (*(draw(seed, 3, 2, 4, 3) for seed in range(3)), Random(5, "mask"))
    packing = Packing.of(LENGTHS, NUMPY)
    layer = mistake(0.3, dtype=np.float64)
    assert not check_gradients(layer, *inputs, packing=packing).passed
    assert not check_adjoint(layer, *inputs, packing=packing).passed
    whole = make(6, 2)
    whole.sublayers[1] = ("attention", layer)
    whole.attention = layer
    x = draw(0, 8, 6)
    assert not check_gradients(whole, x, Random(5, "mask"), packing=packing).passed
